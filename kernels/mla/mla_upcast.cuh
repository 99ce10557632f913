// The loading half of MLA over a paged e4m3 cache, which becomes 16 bits in place: four warps load queries and keys.
// There is no room beside the tiles, so a lane's 16 bytes are copied to where their first half will be as 16 bits, and the
// same lane converts them when they are there.
//
// Order     Two warps fill each slot, with half of a tile's rows each, so that no slot waits for the other. Eight lanes
//           have 64 columns of two rows, 16 each: their stores meet in no bank. A warp copies two rows of the four
//           boxes of a slot's half (mla_load.cuh) at a time, and eight rows of the rotary columns.
// Pages     Of any size: rows are found one by one, a tile ahead.
#pragma once
#include "device/main_loop/paged_upcast.cuh"
#include "device/ptx/memory.cuh"
#include "mla/mla_load.cuh"

namespace dgrt {

template <class Cfg>
class MlaUpcastLoader {
  static constexpr uint32_t slot_warps = 2, rows = mla_keys / slot_warps;  // of a warp
  static_assert(rows == 32, "a lane finds one row");
  static_assert(mla_half_boxes == 4, "eight lanes for each box of a half");

 public:
  static constexpr uint32_t num_threads = mla_slots * slot_warps * 32, box_fills = slot_warps;

  __device__ MlaUpcastLoader(const MlaParams& p, const MlaSmem& smem, const EvenShare& range, uint32_t warp)
      : p_(p), smem_(smem), walk_(p, range), slot_(warp / slot_warps), first_row_(warp % slot_warps * rows) {}

  __device__ __forceinline__ void run() {
    Ring<1> ring = smem_.q_ring();
    const uint32_t thread = threadIdx.x % num_threads;
#pragma unroll 1
    for (uint32_t index = 0;; ++index) {
      const bool more = walk_.next(segment_);
      if (!more) segment_.parts = 0;
      ring.wait_empty();
      if (thread == 0) segment_.store(smem_.segment(index));
      if (more) load_mla_queries<Cfg, num_threads>(p_, smem_.q(), segment_, thread);
      ptx::mbarrier_arrive(ring.full());
      ring.advance();
      if (!more) return;
      const int32_t first = segment_.begin + static_cast<int32_t>(slot_);
      find(first);
#pragma unroll 1
      for (int32_t tile = first; tile < segment_.end; tile += mla_slots) load_tile(tile);
    }
  }

 private:
  // The page of this lane's row of a tile: nobody waits for the table's entry here.
  __device__ __forceinline__ void find(int32_t tile) {
    const int32_t key = tile * static_cast<int32_t>(mla_keys) + static_cast<int32_t>(first_row_ + threadIdx.x % 32);
    const bool exists = key < segment_.kv_len;
    const uint32_t in_table = exists ? static_cast<uint32_t>(key) / p_.page_size : 0;
    token_ = static_cast<uint32_t>(key) - in_table * p_.page_size;
    page_ = ptx::load_b32_if(exists, p_.page_table + segment_.sequence * p_.table_row + in_table, p_.num_pages);
  }

  __device__ __forceinline__ void load_tile(int32_t tile) {
    const uint64_t row = page_ < p_.num_pages ? reinterpret_cast<uint64_t>(p_.k) + segment_.kv_head * p_.k_head +
                                                    page_ * p_.k_page + token_ * p_.k_token
                                              : 0;
    find(tile + static_cast<int32_t>(mla_slots));
#pragma unroll 1
    for (uint32_t half = 0; half < 2; ++half) {
      while (!ptx::mbarrier_try_wait(smem_.empty(slot_, half), phase_ ^ 1)) {
      }
      copy(row, half);
      ptx::copy_async_commit();
    }
    phase_ ^= 1;
#pragma unroll 1
    for (uint32_t half = 0; half < 2; ++half) {
      if (half == 0)
        ptx::copy_async_wait<1>();
      else
        ptx::copy_async_wait<0>();
      convert(half);
      ptx::fence_proxy_async();
      __syncwarp();
      const uint32_t lane = threadIdx.x % 32;
      if (lane < mla_half_boxes + half) ptx::mbarrier_arrive(smem_.full(slot_, mla_half_box(slot_, half, lane)));
    }
  }

  // Rows that do not exist are zeros.
  __device__ __forceinline__ void copy(uint64_t row, uint32_t half) const {
    const uint32_t lane = threadIdx.x % 32, part = lane % 4 * 16, box = mla_half_box(slot_, half, lane / 8);
    const auto copy_chunk = [&](uint32_t to, uint32_t in_warp, uint32_t column) {
      const uint64_t from = __shfl_sync(0xffffffff, row, in_warp);
      ptx::copy_async_b128(to, reinterpret_cast<const uint8_t*>(from) + column + part, from != 0 ? 16 : 0);
    };
#pragma unroll 4
    for (uint32_t i = 0; i < rows; i += 2)
      copy_chunk(chunk_of(box, i + lane / 4 % 2), i + lane / 4 % 2, box * attn_box_columns);
    if (half == 0) return;
#pragma unroll
    for (uint32_t i = 0; i < rows; i += 8)
      copy_chunk(chunk_of(mla_boxes - 1, i + lane / 4), i + lane / 4, mla_head_dim_v);
  }
  __device__ __forceinline__ void convert(uint32_t half) const {
    const uint32_t lane = threadIdx.x % 32, box = mla_half_box(slot_, half, lane / 8);
#pragma unroll 1
    for (uint32_t i = 0; i < rows; i += 8)
      upcast_4([&](uint32_t j) { return chunk_of(box, i + j * 2 + lane / 4 % 2); });
    if (half == 1) upcast_4([&](uint32_t j) { return chunk_of(mla_boxes - 1, j * 8 + lane / 4); });
  }
  template <class ChunkOf>
  __device__ __forceinline__ void upcast_4(const ChunkOf& chunk_of) const {
    uint4 codes[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) codes[j] = ptx::load_shared_b32x4(chunk_of(j));
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) upcast_chunk<mla_dtype<Cfg>>(codes[j], chunk_of(j), false);
  }

  // Where this lane's 16 columns of a row of the warp begin, as 16 bits.
  __device__ __forceinline__ uint32_t chunk_of(uint32_t box, uint32_t in_warp) const {
    return smem_.box(slot_, box) + attn_chunk_offset(mla_keys, first_row_ + in_warp, threadIdx.x % 4 * 2);
  }

  const MlaParams& p_;
  const MlaSmem& smem_;
  KeyWalk<Cfg> walk_;
  KeySegment segment_;
  const uint32_t slot_, first_row_;  // of this warp
  uint32_t page_, token_;            // of the next tile
  uint32_t phase_ = 0;               // of the slot
};

}  // namespace dgrt
