// Codes of the quantised caches of sparse MLA as bf16, for loaders that have no instruction to spare: an e4m3 code's
// bits are moved to where a bf16 has them, which makes it smaller by 2^120, and multiplied. Conversions by way of
// fp16 and fp32 take twice the instructions.
//
// Numbers   bf16(code * scale). A fp32 scale is the sum of two bf16: the product is off by up to 2^-17 of itself before
//           the last rounding. NaN codes are no NaN but +-480.
#pragma once
#include "device/ptx/half_format.cuh"
#include "device/common/latent_row.cuh"

namespace dgrt {

// What a group's codes are multiplied by: pairs of the same bf16.
template <int format>
struct LatentFactor {
  uint32_t high, low;

  // scale: an fp32 number's bits.
  __device__ explicit LatentFactor(uint32_t scale) {
    const float value = __uint_as_float(scale);
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
  __device__ explicit LatentFactor(uint32_t scale) : power((scale == 0 ? 0x40 : scale << 7) * 0x10001) {}
  __device__ uint32_t scaled(uint32_t pair) const { return ptx::mul_bf16x2(pair, power); }
};

// Two of four codes: placed, as bf16s that are smaller by 2^120.
template <int format>
__device__ __forceinline__ uint32_t dequantise_pair(uint32_t placed, const LatentFactor<format>& factor) {
  constexpr uint32_t power_120 = 0x7b807b80;
  return factor.scaled(ptx::mul_bf16x2(placed, power_120));
}

// A bf16's upper byte is a code's sign, four zeros, and three bits of its exponent; the lower one its other bits, and
// four zeros. Both are made for four codes at once, then laced.
template <int format>
__device__ __forceinline__ uint2 dequantise_4(uint32_t codes, const LatentFactor<format>& factor) {
  const uint32_t upper = (codes & 0x80808080) | (codes >> 4 & 0x07070707), lower = codes << 4 & 0xf0f0f0f0;
  return make_uint2(dequantise_pair(__byte_perm(lower, upper, 0x5140), factor),
                    dequantise_pair(__byte_perm(lower, upper, 0x7362), factor));
}

template <int format>
__device__ __forceinline__ uint4 dequantise_8(uint32_t first, uint32_t second, const LatentFactor<format>& factor) {
  const uint2 low = dequantise_4(first, factor), high = dequantise_4(second, factor);
  return make_uint4(low.x, low.y, high.x, high.y);
}

}  // namespace dgrt
