// Where a CTA of MLA keeps its tiles, and which barriers say that they are there or free again.
#pragma once
#include "device/pipeline/ring.cuh"
#include "device/common/mla_tile.cuh"

namespace dgrt {

// Box number `index`, of 4 or 5, of one half of a slot. The half that comes first has the columns of v that
// belong to the warpgroup of the slot.
__device__ __forceinline__ uint32_t mla_half_box(uint32_t slot, uint32_t half, uint32_t index) {
  return index == mla_half_boxes ? mla_boxes - 1 : (slot ^ half) * mla_half_boxes + index;
}

struct MlaSmem {
  using Layout = MlaSmemLayout;
  uint32_t base;

  __device__ uint32_t q() const { return base; }
  __device__ uint32_t box(uint32_t slot, uint32_t box) const {
    return base + Layout::keys + (slot * mla_boxes + box) * mla_box_bytes;
  }
  // The largest score of each row so far, after the tile in the slot.
  __device__ uint32_t most(uint32_t slot, uint32_t row) const {
    return base + Layout::most + (slot * mla_rows + row) * 4;
  }
  // Sums of each row's weights, of the tiles of one warpgroup.
  __device__ uint32_t sum(uint32_t segment, uint32_t warpgroup, uint32_t row) const {
    return base + Layout::sums + ((segment % 2 * 2 + warpgroup) * mla_rows + row) * 4;
  }
  __device__ uint32_t segment(uint32_t index) const {
    return base + Layout::segments + index % 2 * attn_paged_segment_bytes;
  }
  __device__ uint32_t scratch() const { return base + Layout::scratch; }
  __device__ Ring<1> q_ring() const { return Ring<1>(base + Layout::barriers); }
  __device__ uint32_t full(uint32_t slot, uint32_t box) const {
    return base + Layout::barriers + (2 + slot * (mla_boxes + 2) + box) * 8;
  }
  // half: of the slot's boxes, in the order of their loads.
  __device__ uint32_t empty(uint32_t slot, uint32_t half) const { return full(slot, mla_boxes + half); }

  // One thread of each warp that has read the half.
  __device__ void release(uint32_t slot, uint32_t half) const { ptx::mbarrier_arrive(empty(slot, half)); }

  // Each box comes by itself, whichever it is in the order of their loads.
  __device__ void wait_box(uint32_t slot, uint32_t box, uint32_t, uint32_t phase) const {
    while (!ptx::mbarrier_try_wait(full(slot, box), phase)) {
    }
  }

  // One thread. Arrivals that fill q, and a box of keys.
  __device__ void init_barriers(uint32_t q_fills, uint32_t box_fills) const {
    q_ring().init(mla_math_threads / 32, q_fills);
#pragma unroll 1
    for (uint32_t slot = 0; slot < mla_slots; ++slot) {
#pragma unroll 1
      for (uint32_t i = 0; i < mla_boxes; ++i) ptx::mbarrier_init(full(slot, i), box_fills);
      for (uint32_t half = 0; half < 2; ++half) ptx::mbarrier_init(empty(slot, half), 4);
    }
  }
};

}  // namespace dgrt
