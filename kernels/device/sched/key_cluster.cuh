// Who works on which keys of a small paged batch: a unit (key_split.cuh) is the work of one cluster of CTAs, which
// take equal numbers of its tiles. Nobody adds up lengths, and parts meet in shared memory. Sequences of unlike
// lengths take as long as the longest: not for large batches.
#pragma once
#include "device/ptx/cluster.cuh"
#include "device/sched/key_split.cuh"

namespace dgrt {

// Units are numbered sequence by sequence, head by head, and have grid_row_tiles to a head, from the first on; one
// that is too few stands for those as many further on, too.
template <class Cfg>
class ClusterWalk {
 public:
  __device__ explicit ClusterWalk(const AttnPagedParams& p) : p_(p), unit_(blockIdx.x / Cfg::cluster) { enter(); }

  // False after the last segment. All CTAs of a cluster have as many, of as many tiles: those past a sequence's
  // last are empty.
  __device__ __forceinline__ bool next(KeySegment& segment) {
    while (row_tile_ >= row_tiles_) {
      if (unit_ >= num_units()) return false;
      unit_ += gridDim.x / Cfg::cluster;
      enter();
    }
    now_.place(p_, segment, sequence_, kv_head_, row_tile_);
    row_tile_ += p_.grid_row_tiles;
    const uint32_t each = ceil_div(now_.num_tiles(p_), Cfg::cluster), rank = blockIdx.x % Cfg::cluster;
    segment.begin = now_.first_tile(p_) + static_cast<int32_t>(rank * each);
    segment.end = segment.begin + static_cast<int32_t>(each);
    segment.part = 0, segment.parts = 1;
    segment.first_slot = segment.second_slot = segment.slot_step = 0;
    return true;
  }

 private:
  using Sequence = PagedSequence<Cfg>;

  __device__ uint32_t num_units() const { return p_.batch * p_.num_kv_heads * p_.grid_row_tiles; }
  __device__ __forceinline__ void enter() {
    row_tile_ = row_tiles_ = 0;
    if (unit_ >= num_units()) return;
    const uint32_t head = unit_ / p_.grid_row_tiles;
    sequence_ = head / p_.num_kv_heads, kv_head_ = head - sequence_ * p_.num_kv_heads;
    now_ = Sequence(p_, sequence_);
    row_tile_ = unit_ - head * p_.grid_row_tiles, row_tiles_ = now_.row_tiles(p_);
  }

  const AttnPagedParams& p_;
  uint32_t unit_, sequence_ = 0, kv_head_ = 0, row_tile_ = 0, row_tiles_ = 0;
  Sequence now_;
};

}  // namespace dgrt
