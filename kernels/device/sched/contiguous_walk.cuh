// Tiles of rows that are sorted by group, every group's rows padded to a multiple of the alignment,
// which block_m divides: a tile belongs to one group, or to none and is skipped.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

template <class Cfg>
struct ContiguousWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = false, b_grouped = true, d_grouped = false, signals = false;
  static constexpr bool ends_within = true;
  static_assert(Cfg::cluster_m == 1, "tiles that share b would have to share a group");
  const GemmGroups& groups;
  uint32_t group = 0;
  uint32_t num_m, num_n, band, m, m_end;

  __device__ ContiguousWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(p.num_k_blocks, k_group),
        groups(p.groups),
        num_m(this->count_m(p.out.m)),
        num_n(this->count_n(p.out.n)),
        band(p.band),
        m(p.out.m),
        m_end(p.out.m) {}

  // Moves to the group of the tile's first row; groups.count if it has none. m_end: of its rows in the
  // tile, as far as one look at each slab of 64 rows tells.
  __device__ void enter() {
    const uint32_t row = this->m_start;
    group = find(row);
    if (group >= groups.count) return;
    if constexpr (Cfg::end_rows) {
      m_end = __ldg(groups.ids + group);
    } else {
      m_end = row + Cfg::block_m < m ? row + Cfg::block_m : m;
      if (Cfg::block_m == 128 && row + 64 < m && __ldg(groups.ids + row + 64) < 0) m_end = row + 64;
    }
  }

  // Group of the row, or groups.count if it has none.
  __device__ uint32_t find(uint32_t row) const {
    if constexpr (!Cfg::end_rows) {
      const int32_t id = __ldg(groups.ids + row);
      return id < 0 ? groups.count : id;
    } else {
      // The first group that ends behind the row; rows before its aligned start are padding.
      uint32_t low = 0, high = groups.count;
      while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (static_cast<uint32_t>(__ldg(groups.ids + middle)) > row)
          high = middle;
        else
          low = middle + 1;
      }
      if (low == groups.count || low == 0) return low;
      const uint32_t previous_end = __ldg(groups.ids + low - 1);
      return row < align_up(previous_end, groups.alignment) ? groups.count : low;
    }
  }

  __device__ bool next() {
    for (;;) {
      if (this->next_idx >= num_m * num_n) return false;
      this->place(this->next_idx, num_m, num_n, band);
      this->next_idx += this->step;
      enter();
      if (group < groups.count) return true;
    }
  }
};

}  // namespace dgrt
