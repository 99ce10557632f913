// bf16 output of one slab: accumulators -> swizzled shared memory (stmatrix) -> TMA store, in column chunks
// through two buffers, so that writing a chunk overlaps the store of the one before. TMA clips the
// tails of m and n.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/ptx/bf16.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// 16-byte column of a swizzle row that holds logical 16-byte column `chunk` of `row` (PTX ISA, swizzling
// modes of tensor maps).
template <uint32_t columns>
__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t chunk) {
  return columns == 64 ? chunk ^ (row & 7) : chunk ^ (row >> 1 & 3);
}

// One math warpgroup (128 threads, named barrier `barrier`). `staging`: shared address of its two buffers.
// `buffer` alternates and lives across calls.
template <class Cfg>
__device__ __forceinline__ void store_slab_tma(
    const float (&values)[GemmTile<Cfg>::accumulators], const TensorMap* d, uint32_t staging,
    uint32_t& buffer, uint32_t row, uint32_t column, uint32_t thread, uint32_t barrier) {
  constexpr uint32_t columns = gemm_store_columns(Cfg::block_n);
  constexpr uint32_t buffer_bytes = gemm_slab_rows * columns * 2;
  const uint32_t lane = thread % 32;
  // stmatrix: lanes 0-7 and 16-23 address rows 0-7, the others rows 8-15; lanes 16-31 the next 8 columns.
  const uint32_t matrix_row = thread / 32 * 16 + (lane & 15);
#pragma unroll
  for (uint32_t chunk = 0; chunk < Cfg::block_n / columns; ++chunk) {
    const uint32_t address = staging + buffer * buffer_bytes;
    if (thread == 0) ptx::tma_store_wait_read<1>();
    ptx::named_barrier_sync(barrier, 128);
#pragma unroll
    for (uint32_t pair = 0; pair < columns / 16; ++pair) {
      const float* v = &values[chunk * columns / 2 + pair * 8];
      const uint32_t target = swizzled<columns>(matrix_row, pair * 2 + (lane >> 4));
      ptx::stmatrix_x4(address + matrix_row * columns * 2 + target * 16,
                       ptx::pack_bf16x2(v[0], v[1]), ptx::pack_bf16x2(v[2], v[3]),
                       ptx::pack_bf16x2(v[4], v[5]), ptx::pack_bf16x2(v[6], v[7]));
    }
    ptx::fence_proxy_async();
    ptx::named_barrier_sync(barrier, 128);
    if (thread == 0) {
      ptx::tma_store_2d(d, address, column + chunk * columns, row);
      ptx::tma_store_commit();
    }
    buffer ^= 1;
  }
}

}  // namespace dgrt
