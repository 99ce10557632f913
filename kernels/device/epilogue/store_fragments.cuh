// Output straight from the accumulators of one slab: what TMA cannot store. With fp32 four
// neighbouring lanes fill a whole 32-byte sector.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"

namespace dgrt {

// A thread's part of a whole row of the tile, all of c on its way before anything is stored: d may be
// c, so that the compiler must not move a load before a store.
template <class Cfg>
__device__ __forceinline__ void store_row_with_c(const float (&values)[GemmTile<Cfg>::accumulators],
                                                 const RowCursor<Cfg>& at, uint32_t first) {
  constexpr uint32_t groups = GemmTile<Cfg>::columns / 8;
  float c[groups][2] = {};
#pragma unroll
  for (uint32_t group = 0; group < groups; ++group)
    add_group<Cfg::dtype_d>(c[group], at.c + group * 8 * at.bytes);
#pragma unroll
  for (uint32_t group = 0; group < groups; ++group) {
    float v[2] = {values[group * 4 + first], values[group * 4 + first + 1]};
    if constexpr (Cfg::with_bias) add_group<Cfg::dtype_d>(v, at.bias + group * 8 * at.bytes);
    v[0] += c[group][0], v[1] += c[group][1];
    store_group<Cfg::dtype_d>(
        at.d + uint64_t{d_column<Cfg>(at.out, at.column + group * 8)} * at.bytes, v);
  }
}

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
    if constexpr (Cfg::with_c && !Cfg::unaligned_d) {
      if (column + GemmTile<Cfg>::columns <= out.n) {
        store_row_with_c<Cfg>(values, at, half * 2);
        continue;
      }
    }
#pragma unroll
    for (uint32_t group = 0; group < GemmTile<Cfg>::columns / 8; ++group) {
      float v[2] = {values[group * 4 + half * 2], values[group * 4 + half * 2 + 1]};
      at.store(group * 8, v);
    }
  }
}

}  // namespace dgrt
