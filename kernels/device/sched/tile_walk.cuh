// What the tile walks of the GEMM family share: a persistent grid of clusters that goes through
// tiles in bands of `band` cluster rows, m fastest inside a band, so that the tiles in flight share
// few rows of a and b in L2.
//
// A walk says, for the tile that next() moved to: group, m_start and n_start (first row and column
// within the group), m_end (rows of d that exist), k_begin and k_end (k blocks of this CTA). Its
// constants a_grouped, b_grouped and d_grouped say which tensors have a third axis, `segmented` that
// d's columns belong to several matrices, `prefetches_c` that loads bring c into L2, `parted` that
// several clusters may share a tile's k.
#pragma once
#include "device/common/gemm_params.cuh"
#include "device/common/gemm_tile.cuh"
#include "device/ptx/cluster.cuh"

namespace dgrt {

template <class Cfg>
struct TileWalk {
  static constexpr bool segmented = false, prefetches_c = false, parted = false;
  uint32_t next_idx, step;
  uint32_t m_rank, n_rank, k_rank;
  uint32_t m_start = 0, n_start = 0;
  uint32_t k_begin, k_end;

  // Each CTA gets whole groups of k blocks; the last group may reach past k.
  __device__ TileWalk(uint32_t num_k_blocks, uint32_t k_group)
      : next_idx(blockIdx.x / GemmTile<Cfg>::cluster_size),
        step(gridDim.x / GemmTile<Cfg>::cluster_size) {
    const uint32_t rank = GemmTile<Cfg>::cluster_size == 1 ? 0 : ptx::cluster_cta_rank();
    n_rank = rank % Cfg::cluster_n;
    m_rank = rank / Cfg::cluster_n % Cfg::cluster_m;
    k_rank = rank / GemmTile<Cfg>::multicast_ctas;
    // Products fit: k is below 2^31 bytes and split_k at most 8.
    const uint32_t num_groups = ceil_div(num_k_blocks, k_group);
    k_begin = num_groups * k_rank / Cfg::split_k * k_group;
    k_end = num_groups * (k_rank + 1) / Cfg::split_k * k_group;
  }

  // Where in its group a k block lies. Loads ask for each block of the tile, in order.
  static __device__ uint32_t k_block(uint32_t kb) { return kb; }

  // Row of the scales of a k block.
  static __device__ uint32_t scale_row(uint32_t kb) { return kb; }

  // Clusters of tiles along an axis.
  static __device__ uint32_t count_m(uint32_t m) {
    return ceil_div(m, Cfg::block_m * Cfg::cluster_m);
  }
  static __device__ uint32_t count_n(uint32_t n) {
    return ceil_div(n, Cfg::block_n * Cfg::cluster_n);
  }

  // Cluster `idx` of num_m x num_n of them. One row of them, which decode has, needs no divisions: they would
  // stand in front of a kernel's first load.
  __device__ void place(uint32_t idx, uint32_t num_m, uint32_t num_n, uint32_t band) {
    if (num_m == 1) {
      m_start = m_rank * Cfg::block_m;
      n_start = (idx * Cfg::cluster_n + n_rank) * Cfg::block_n;
      return;
    }
    const uint32_t band_tiles = band * num_n;
    const uint32_t band_idx = idx / band_tiles;
    const uint32_t in_band = idx % band_tiles;
    const uint32_t rows_left = num_m - band_idx * band;
    const uint32_t rows = rows_left < band ? rows_left : band;
    m_start = ((band_idx * band + in_band % rows) * Cfg::cluster_m + m_rank) * Cfg::block_m;
    n_start = (in_band / rows * Cfg::cluster_n + n_rank) * Cfg::block_n;
  }
};

}  // namespace dgrt
