// Tiles of the rows that each group really has: masked_m[g] of m. Groups are walked one after the
// other; the position among them only moves forward.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

template <class Cfg>
struct MaskedWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = true, b_grouped = true, d_grouped = true;
  static constexpr bool signals = Cfg::signal, ends_within = true;
  const int32_t* masked_m;
  uint32_t group = 0, first_idx = 0;  // first cluster of `group`, counted over all groups
  uint32_t num_m = 0, num_n, num_groups, band, m, m_end = 0;

  __device__ MaskedWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(p.num_k_blocks, k_group),
        masked_m(p.groups.ids),
        num_n(this->count_n(p.out.n)),
        num_groups(p.groups.count),
        band(p.band),
        m(p.out.m) {
    enter();
  }

  // Reads how many rows `group` has; out of range counts as none or all.
  __device__ void enter() {
    if (group >= num_groups) return;
    const int32_t rows = __ldg(masked_m + group);
    m_end = rows < 0 ? 0 : static_cast<uint32_t>(rows) < m ? rows : m;
    num_m = this->count_m(m_end);
  }

  __device__ bool next() {
    while (group < num_groups && this->next_idx - first_idx >= num_m * num_n) {
      first_idx += num_m * num_n;
      ++group;
      enter();
    }
    if (group >= num_groups) return false;
    this->place(this->next_idx - first_idx, num_m, num_n, band);
    this->next_idx += this->step;
    return true;
  }

  // Counter of this CTA's tile: one per group and m tile.
  __device__ uint32_t signal_idx() const {
    return group * ceil_div(m, Cfg::block_m) + this->m_start / Cfg::block_m;
  }
};

}  // namespace dgrt
