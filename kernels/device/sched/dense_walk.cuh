// Tiles of one product.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

template <class Cfg>
struct DenseWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = false, b_grouped = false, d_grouped = false, signals = false;
  static constexpr bool ends_within = false;
  static constexpr uint32_t group = 0;
  uint32_t num_m, num_n, band, m_end;

  __device__ DenseWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(p.num_k_blocks, k_group),
        num_m(this->count_m(p.out.m)),
        num_n(this->count_n(p.out.n)),
        band(p.band),
        m_end(p.out.m) {}

  __device__ bool next() {
    if (this->next_idx >= num_m * num_n) return false;
    this->place(this->next_idx, num_m, num_n, band);
    this->next_idx += this->step;
    return true;
  }
};

}  // namespace dgrt
