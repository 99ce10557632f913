// bf16 queries as fp16, for keys of e4m3: those become fp16 by one instruction for two elements, exactly, and bf16 by
// four. A row is multiplied by a power of two that brings its largest element near 2^14. What falls short of fp16's
// range then, is 2^31 times smaller.
#pragma once
#include "device/common/attn_tile.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tma.cuh"

namespace dgrt {

// Weights of fp16 are up to 2^14: those above 2^-28 are normal numbers.
constexpr int fp16_weight_lift = 14;

// Powers of two are exact, up to where fp16 ends. Infinity and NaN stay what they are.
struct Fp16Row {
  float scale;   // of the row's elements
  float factor;  // of its scores: 1 / scale

  // most: largest magnitude of the row's elements.
  __device__ explicit Fp16Row(uint32_t most) {
    constexpr uint32_t least = 64, target = 127 + 14;  // exponents as bf16 and fp32 have them
    const uint32_t exponent = max(most >> 7, least);
    scale = __uint_as_float((127 + target - exponent) << 23);
    factor = __uint_as_float((127 + exponent - target) << 23);
  }

  // Of bf16, without its sign.
  __device__ static uint32_t max_magnitude(uint4 x) {
    return max(max(of_pair(x.x), of_pair(x.y)), max(of_pair(x.z), of_pair(x.w)));
  }
  __device__ __forceinline__ uint4 convert(uint4 x) const {
    return make_uint4(scaled(x.x), scaled(x.y), scaled(x.z), scaled(x.w));
  }

 private:
  __device__ static uint32_t of_pair(uint32_t pair) { return max(pair & 0x7fff, pair >> 16 & 0x7fff); }
  __device__ __forceinline__ uint32_t scaled(uint32_t pair) const {
    return ptx::pack_half2<dtype_fp16>(ptx::half_low<dtype_bf16>(pair) * scale,
                                       ptx::half_high<dtype_bf16>(pair) * scale);
  }
};

// A slab's rows of `columns`, in place, by the warpgroups that share it: each looks at all rows and converts every
// `parts`th box, from box `part` on. Two lanes have a row, each half of every box. meet(): a barrier of all of them.
// factor: of the scores of the thread's rows as products have them, lane / 4 of the warp's and 8 below.
template <uint32_t columns, uint32_t parts, class Meet>
__device__ __forceinline__ void slab_to_fp16(uint32_t q, uint32_t part, const Meet& meet, float (&factor)[2]) {
  constexpr uint32_t chunks = columns / 8;
  const uint32_t lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane / 2;
  const auto place = [&](uint32_t box, uint32_t i) {
    return q + attn_chunk_offset(attn_slab_rows, row, box * 8 + lane % 2 * 4 + i);
  };
  const auto exists = [&](uint32_t box, uint32_t i) { return chunks % 8 == 0 || box * 8 + lane % 2 * 4 + i < chunks; };
  uint32_t most = 0;
#pragma unroll 1
  for (uint32_t box = 0; box < attn_boxes(columns); ++box)
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
      if (exists(box, i)) most = max(most, Fp16Row::max_magnitude(ptx::load_shared_b32x4(place(box, i))));
  const Fp16Row to(max(most, __shfl_xor_sync(0xffffffff, most, 1)));
  if constexpr (parts > 1) meet();
#pragma unroll 1
  for (uint32_t box = part; box < attn_boxes(columns); box += parts)
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
      if (exists(box, i)) ptx::store_shared_b32x4(place(box, i), to.convert(ptx::load_shared_b32x4(place(box, i))));
  ptx::fence_proxy_async();
  meet();
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) factor[i] = __shfl_sync(0xffffffff, to.factor, lane / 4 * 2 + i * 16);
}

}  // namespace dgrt
