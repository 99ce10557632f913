// The writing half of a transpose: a row-major tile of 32-bit words in shared memory becomes columns
// in global memory, to[col * ld + row]. A warp stores 8 times 4 rows of 4 columns as 16-byte pieces,
// 128 contiguous bytes per column; the odd row pitch keeps the reads free of bank conflicts.
#pragma once
#include "device/common/interface.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

template <uint32_t rows, uint32_t cols>
using ColumnTile = uint32_t[rows][cols + 1];

// `to`, 16-byte aligned, is where tile[0][0] belongs. Rows are stored up to the next multiple of 4 of
// num_rows, so the tile must hold what is wanted there. Requires: ld a multiple of 4.
template <uint32_t rows, uint32_t cols, uint32_t num_threads>
__device__ __forceinline__ void store_columns(const ColumnTile<rows, cols>& tile, uint32_t* to,
                                              int64_t ld, uint32_t num_rows, uint32_t num_cols) {
  constexpr uint32_t rows_per_warp = 32, cols_per_warp = 4;
  static_assert(rows % rows_per_warp == 0, "a warp stores 32 rows at once");
  static_assert(cols % 8 == 0, "whole pieces, and an odd row pitch");
  constexpr uint32_t row_parts = rows / rows_per_warp;
  constexpr uint32_t num_pieces = row_parts * (cols / cols_per_warp);
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t piece = threadIdx.x / 32; piece < num_pieces; piece += num_threads / 32) {
    const uint32_t row = piece % row_parts * rows_per_warp + lane % 8 * 4;
    const uint32_t col = piece / row_parts * cols_per_warp + lane / 8;
    if (row >= num_rows || col >= num_cols) continue;
    ptx::store_b32x4(to + col * ld + row, make_uint4(tile[row][col], tile[row + 1][col],
                                                     tile[row + 2][col], tile[row + 3][col]));
  }
}

}  // namespace dgrt
