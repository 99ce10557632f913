// SM90 scale_layout: dst[k_block * ld_dst + row] = src(row, k_block) for every group: scales of
// either order become what gemm's TMA loads want. Rows between m and the next multiple of 4 are
// written as zeros.
//
// A tile of `block_m` rows by 32 blocks of k passes through shared memory. Reading, a warp takes 32
// neighbours along the contiguous axis of src; writing, 128 contiguous bytes per k block
// (store_columns). So both sides are coalesced whatever the strides and the alignment of src.
//
// Needs     dst 16-byte aligned, ld_dst and the groups' distance multiples of 4.
// Source    PTX ISA: griddepcontrol.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/epilogue/store_columns.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::scale_layout {

// ---- Interface: host and NVRTC ----

struct Params {
  const float* src;                            // [groups][m, k_blocks], either order
  float* dst;                                  // [groups][k_blocks, m]
  int64_t ld_src, ld_dst;                      // elements
  int64_t group_stride_src, group_stride_dst;  // elements
  uint32_t m, k_blocks;
};

constexpr uint32_t tile_k = 32;  // blocks of k per thread block
constexpr uint32_t num_threads = 256;

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

template <class Cfg>
struct Smem {
  ColumnTile<Cfg::block_m, tile_k> tile;
};

// Where the i-th load of this thread lies in the tile: neighbouring threads take neighbours along k
// of a K-major source, along the rows of an MN-major one.
struct Place {
  uint32_t row, k;
};
template <class Cfg>
__device__ __forceinline__ Place place(uint32_t i) {
  const uint32_t lane = threadIdx.x % 32, line = threadIdx.x / 32 + i * (num_threads / 32);
  if constexpr (Cfg::mn_major) return {line / tile_k * 32 + lane, line % tile_k};
  return {line, lane};
}

template <class Cfg>
__device__ __forceinline__ void load_tile(const Params& p, const float* src, Smem<Cfg>& smem,
                                          uint32_t first_row, uint32_t first_k) {
  constexpr uint32_t num_loads = Cfg::block_m * tile_k / num_threads;
  float values[num_loads];
#pragma unroll
  for (uint32_t i = 0; i < num_loads; ++i) {
    const Place at = place<Cfg>(i);
    const uint32_t row = first_row + at.row, k = first_k + at.k;
    values[i] = 0.0f;
    if (row < p.m && k < p.k_blocks)
      values[i] =
          ptx::load_stream_f32(src + (Cfg::mn_major ? k * p.ld_src + row : row * p.ld_src + k));
  }
#pragma unroll
  for (uint32_t i = 0; i < num_loads; ++i) {
    const Place at = place<Cfg>(i);
    smem.tile[at.row][at.k] = __float_as_uint(values[i]);
  }
}

// Cfg: block_m, mn_major (the source's rows are contiguous).
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  static_assert(Cfg::block_m % 32 == 0, "a warp takes 32 rows at once");
  __shared__ Smem<Cfg> smem;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  const float* src = p.src + blockIdx.z * p.group_stride_src;
  float* dst = p.dst + blockIdx.z * p.group_stride_dst;
  const uint32_t first_k = blockIdx.x * tile_k;
  const uint32_t num_row_blocks = ceil_div(p.m, Cfg::block_m);
  for (uint32_t row_block = blockIdx.y; row_block < num_row_blocks; row_block += gridDim.y) {
    const uint32_t first_row = row_block * Cfg::block_m;
    load_tile(p, src, smem, first_row, first_k);
    __syncthreads();
    store_columns<Cfg::block_m, tile_k, num_threads>(
        smem.tile, reinterpret_cast<uint32_t*>(dst + first_k * p.ld_dst + first_row), p.ld_dst,
        p.m - first_row, p.k_blocks - first_k);
    __syncthreads();
  }
}
#endif

}  // namespace dgrt::sm90::scale_layout
