// Output straight from the accumulators of one slab. With fp32 four neighbouring lanes fill a whole
// 32-byte sector; bf16 comes this way only when c is added.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"

namespace dgrt {

// One math warpgroup; `row` and `column` of the slab's first element.
template <class Cfg, bool fp32, bool with_c>
__device__ __forceinline__ void store_slab_fragments(
    const float (&values)[GemmTile<Cfg>::accumulators], const GemmOutput& out, uint32_t row,
    uint32_t column, uint32_t thread) {
  const uint32_t first_row = row + thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    if (first_row + half * 8 >= out.m) return;
    const RowCursor<fp32, with_c> at(out, first_row + half * 8, column + thread % 4 * 2);
#pragma unroll
    for (uint32_t group = 0; group < Cfg::block_n / 8; ++group) {
      float v[2] = {values[group * 4 + half * 2], values[group * 4 + half * 2 + 1]};
      at.store(group * 8, v);
    }
  }
}

}  // namespace dgrt
