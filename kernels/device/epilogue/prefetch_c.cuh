// Brings c's part of a tile into L2 while the tile's products run, a few rows with each k block: c is
// as large as d, and the store that adds it cannot begin before it is there. A c that is d is added by
// the memory system, which waits for nobody.
#pragma once
#include "device/epilogue/output.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

template <class Cfg>
struct PrefetchC {
  const GemmOutput& out;
  const char* row = nullptr;  // next one
  uint32_t rows_left = 0, bytes = 0, rows_per_block = 0;

  // One thread, before the first k block of a tile.
  template <class Walk>
  __device__ __forceinline__ void enter(const Walk& tile) {
    constexpr uint32_t element = dtype_bytes<Cfg::dtype_d>;
    rows_left = 0;
    if (out.c == out.d || tile.k_begin == tile.k_end || tile.m_start >= tile.m_end ||
        tile.n_start >= out.n)
      return;
    const uint32_t rows = tile.m_end - tile.m_start, columns = out.n - tile.n_start;
    rows_left = rows < Cfg::block_m ? rows : Cfg::block_m;
    // Whole 16 bytes; a tail shorter than that comes with the store.
    bytes = (columns < Cfg::block_n ? columns : Cfg::block_n) * element / 16 * 16;
    rows_per_block = ceil_div(rows_left, tile.k_end - tile.k_begin);
    row = static_cast<const char*>(out.c) +
          (tile.group * out.c_group_stride + tile.m_start * out.ldc + tile.n_start) * element;
  }

  // The same thread, with each k block.
  __device__ __forceinline__ void advance() {
    for (uint32_t i = 0; i < rows_per_block && rows_left > 0; ++i) {
      if (bytes > 0) ptx::prefetch_bulk_l2(row, bytes);
      row += out.ldc * dtype_bytes<Cfg::dtype_d>;
      --rows_left;
    }
  }
};

}  // namespace dgrt
