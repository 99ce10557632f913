// The loading half of MLA over a paged cache: one warp fetches key tiles, another queries, and says what the math
// warpgroups have to do.
//
// Order     A slot's boxes come in the order in which they become free and are read: first the columns of v of
//           the warpgroup that computes the tile's scores, then the other's, with the rotary columns, whose box
//           holds the tile's weights after the scores.
// Pages     By TMA in boxes of rows that lie in one page; pages that do not exist are out of bounds, and zeros.
//           Where those boxes would be too small, by copies of 16 bytes.
#pragma once
#include "device/main_loop/paged_upcast.cuh"
#include "device/ptx/copy_async.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"
#include "device/sched/key_split.cuh"
#include "device/pipeline/mla_smem.cuh"

namespace dgrt {

// One warp.
template <class Cfg>
class MlaKeyLoader {
 public:
  static constexpr uint32_t box_fills = 1;

  __device__ MlaKeyLoader(const MlaParams& p, const MlaSmem& smem, const EvenShare& range)
      : p_(p), smem_(smem), walk_(p, range) {}

  __device__ __forceinline__ void run() {
#pragma unroll 1
    while (walk_.next(segment_)) {
      next_ = find_box(segment_.begin);
#pragma unroll 1
      for (int32_t tile = segment_.begin; tile < segment_.end; ++tile) {
        slot_ = static_cast<uint32_t>(tile - segment_.begin) % mla_slots;
        if (p_.box_rows != 0) {
          load_boxes(next_);
          next_ = find_box(tile + 1);
        } else {
          gather(tile * static_cast<int32_t>(mla_keys));
        }
        phases_ ^= 1u << slot_;
      }
    }
    announce<0>(0, 0);
  }

 private:
  struct Place {
    uint32_t token, page;
  };

  // Of a key that some query of the sequence sees. Pages from num_pages on do not exist. Nobody waits for the table's
  // entry here.
  __device__ __forceinline__ Place find(int32_t key, bool exists) const {
    exists = exists && key < segment_.kv_len;
    const uint32_t in_table = exists ? static_cast<uint32_t>(key) / p_.page_size : 0;
    return {static_cast<uint32_t>(key) - in_table * p_.page_size,
            ptx::load_b32_if(exists, p_.page_table + segment_.sequence * p_.table_row + in_table, p_.num_pages)};
  }

  __device__ __forceinline__ void wait_empty(uint32_t half) const {
    while (!ptx::mbarrier_try_wait(smem_.empty(slot_, half), (phases_ >> slot_ & 1) ^ 1)) {
    }
  }

  // Each lane has some of a tile's rows.
  __device__ __forceinline__ uint32_t box_row() const { return threadIdx.x % 32 * p_.box_rows; }
  __device__ __forceinline__ Place find_box(int32_t tile) const {
    return find(tile * static_cast<int32_t>(mla_keys) + static_cast<int32_t>(box_row()), box_row() < mla_keys);
  }

  __device__ __forceinline__ void load_boxes(const Place& place) const {
    const uint32_t lane = threadIdx.x % 32, row = box_row();
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      wait_empty(half);
      // Who has left the first half has seen the whole of the tile before.
      if (half == 0 && lane < mla_boxes) ptx::mbarrier_arrive_expect_tx(smem_.full(slot_, lane), mla_box_bytes);
      __syncwarp();
      if (row >= mla_keys) continue;
#pragma unroll
      for (uint32_t i = 0; i < mla_half_boxes + half; ++i) {
        const uint32_t box = mla_half_box(slot_, half, i);
        ptx::tma_load_4d(smem_.box(slot_, box) + row * attn_row_bytes, &p_.rows, smem_.full(slot_, box),
                         box * attn_box_columns, place.token, segment_.kv_head, place.page);
      }
    }
    __syncwarp();
  }

  // Says that the boxes on their way are there; `in_flight` later groups may not be. Then those of a half of a
  // slot are on their way: bit 2 * slot + half.
  template <uint32_t in_flight>
  __device__ __forceinline__ void announce(uint32_t slot, uint32_t boxes) {
    if (pending_ != 0) {
      ptx::copy_async_wait<in_flight>();
      ptx::fence_proxy_async();
      __syncwarp();
      const uint32_t box = threadIdx.x % 32;
      if ((pending_ >> box & 1) != 0) ptx::mbarrier_arrive(smem_.full(pending_slot_, box));
    }
    pending_slot_ = slot, pending_ = boxes;
  }

