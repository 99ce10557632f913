// Tiles of several products of one shape, batch by batch.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

template <class Cfg>
struct BatchedWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = true, b_grouped = true, d_grouped = true, signals = false;
  static constexpr bool ends_within = false;
  uint32_t group = 0;
  uint32_t num_m, num_n, num_groups, band, m_end;

  __device__ BatchedWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(p.num_k_blocks, k_group),
        num_m(this->count_m(p.out.m)),
        num_n(this->count_n(p.out.n)),
        num_groups(p.groups.count),
        band(p.band),
        m_end(p.out.m) {}

  __device__ bool next() {
    const uint32_t tiles = num_m * num_n;
    group = this->next_idx / tiles;
    if (group >= num_groups) return false;
    this->place(this->next_idx - group * tiles, num_m, num_n, band);
    this->next_idx += this->step;
    return true;
  }
};

}  // namespace dgrt
