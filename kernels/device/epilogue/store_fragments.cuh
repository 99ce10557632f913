// Output straight from the accumulators of one slab: what TMA cannot store. With fp32 four
// neighbouring lanes fill a whole 32-byte sector.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"

namespace dgrt {

// One math warpgroup; `row`, `column`: of the slab's first element.
template <class Cfg, class Walk>
__device__ __forceinline__ void store_slab_fragments(
    const float (&values)[GemmTile<Cfg>::accumulators], const GemmOutput& out, const Walk& tile,
    uint32_t row, uint32_t column, uint32_t thread) {
  const uint32_t first_row = row + thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    if (first_row + half * 8 >= tile.m_end) return;
    const RowCursor<Cfg> at(out, Walk::d_grouped ? tile.group : 0, first_row + half * 8,
                            column + thread % 4 * 2);
#pragma unroll
    for (uint32_t group = 0; group < GemmTile<Cfg>::columns / 8; ++group) {
      float v[2] = {values[group * 4 + half * 2], values[group * 4 + half * 2 + 1]};
      at.store(group * 8, v);
    }
  }
}

}  // namespace dgrt
