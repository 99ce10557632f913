// SM90 scale_layout: dst[k_block * ld_dst + row] = src[row * ld_src + k_block]: row-major scales
// become what gemm's TMA loads want. Rows between m and the next multiple of 4 are written as
// zeros.
//
// A transpose through shared memory: `block_m` rows by 32 blocks of k per thread block. Reading, a
// warp takes 32 neighbouring k blocks of a row. Writing, it takes 8 times 4 rows of 4 k blocks as
// 16-byte stores, 128 contiguous bytes per k block; with an odd row pitch neither side meets a bank
// conflict.
//
// Needs     dst 16-byte aligned, ld_dst a multiple of 4.
// Source    PTX ISA: griddepcontrol.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::scale_layout {

// ---- Interface: host and NVRTC ----

struct Params {
  const float* src;        // [m, k_blocks]
  float* dst;              // [k_blocks, m]
  int64_t ld_src, ld_dst;  // elements
  uint32_t m, k_blocks;
};

constexpr uint32_t tile_k = 32;  // blocks of k per thread block
constexpr uint32_t num_threads = 256;
constexpr uint32_t max_grid_y = 65535;  // CUDA's limit; blocks loop over the rows beyond

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

template <class Cfg>
struct Smem {
  float tile[Cfg::block_m][tile_k + 1];
};

template <class Cfg>
__device__ __forceinline__ void load_tile(const Params& p, Smem<Cfg>& smem, uint32_t first_row,
                                          uint32_t first_k) {
  constexpr uint32_t row_step = num_threads / tile_k, num_loads = Cfg::block_m / row_step;
  const uint32_t lane = threadIdx.x % tile_k, slot = threadIdx.x / tile_k;
  const bool has_k = first_k + lane < p.k_blocks;
  float values[num_loads];
#pragma unroll
  for (uint32_t i = 0; i < num_loads; ++i) {
    const uint32_t row = first_row + slot + i * row_step;
    values[i] = 0.0f;
    if (has_k && row < p.m)
      values[i] = ptx::load_stream_f32(p.src + row * p.ld_src + first_k + lane);
  }
#pragma unroll
  for (uint32_t i = 0; i < num_loads; ++i) smem.tile[slot + i * row_step][lane] = values[i];
}

template <class Cfg>
__device__ __forceinline__ void store_tile(const Params& p, const Smem<Cfg>& smem,
                                           uint32_t first_row, uint32_t first_k) {
  constexpr uint32_t rows_per_warp = 32, ks_per_warp = 4;
  constexpr uint32_t row_parts = Cfg::block_m / rows_per_warp;
  constexpr uint32_t num_pieces = row_parts * (tile_k / ks_per_warp);
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t piece = threadIdx.x / 32; piece < num_pieces; piece += num_threads / 32) {
    const uint32_t row = piece % row_parts * rows_per_warp + lane % 8 * 4;
    const uint32_t k = piece / row_parts * ks_per_warp + lane / 8;
    if (first_row + row >= p.m || first_k + k >= p.k_blocks) continue;
    ptx::store_f32x4(p.dst + (first_k + k) * p.ld_dst + first_row + row,
                     make_float4(smem.tile[row][k], smem.tile[row + 1][k], smem.tile[row + 2][k],
                                 smem.tile[row + 3][k]));
  }
}

// Cfg: block_m.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  static_assert(Cfg::block_m % 32 == 0, "a warp stores 32 rows at once");
  __shared__ Smem<Cfg> smem;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  const uint32_t first_k = blockIdx.x * tile_k;
  const uint32_t num_row_blocks = ceil_div(p.m, Cfg::block_m);
  for (uint32_t row_block = blockIdx.y; row_block < num_row_blocks; row_block += gridDim.y) {
    load_tile(p, smem, row_block * Cfg::block_m, first_k);
    __syncthreads();
    store_tile(p, smem, row_block * Cfg::block_m, first_k);
    __syncthreads();
  }
}
#endif

}  // namespace dgrt::sm90::scale_layout
