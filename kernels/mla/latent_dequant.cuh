// Codes of the quantised caches of sparse MLA as bf16, for loaders that have no instruction to spare: an e4m3 code's
// bits are moved to where a bf16 has them, which makes it smaller by 2^120, and multiplied by 2^120 times its scale.
// Conversions by way of fp16 and fp32 take twice the instructions.
//
// Numbers   bf16(code * scale). A fp32 scale is the sum of two bf16: the product is off by up to 2^-17 of itself before
//           the last rounding. NaN codes are no NaN but +-480.
// Large     2^120 times a scale of 2^7 or more might be no bf16: products with such scales are left smaller by 2^120, and
//           are to be multiplied by times_2_120() once more; of small codes they may be off by 2^-12.
#pragma once
#include "device/ptx/half_format.cuh"
#include "device/ptx/shared.cuh"
#include "device/common/latent_row.cuh"

namespace dgrt {

__device__ __forceinline__ uint32_t times_2_120(uint32_t pair) { return ptx::mul_bf16x2(pair, 0x7b807b80); }

// What a group's codes are multiplied by: pairs of the same bf16.
template <int format>
struct LatentFactor {
  uint32_t high, low;

  // scale: an fp32 number's bits.
  __device__ static bool is_large(uint32_t scale) { return (scale & 0x7fffffff) >= 0x43000000; }
  __device__ explicit LatentFactor(uint32_t scale) {
    const float value = __uint_as_float(scale) * (is_large(scale) ? 1.0f : 0x1p120f);
    high = ptx::pack_half2<dtype_bf16>(value, value);
    const float rest = value - ptx::half_low<dtype_bf16>(high);
    low = ptx::pack_half2<dtype_bf16>(rest, rest);
  }
  __device__ uint32_t scaled(uint32_t pair) const { return ptx::fma_bf16x2(pair, high, ptx::mul_bf16x2(pair, low)); }
};

template <>
struct LatentFactor<latent_v4> {
  uint32_t power;

  // scale: e8m0, of which 255 is infinity.
  __device__ static bool is_large(uint32_t scale) { return scale >= 127 + 7; }
  __device__ explicit LatentFactor(uint32_t scale) : power((is_large(scale) ? scale : scale + 120) * 0x800080) {}
  __device__ uint32_t scaled(uint32_t pair) const { return ptx::mul_bf16x2(pair, power); }
};

// Scales of half a row: of 256 columns, two groups or four.
template <int format>
class LatentScales {
 public:
  // row: where the scales of a row begin in shared memory, a multiple of 16.
  __device__ LatentScales(uint32_t row, uint32_t half) : scales_(ptx::load_shared_b32x2(row + half * 8)) {}
  // box: of 64 columns.
  __device__ LatentFactor<format> of_box(uint32_t box) const { return LatentFactor<format>(scale(box)); }
  __device__ bool is_large(uint32_t box) const { return LatentFactor<format>::is_large(scale(box)); }
  __device__ bool any_large() const { return is_large(0) || is_large(2); }

 private:
  __device__ uint32_t scale(uint32_t box) const { return box < 2 ? scales_.x : scales_.y; }

  uint2 scales_;
};

template <>
class LatentScales<latent_v4> {
 public:
  __device__ LatentScales(uint32_t row, uint32_t half)
      : scales_(ptx::load_shared_u32(row + half * 4) & (half == 0 ? 0xffffffff : 0x00ffffff)) {}
  __device__ LatentFactor<latent_v4> of_box(uint32_t box) const { return LatentFactor<latent_v4>(scale(box)); }
  __device__ bool is_large(uint32_t box) const { return LatentFactor<latent_v4>::is_large(scale(box)); }
  // Bytes of 0x80 + 6 and more carry into the upper bit, and have it.
  __device__ bool any_large() const { return (((scales_ & 0x7f7f7f7f) + 0x7a7a7a7a) & scales_ & 0x80808080) != 0; }

 private:
  __device__ uint32_t scale(uint32_t box) const { return scales_ >> box * 8 & 0xff; }

  uint32_t scales_;
};

// A bf16's upper byte is a code's sign, four zeros, and three bits of its exponent; the lower one its other bits, and
// four zeros. Both are made for four codes at once, then laced.
template <int format>
__device__ __forceinline__ uint2 dequantise_4(uint32_t codes, const LatentFactor<format>& factor) {
  const uint32_t upper = (codes & 0x80808080) | (codes >> 4 & 0x07070707), lower = codes << 4 & 0xf0f0f0f0;
  return make_uint2(factor.scaled(__byte_perm(lower, upper, 0x5140)),
                    factor.scaled(__byte_perm(lower, upper, 0x7362)));
}

template <int format>
__device__ __forceinline__ uint4 dequantise_8(uint32_t first, uint32_t second, const LatentFactor<format>& factor) {
  const uint2 low = dequantise_4(first, factor), high = dequantise_4(second, factor);
  return make_uint4(low.x, low.y, high.x, high.y);
}

}  // namespace dgrt
