// Tiles of one matrix that is the sum of the products of all batches: the k blocks of every batch, one
// batch behind the other, are the k of a tile. Where there are fewer tiles than clusters, several
// clusters share a tile, each a part of its k; tiles of one part run side by side, as they share rows of a
// and b.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

template <class Cfg>
struct BatchSumWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = true, b_grouped = true, d_grouped = false, signals = false;
  static constexpr bool ends_within = false, parted = true;
  uint32_t group = 0;    // batch of the k block that is being loaded
  uint32_t first_k = 0;  // its batch's first k block, counted over all batches
  uint32_t num_k, all_k;
  uint32_t part = 0, num_parts;
  uint32_t tile_idx = 0;  // of this CTA
  uint32_t num_m, num_n, band, m_end;

  __device__ BatchSumWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(0, k_group),
        num_k(p.num_k_blocks),
        all_k(p.num_k_blocks * p.groups.count),
        num_parts(p.parts.count),
        num_m(this->count_m(p.out.m)),
        num_n(this->count_n(p.out.n)),
        band(p.band),
        m_end(p.out.m) {}

  __device__ uint32_t num_tiles() const { return num_m * num_n * GemmTile<Cfg>::multicast_ctas; }

  __device__ bool next() {
    const uint32_t clusters = num_m * num_n;
    part = this->next_idx / clusters;
    if (part >= num_parts) return false;
    const uint32_t cluster = this->next_idx - part * clusters;
    this->place(cluster, num_m, num_n, band);
    tile_idx =
        cluster * GemmTile<Cfg>::multicast_ctas + this->m_rank * Cfg::cluster_n + this->n_rank;
    deal();
    this->next_idx += this->step;
    return true;
  }

  // K blocks of this CTA; those of neighbours differ by one at most.
  __device__ void deal() {
    const uint32_t num_shares = num_parts * Cfg::split_k;
    const uint32_t share = part * Cfg::split_k + this->k_rank;
    const uint32_t least = all_k / num_shares, extra = all_k % num_shares;
    this->k_begin = share * least + (share < extra ? share : extra);
    this->k_end = this->k_begin + least + (share < extra ? 1 : 0);
    group = num_k == 0 ? 0 : this->k_begin / num_k;
    first_k = group * num_k;
  }

  __device__ uint32_t k_block(uint32_t kb) {
    if (kb - first_k == num_k) {
      first_k += num_k;
      ++group;
    }
    return kb - first_k;
  }
};

}  // namespace dgrt
