// How one math warpgroup writes its part of a finished tile: the three stores behind one call, and
// the signal that the tile is there.
#pragma once
#include "device/epilogue/store_fragments.cuh"
#include "device/epilogue/store_staged.cuh"
#include "device/epilogue/store_tma.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

template <class Cfg, GemmStore kind>
struct TileStore {
  using Tile = GemmTile<Cfg>;
  static constexpr uint32_t signal_barrier = 3;  // named; 1 and 2 are the stores'
  const GemmParams& p;
  uint32_t first_slab, first_column;
  StagedStore<Cfg> staged;
  TmaStore<Cfg> tma;

  // `staging`, `barriers`: shared addresses of the block's staging area and reduction barriers.
  __device__ TileStore(const GemmParams& p, uint32_t staging, uint32_t barriers, uint32_t warpgroup)
      : p(p),
        first_slab(Tile::first_slab(warpgroup)),
        first_column(Tile::first_column(warpgroup)),
        staged(staging, barriers),
        tma{staging + warpgroup * Cfg::store_buffers *
                          gemm_chunk_bytes(Tile::config, dtype_bytes<Cfg::dtype_d>),
            threadIdx.x % 128, 1 + warpgroup, Tile::first_column(warpgroup)} {}

  template <class Walk>
  __device__ __forceinline__ void store(float (&values)[Tile::slabs][Tile::accumulators],
                                        const Walk& tile) {
    const uint32_t row = tile.m_start + first_slab * gemm_slab_rows;
    if constexpr (kind == GemmStore::tma) {
      if constexpr (Cfg::with_bias) add_bias(values, tile.n_start + first_column);
      if constexpr (Cfg::with_c) {
        if (tma.adds(p.out)) {
          if (tile.k_begin == tile.k_end && !Cfg::with_bias) return;  // d stays c
        } else {
          add_c(values, tile, row);
        }
      }
      tma.store(values, &p.d, p.out, tile, row);
    } else if constexpr (kind == GemmStore::fragments) {
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        store_slab_fragments<Cfg>(values[slab], p.out, tile, row + slab * gemm_slab_rows,
                                  tile.n_start + first_column, threadIdx.x % 128);
    } else {
      staged.wait_free();
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        staged.write_slab(values[slab], (first_slab + slab) * gemm_slab_rows, threadIdx.x % 128);
      staged.store(p, tile, threadIdx.x);
    }
    if constexpr (Walk::signals) signal(tile);
  }

  // Before the kernel ends.
  __device__ __forceinline__ void finish() const {
    if constexpr (kind == GemmStore::tma) tma.finish();
  }

 private:
  // The other stores do it where they round.
  __device__ __forceinline__ void add_bias(float (&values)[Tile::slabs][Tile::accumulators],
                                           uint32_t n_start) const {
    constexpr uint32_t bytes = dtype_bytes<Cfg::dtype_d>;
    const uint32_t first = n_start + threadIdx.x % 4 * 2;
    const char* bias = static_cast<const char*>(p.out.bias) + uint64_t{first} * bytes;
#pragma unroll
    for (uint32_t group = 0; group < Tile::accumulators / 4; ++group) {
      float v[2] = {};
      if (first + group * 8 < p.out.n) add_group<Cfg::dtype_d>(v, bias + group * 8 * bytes);
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) values[slab][group * 4 + i] += v[i % 2];
    }
  }

  // A c that is not d; the other stores add it where they round.
  template <class Walk>
  __device__ __forceinline__ void add_c(float (&values)[Tile::slabs][Tile::accumulators],
                                        const Walk& tile, uint32_t row) const {
    const uint32_t first_row = row + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    const uint32_t column = tile.n_start + first_column + threadIdx.x % 4 * 2;
#pragma unroll
    for (uint32_t i = 0; i < Tile::slabs * 2; ++i) {
      const uint32_t slab = i / 2, half = i % 2 * 2, c_row = first_row + slab * 64 + half * 4;
      if (c_row >= tile.m_end) break;
      const RowCursor<Cfg> at(p.out, Walk::d_grouped ? tile.group : 0, c_row, column);
#pragma unroll
      for (uint32_t group = 0; group < Tile::accumulators / 4; ++group) {
        float v[2] = {};
        if (column + group * 8 < p.out.n) add_group<Cfg::dtype_d>(v, at.c + group * 8 * at.bytes);
        values[slab][group * 4 + half] += v[0], values[slab][group * 4 + half + 1] += v[1];
      }
    }
  }

  // Counts this CTA's part of the tile as stored, once it is visible to the whole device. Each
  // thread that stored waits for its own writes; the barrier hands them to the thread that signals.
  template <class Walk>
  __device__ __forceinline__ void signal(const Walk& tile) const {
    if constexpr (kind == GemmStore::tma) {
      if (threadIdx.x % 128 == 0) ptx::tma_store_wait_complete();
    }
    ptx::named_barrier_sync(signal_barrier, Tile::num_math_threads);
    if (threadIdx.x == 0 && tile.m_start < tile.m_end && tile.n_start < p.out.n)
      ptx::add_release_gpu(p.groups.signal + tile.signal_idx(), 1);
  }
};

}  // namespace dgrt
