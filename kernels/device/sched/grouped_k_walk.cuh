// Tiles of several products of one shape whose k differ and are known to the device alone: group g
// owns ks[g] of the k that all of a and b have, behind the groups before it. Groups are walked one
// after the other; clusters never straddle two.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

// K blocks count from the group's first. `block_k`: elements of one. `granule`: ks are multiples of it,
// the rest is left out.
template <class Cfg, uint32_t block_k, uint32_t granule>
struct GroupedKWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = false, b_grouped = false, d_grouped = true, signals = false;
  static constexpr bool ends_within = false, prefetches_c = Cfg::with_c && !Cfg::unaligned_d;
  static_assert(Cfg::split_k == 1, "a group's k is not split");
  const int32_t* ks;
  uint32_t group = 0;
  uint32_t first_k = 0, num_k = 0;  // of the group, counted over all groups
  uint32_t all_k, k_group;
  uint32_t num_m, num_n, num_groups, band, m_end;

  __device__ GroupedKWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(0, k_group),
        ks(p.groups.ids),
        all_k(p.groups.k),
        k_group(k_group),
        num_m(this->count_m(p.out.m)),
        num_n(this->count_n(p.out.n)),
        num_groups(p.groups.count),
        band(p.band),
        m_end(p.out.m) {
    enter();
  }

  // Reads the group's k; what is left of all is the most that it can be.
  __device__ void enter() {
    if (group >= num_groups) return;
    const int32_t k = __ldg(ks + group);
    const uint32_t whole = k < 0 ? 0 : static_cast<uint32_t>(k) / granule * granule;
    const uint32_t left = all_k - first_k;
    num_k = whole < left ? whole : left;
    this->k_begin = 0;
    this->k_end = align_up(ceil_div(num_k, block_k), k_group);
  }

  __device__ bool next() {
    const uint32_t tiles = num_m * num_n;
    while (group < num_groups && this->next_idx >= tiles) {
      this->next_idx -= tiles;  // counts from the group's first
      first_k += num_k;
      ++group;
      enter();
    }
    if (group >= num_groups) return false;
    this->place(this->next_idx, num_m, num_n, band);
    this->next_idx += this->step;
    return true;
  }

  // Row of the scales of k block `kb` of the group: past its last one none, lest the scales of the
  // next group spoil its zeros.
  __device__ uint32_t scale_row(uint32_t kb) const {
    return (kb * block_k < num_k ? first_k + kb * block_k : all_k) / block_k;
  }
};

}  // namespace dgrt
