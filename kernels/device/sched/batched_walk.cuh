// Tiles of several products of one shape. Batches take turns of `turn` tiles each, which divides the
// tiles of a batch: all of them, or, where the batches lie side by side in the rows of a matrix, one
// row of tiles, so that what is in flight covers whole rows of memory.
#pragma once
#include "device/sched/tile_walk.cuh"

namespace dgrt {

template <class Cfg>
struct BatchedWalk : TileWalk<Cfg> {
  static constexpr bool a_grouped = true, b_grouped = true, d_grouped = true, signals = false;
  static constexpr bool ends_within = false;
  uint32_t group = 0;
  uint32_t num_m, num_n, num_groups, turn, band, m_end;

  __device__ BatchedWalk(const GemmParams& p, uint32_t k_group)
      : TileWalk<Cfg>(p.num_k_blocks, k_group),
        num_m(this->count_m(p.out.m)),
        num_n(this->count_n(p.out.n)),
        num_groups(p.groups.count),
        turn(p.groups.turn),
        band(p.band),
        m_end(p.out.m) {}

  __device__ bool next() {
    const uint32_t round = this->next_idx / (turn * num_groups);
    if (round * turn >= num_m * num_n) return false;
    const uint32_t in_round = this->next_idx - round * turn * num_groups;
    group = in_round / turn;
    this->place(round * turn + in_round % turn, num_m, num_n, band);
    this->next_idx += this->step;
    return true;
  }
};

}  // namespace dgrt
