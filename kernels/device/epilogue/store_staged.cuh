// Output of a swap_ab tile: the accumulators hold transpose(d), so they go through an fp32 tile in
// shared memory, d's rows contiguous. With split_k the CTAs of a cluster each hold a partial sum
// there; each adds up its share of the tile over all of them, ranks ascending, so that equal inputs
// give equal bits. Where several clusters share a tile, the same happens once more in global memory.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/last_arriver.cuh"
#include "device/epilogue/output.cuh"
#include "device/epilogue/segments.cuh"
#include "device/pipeline/gemm_frame.cuh"
#include "device/ptx/cluster.cuh"
#include "device/ptx/mbarrier.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

template <class Cfg>
struct StagedStore {
  static constexpr uint32_t pitch = Cfg::block_n + staging_pad;  // floats between rows of d
  static constexpr uint32_t num_threads = GemmTile<Cfg>::num_math_threads;
  static constexpr uint32_t barrier_id = 1;

  uint32_t tile;             // shared address of fp32 [block_m][pitch]
  uint32_t ready, released;  // mbarriers of split_k arrivals: sums written; sums read by everyone
  uint32_t phase = 0;
  bool first = true;

  __device__ StagedStore(uint32_t staging, uint32_t barriers)
      : tile(staging), ready(barriers), released(barriers + 8) {}

  // Before a tile's first write: everyone has read the tile before.
  __device__ __forceinline__ void wait_free() {
    if (first) {
      first = false;
      cluster_ready<Cfg>();
      return;
    }
    if constexpr (Cfg::split_k > 1) {
      while (!ptx::mbarrier_try_wait_cluster(released, phase ^ 1)) {
      }
    } else {
      ptx::named_barrier_sync(barrier_id, num_threads);
    }
  }

  // `slab_row`: the slab's first row within the tile's n.
  __device__ __forceinline__ void write_slab(const float (&values)[GemmTile<Cfg>::accumulators],
                                             uint32_t slab_row, uint32_t thread) {
    if (Cfg::block_n < gemm_slab_rows && thread % 128 / 32 * 16 >= Cfg::block_n) return;
    const uint32_t lane = thread % 32;
    const uint32_t corner =
        tile + (lane % 4 * 2 * pitch + slab_row + thread % 128 / 32 * 16 + lane / 4) * 4;
#pragma unroll
    for (uint32_t i = 0; i < GemmTile<Cfg>::accumulators; ++i)
      ptx::store_shared_f32(corner + ((i / 4 * 8 + i % 2) * pitch + i / 2 % 2 * 8) * 4, values[i]);
  }

  // After the last write_slab. All math threads.
  template <class Walk>
  __device__ __forceinline__ void store(const GemmParams& p, const Walk& walk, uint32_t thread) {
    ptx::named_barrier_sync(barrier_id, num_threads);
    if constexpr (Cfg::split_k > 1) {
      if (thread < Cfg::split_k) ptx::mbarrier_arrive_cluster(ptx::mapa(ready, peer(walk, thread)));
      while (!ptx::mbarrier_try_wait_cluster(ready, phase)) {
      }
      phase ^= 1;
    }
    if constexpr (Walk::parted) {
      if (p.parts.count > 1) return store_part(p, walk, thread);
    }
    each_group(walk, thread, [&](uint32_t row, uint32_t column) {
      store_values(p.out, walk, row, column, sum_of(walk, row, column));
    });
    leave(walk, thread);
  }

 private:
  // This CTA's share of the tile: body(row, column) for groups of four columns.
  template <class Walk, class Body>
  static __device__ __forceinline__ void each_group(const Walk& walk, uint32_t thread,
                                                    const Body& body) {
    constexpr uint32_t groups = Cfg::block_n / 4;
    const uint32_t rows_left = walk.m_end > walk.m_start ? walk.m_end - walk.m_start : 0;
    const uint32_t rows = rows_left < Cfg::block_m ? rows_left : Cfg::block_m;
#pragma unroll 1  // code size: the loop waits for memory
    for (uint32_t i = walk.k_rank * num_threads + thread; i < rows * groups;
         i += Cfg::split_k * num_threads)
      body(i / groups, i % groups * 4);
  }

  // Over the CTAs that hold partial sums.
  template <class Walk>
  __device__ __forceinline__ float4 sum_of(const Walk& walk, uint32_t row, uint32_t column) const {
    const uint32_t source = tile + (row * pitch + column) * 4;
    if constexpr (Cfg::split_k == 1) {
      return ptx::load_shared_f32x4(source);
    } else {
      float4 parts[Cfg::split_k], sum = {};
#pragma unroll
      for (uint32_t rank = 0; rank < Cfg::split_k; ++rank)
        parts[rank] = ptx::load_cluster_f32x4(ptx::mapa(source, peer(walk, rank)));
#pragma unroll
      for (uint32_t rank = 0; rank < Cfg::split_k; ++rank) sum = plus(sum, parts[rank]);
      return sum;
    }
  }

  template <class Walk>
  static __device__ __forceinline__ void store_values(const GemmOutput& out, const Walk& walk,
                                                      uint32_t row, uint32_t column, float4 sum) {
    float v[4] = {sum.x, sum.y, sum.z, sum.w};
    cursor_at<Cfg>(out, walk, walk.m_start + row, walk.n_start + column).store(0, v);
  }

  // Tells the others that their sums were read.
  template <class Walk>
  __device__ __forceinline__ void leave(const Walk& walk, uint32_t thread) const {
    if constexpr (Cfg::split_k > 1) {
      ptx::named_barrier_sync(barrier_id, num_threads);
      if (thread < Cfg::split_k)
        ptx::mbarrier_arrive_cluster(ptx::mapa(released, peer(walk, thread)));
    }
  }

  // The tile is one part of several: its sums go to the workspace, and who comes last with a share
  // adds up all parts of it.
  template <class Walk>
  __device__ __forceinline__ void store_part(const GemmParams& p, const Walk& walk,
                                             uint32_t thread) const {
    constexpr uint32_t tile_floats = Cfg::block_m * Cfg::block_n;
    float* const first = p.parts.sums + uint64_t{walk.tile_idx} * tile_floats;  // of part 0
    const uint64_t step = uint64_t{walk.num_tiles()} * tile_floats;
    each_group(walk, thread, [&](uint32_t row, uint32_t column) {
      ptx::store_f32x4(first + walk.part * step + row * Cfg::block_n + column,
                       sum_of(walk, row, column));
    });
    leave(walk, thread);
    uint32_t* const counter = p.parts.counters + walk.tile_idx * Cfg::split_k + walk.k_rank;
    const uint32_t flag = tile + Cfg::block_n * 4;  // the padding of row 0, which nobody else uses
    if (!arrives_last(counter, p.parts.count, flag, barrier_id, num_threads)) return;
    each_group(walk, thread, [&](uint32_t row, uint32_t column) {
      const float* from = first + row * Cfg::block_n + column;
      store_values(p.out, walk, row, column, sum_in_order(0, p.parts.count, [&](uint32_t part) {
                     return ptx::load_relaxed_f32x4(from + part * step);
                   }));
    });
  }

  template <class Walk>
  static __device__ uint32_t peer(const Walk& walk, uint32_t k_rank) {
    return k_rank * GemmTile<Cfg>::multicast_ctas + walk.m_rank * Cfg::cluster_n + walk.n_rank;
  }
};

}  // namespace dgrt
