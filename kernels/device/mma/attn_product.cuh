// The two products of attention. Scores: s[64, keys] = q k^T, both in shared memory, K-major.
// Output: o[64, columns] += p v, with p in registers as the scores left it and v MN-major.
#pragma once
#include "device/common/attn_tile.cuh"
#include "device/mma/pack_scores.cuh"
#include "device/mma/slab_product.cuh"
#include "device/ptx/wgmma_bf16.gen.cuh"
#include "device/ptx/wgmma_fp16.gen.cuh"
#include "device/ptx/wgmma_register_bf16.gen.cuh"
#include "device/ptx/wgmma_register_fp16.gen.cuh"

namespace dgrt {

template <int dtype, uint32_t n>
struct AttnWgmma {
  using Scores = ptx::WgmmaBf16<n>;
  using Output = ptx::WgmmaRegisterBf16<n>;
};
template <uint32_t n>
struct AttnWgmma<dtype_fp16, n> {
  using Scores = ptx::WgmmaFp16<n>;
  using Output = ptx::WgmmaRegisterFp16<n>;
};

// Overwrites s. q: of the slab's first row in the first box, q_box_bytes between boxes; k likewise.
// Returns at once; requires wgmma_fence() before, commit and wait after.
template <class Wgmma, uint32_t depth, uint32_t count>
__device__ __forceinline__ void issue_scores(float (&s)[count], uint32_t q, uint32_t q_box_bytes,
                                             uint32_t k, uint32_t k_box_bytes) {
  const uint64_t q_first = operand_descriptor<false>(q), k_first = operand_descriptor<false>(k);
#pragma unroll
  for (uint32_t step = 0; step < depth / 16; ++step) {  // 16 elements: 32 bytes of a row
    const uint32_t box = step / 4, within = step % 4 * 2;
    Wgmma::mma(s, q_first + (box * q_box_bytes >> 4) + within,
               k_first + (box * k_box_bytes >> 4) + within, step != 0);
  }
}

// The same, added to s, which is zero: a loop over boxes, where speed matters less than the time that each
// product's operands take to compile.
template <class Wgmma, uint32_t depth, uint32_t count>
__device__ __forceinline__ void issue_scores_in_loop(float (&s)[count], uint32_t q, uint32_t q_box_bytes,
                                                     uint32_t k, uint32_t k_box_bytes) {
  uint64_t q_box = operand_descriptor<false>(q), k_box = operand_descriptor<false>(k);
#pragma unroll 1
  for (uint32_t box = 0; box < depth / 64; ++box) {
#pragma unroll
    for (uint32_t step = 0; step < 4; ++step) Wgmma::mma(s, q_box + step * 2, k_box + step * 2, 1);
    q_box += q_box_bytes >> 4, k_box += k_box_bytes >> 4;
  }
  if constexpr (depth % 64 != 0)
#pragma unroll
    for (uint32_t step = 0; step < depth % 64 / 16; ++step) Wgmma::mma(s, q_box + step * 2, k_box + step * 2, 1);
}

// v: of the first key in the first box. p: pairs of the type, 16 keys in four registers.
template <class Wgmma, uint32_t keys, uint32_t count>
__device__ __forceinline__ void issue_output(float (&o)[count], const uint32_t (&p)[keys / 4],
                                             uint32_t v) {
  constexpr uint32_t box_bytes = keys * attn_row_bytes;
  const uint64_t v_first = mn_descriptor(v, box_bytes);
#pragma unroll
  for (uint32_t step = 0; step < keys / 16; ++step)  // 16 rows of v
    Wgmma::mma(o, p + step * 4, v_first + step * (16 * attn_row_bytes >> 4));
}

}  // namespace dgrt