  __device__ __forceinline__ void gather(int32_t first) {
    const uint32_t lane = threadIdx.x % 32;
    uint64_t offsets[2];
    uint32_t exist[2];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const Place place = find(first + static_cast<int32_t>(i * 32 + lane), true);
      exist[i] = __ballot_sync(0xffffffff, place.page < p_.num_pages);
      offsets[i] = place.page < p_.num_pages ? place.page * p_.k_page + place.token * p_.k_token : 0;
    }
    const auto* base = static_cast<const uint16_t*>(p_.k) + segment_.kv_head * p_.k_head + lane % 8 * 8;
#pragma unroll 1
    for (uint32_t half = 0; half < 2; ++half) {
      // The slot may wait for what is on its way.
      if (!ptx::mbarrier_test_wait(smem_.empty(slot_, half), (phases_ >> slot_ & 1) ^ 1)) announce<0>(0, 0);
      wait_empty(half);
      const uint32_t first_box = (slot_ ^ half) * mla_half_boxes;
#pragma unroll 1
      for (uint32_t round = 0; round < mla_keys / 4; ++round) {
        const uint32_t row = round * 4 + lane / 8, in_part = row % 32;
        const uint64_t offset = __shfl_sync(0xffffffff, offsets[0], in_part);
        const uint64_t second_offset = __shfl_sync(0xffffffff, offsets[1], in_part);
        const uint16_t* from = base + (row < 32 ? offset : second_offset);
        const uint32_t bytes = ((row < 32 ? exist[0] : exist[1]) >> in_part & 1) * 16;
        const uint32_t to = smem_.box(slot_, 0) + attn_chunk_offset(mla_keys, row, lane % 8);
        const auto copy = [&](uint32_t box) {
          ptx::copy_async_b128(to + box * mla_box_bytes, from + box * attn_box_columns, bytes);
        };
#pragma unroll
        for (uint32_t i = 0; i < mla_half_boxes; ++i) copy(first_box + i);
        if (half == 1) copy(mla_boxes - 1);
      }
      ptx::copy_async_commit();
      announce<1>(slot_, ((1u << mla_half_boxes) - 1) << first_box | (half == 1 ? 1u << (mla_boxes - 1) : 0));
    }
  }

  const MlaParams& p_;
  const MlaSmem& smem_;
  KeyWalk<Cfg> walk_;
  KeySegment segment_;
  Place next_;  // of this lane's box of the next tile
  uint32_t slot_ = 0, phases_ = 0;              // a bit for each slot
  uint32_t pending_ = 0, pending_slot_ = 0;     // boxes that are being gathered
};

// One thread: what the math warpgroups do next, and its queries by TMA. Rows that do not exist get whatever lies there
// or nothing: their scores are not stored.
__device__ __forceinline__ void send_mla_segment(const MlaParams& p, const MlaSmem& smem, uint32_t full,
                                                 const KeySegment& s, uint32_t index) {
  s.store(smem.segment(index));
  const uint32_t boxes = s.is_end() ? 0 : ceil_div(s.tokens(p), p.q_box_tokens);
  const uint32_t box_bytes = p.q_box_tokens * p.tile_heads * attn_row_bytes;
  ptx::mbarrier_arrive_expect_tx(full, boxes * mla_boxes * box_bytes);
  uint32_t token = s.q_begin + s.first_token, to = smem.q();
#pragma unroll 1
  for (uint32_t i = 0; i < boxes; ++i) {
#pragma unroll 1
    for (uint32_t box = 0; box < mla_boxes; ++box)
      ptx::tma_load_3d(to + box * mla_box_bytes, &p.q_map, full, box * attn_box_columns, s.first_head, token);
    token += p.q_box_tokens, to += box_bytes;
  }
}

// One warp.
template <class Cfg>
class MlaQueryLoader {
 public:
  __device__ MlaQueryLoader(const MlaParams& p, const MlaSmem& smem, const EvenShare& range)
      : p_(p), smem_(smem), walk_(p, range) {}

  __device__ __forceinline__ void run() {
    Ring<1> ring = smem_.q_ring();
#pragma unroll 1
    for (uint32_t index = 0;; ++index) {
      KeySegment segment;
      const bool more = walk_.next(segment);
      if (!more) segment.parts = 0;
      ring.wait_empty();
      if (threadIdx.x % 32 == 0) send_mla_segment(p_, smem_, ring.full(), segment, index);
      ring.advance();
      if (!more) return;
    }
  }

 private:
  const MlaParams& p_;
  const MlaSmem& smem_;
  KeyWalk<Cfg> walk_;
};

}  // namespace dgrt
