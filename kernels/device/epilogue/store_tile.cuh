// How one math warpgroup writes its part of a finished tile: the three stores behind one call.
#pragma once
#include "device/epilogue/store_fragments.cuh"
#include "device/epilogue/store_staged.cuh"
#include "device/epilogue/store_tma.cuh"

namespace dgrt {

template <class Cfg, GemmStore kind, bool fp32, bool with_c>
struct TileStore {
  using Tile = GemmTile<Cfg>;
  const TensorMap* d;  // GemmStore::tma only
  const GemmOutput& out;
  uint32_t first_slab;
  StagedStore<Cfg> staged;
  TmaStore<Cfg> tma;

  // `staging`, `barriers`: shared addresses of the block's staging area and reduction barriers.
  __device__ TileStore(const TensorMap* d, const GemmOutput& out, uint32_t staging,
                       uint32_t barriers, uint32_t warpgroup)
      : d(d),
        out(out),
        first_slab(warpgroup * Tile::slabs),
        staged(staging, barriers),
        tma{staging + warpgroup * Cfg::store_buffers * gemm_chunk_bytes(Tile::config),
            threadIdx.x % 128, 1 + warpgroup} {}

  template <class Walk>
  __device__ __forceinline__ void store(const float (&values)[Tile::slabs][Tile::accumulators],
                                        const Walk& tile) {
    const uint32_t row = tile.m_start + first_slab * gemm_slab_rows;
    if constexpr (kind == GemmStore::tma) {
      tma.store(values, d, row, tile.n_start);
    } else if constexpr (kind == GemmStore::fragments) {
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        store_slab_fragments<Cfg, fp32, with_c>(values[slab], out, row + slab * gemm_slab_rows,
                                                tile.n_start, threadIdx.x % 128);
    } else {
      staged.wait_free();
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        staged.write_slab(values[slab], (first_slab + slab) * gemm_slab_rows, threadIdx.x % 128);
      staged.template store<fp32, with_c>(out, tile, threadIdx.x);
    }
  }

  // Before the kernel ends.
  __device__ __forceinline__ void finish() const {
    if constexpr (kind == GemmStore::tma) tma.finish();
  }
};

}  // namespace dgrt
