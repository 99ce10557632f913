// Tiles of several products of one shape whose k differ and are known to the device alone: group g
// owns ks[g] of the k that all of a and b have, behind the groups before it. Groups are walked one
// after the other; clusters never straddle two.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

// `block_k`: elements of a k block. `from_group`: k blocks count from the group's first, not from
// the first of all.
template <class Cfg, uint32_t block_k, bool from_group>
struct GroupedKWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = false, b_grouped = false, d_grouped = true, signals = false;
  static constexpr bool ends_within = false, prefetches_c = Cfg::with_c && !Cfg::unaligned_d;
  static_assert(Cfg::split_k == 1, "a group's k is not split");
  const int32_t* ks;
  uint32_t group = 0;
  uint32_t first_block = 0, num_blocks = 0;  // k blocks of the group, counted over all groups
  uint32_t all_blocks, k_group;
  uint32_t num_m, num_n, num_groups, band, m_end;

  __device__ GroupedKWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(0, k_group),
        ks(p.groups.ids),
        all_blocks(p.num_k_blocks),
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
    const uint32_t blocks = k < 0 ? 0 : static_cast<uint32_t>(k) / block_k;
    const uint32_t left = all_blocks - first_block;
    num_blocks = blocks < left ? blocks : left;
    this->k_begin = from_group ? 0 : first_block;
    this->k_end = this->k_begin + align_up(num_blocks, k_group);
  }

  __device__ bool next() {
    const uint32_t tiles = num_m * num_n;
    while (group < num_groups && this->next_idx >= tiles) {
      this->next_idx -= tiles;  // counts from the group's first
      first_block += num_blocks;
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
    return kb < num_blocks ? first_block + kb : all_blocks;
  }
};

}  // namespace dgrt
