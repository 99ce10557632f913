// Who works on which keys of a small paged batch: a sequence and key head is the work of one cluster of CTAs, which
// take equal numbers of its tiles. Nobody adds up lengths, and parts meet in shared memory. Sequences of unlike
// lengths take as long as the longest: not for large batches. Rows are expected to make one tile.
#pragma once
#include "device/ptx/cluster.cuh"
#include "device/sched/key_split.cuh"

namespace dgrt {

template <class Cfg>
class ClusterWalk {
 public:
  __device__ explicit ClusterWalk(const AttnPagedParams& p) : p_(p), head_(blockIdx.x / Cfg::cluster) { enter(); }

  // False after the last segment. All CTAs of a cluster have as many, of as many tiles: those past a sequence's
  // last are empty.
  __device__ __forceinline__ bool next(KeySegment& segment) {
    while (row_tile_ >= row_tiles_) {
      if (head_ >= num_heads()) return false;
      head_ += gridDim.x / Cfg::cluster;
      enter();
    }
    const uint32_t sequence = head_ / p_.num_kv_heads;
    now_.place(p_, segment, sequence, head_ - sequence * p_.num_kv_heads, row_tile_++);
    const uint32_t each = ceil_div(now_.num_tiles(p_), Cfg::cluster), rank = blockIdx.x % Cfg::cluster;
    segment.begin = now_.first_tile(p_) + static_cast<int32_t>(rank * each);
    segment.end = segment.begin + static_cast<int32_t>(each);
    segment.part = 0, segment.parts = 1;
    segment.first_slot = segment.second_slot = segment.slot_step = 0;
    return true;
  }

 private:
  using Sequence = PagedSequence<Cfg>;

  __device__ uint32_t num_heads() const { return p_.batch * p_.num_kv_heads; }
  __device__ __forceinline__ void enter() {
    row_tile_ = row_tiles_ = 0;
    if (head_ >= num_heads()) return;
    now_ = Sequence(p_, head_ / p_.num_kv_heads);
    row_tiles_ = now_.row_tiles(p_);
  }

  const AttnPagedParams& p_;
  uint32_t head_, row_tile_ = 0, row_tiles_ = 0;  // head_: of keys, counted through all sequences
  Sequence now_;
};

}  // namespace dgrt
