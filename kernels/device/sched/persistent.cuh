// Which tile next: a persistent grid of clusters walks the tiles of a dense GEMM in bands of `band`
// cluster rows, m fastest inside a band, so that the tiles in flight share few rows of a and b in
// L2.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/ptx/cluster.cuh"

namespace dgrt {

template <class Cfg>
struct TileWalk {
  uint32_t num_m, num_n;  // clusters of tiles along m and n
  uint32_t band;
  uint32_t next_idx, step;
  uint32_t m_rank, n_rank, k_rank;
  uint32_t m_start = 0, n_start = 0;  // first row and column of this CTA's tile
  uint32_t k_begin, k_end;            // this CTA's k blocks

  // Each CTA gets whole groups of k blocks; the last group may reach past k.
  __device__ TileWalk(uint32_t m, uint32_t n, uint32_t num_k_blocks, uint32_t group,
                      uint32_t band_rows)
      : num_m(ceil_div(m, Cfg::block_m * Cfg::cluster_m)),
        num_n(ceil_div(n, Cfg::block_n * Cfg::cluster_n)),
        band(band_rows),
        next_idx(blockIdx.x / GemmTile<Cfg>::cluster_size),
        step(gridDim.x / GemmTile<Cfg>::cluster_size) {
    const uint32_t rank = GemmTile<Cfg>::cluster_size == 1 ? 0 : ptx::cluster_cta_rank();
    n_rank = rank % Cfg::cluster_n;
    m_rank = rank / Cfg::cluster_n % Cfg::cluster_m;
    k_rank = rank / GemmTile<Cfg>::multicast_ctas;
    // Products fit: k is below 2^31 bytes and split_k at most 8.
    const uint32_t num_groups = ceil_div(num_k_blocks, group);
    k_begin = num_groups * k_rank / Cfg::split_k * group;
    k_end = num_groups * (k_rank + 1) / Cfg::split_k * group;
  }

  __device__ bool next() {
    if (next_idx >= num_m * num_n) return false;
    const uint32_t band_tiles = band * num_n;
    const uint32_t band_idx = next_idx / band_tiles;
    const uint32_t in_band = next_idx % band_tiles;
    const uint32_t rows_left = num_m - band_idx * band;
    const uint32_t rows = rows_left < band ? rows_left : band;
    m_start = ((band_idx * band + in_band % rows) * Cfg::cluster_m + m_rank) * Cfg::block_m;
    n_start = (in_band / rows * Cfg::cluster_n + n_rank) * Cfg::block_n;
    next_idx += step;
    return true;
  }
};

}  // namespace dgrt
