// The loading half of MLA over a paged e4m3 cache, which becomes 16 bits in place: four warps load queries and keys.
//
// In place  There is no room beside the tiles. A warp copies 128 bytes of a row, the columns of two boxes, to where the
//           first of the two will have that row, and the rotary columns' 64 to either half of their row; it has read
//           all of a row before it writes what becomes of it. 16-byte neighbours in memory are neighbours in shared
//           memory: apart, each would be a request of its own to L2, and those bind (docs/notes/2026-11-27-mla-decode-fp8.md).
// Order     Two warps fill each slot, with half of a tile's rows each, so that no slot waits for the other. Two boxes
//           of a slot's half (mla_load.cuh) are copied at a time, and made 16 bits as they come.
// Pages     Of any size: rows are found one by one, a tile ahead.
#pragma once
#include "device/main_loop/paged_upcast.cuh"
#include "device/ptx/memory.cuh"
#include "mla/mla_load.cuh"

namespace dgrt {

template <class Cfg>
class MlaUpcastLoader {
  static constexpr uint32_t slot_warps = 2, rows = mla_keys / slot_warps;  // of a warp
  static constexpr uint32_t steps = rows / 4;  // a warp has 128 bytes of four rows at a time
  static_assert(rows == 32, "a lane finds one row");

 public:
  static constexpr uint32_t num_threads = mla_slots * slot_warps * 32, box_fills = slot_warps;

  __device__ MlaUpcastLoader(const MlaParams& p, const MlaSmem& smem, const EvenShare& range, uint32_t warp)
      : p_(p), smem_(smem), walk_(p, range), slot_(warp / slot_warps), first_row_(warp % slot_warps * rows) {}

  __device__ __forceinline__ void run() {
    Ring<1> ring = smem_.q_ring();
#pragma unroll 1
    for (uint32_t index = 0;; ++index) {
      const bool more = walk_.next(segment_);
      if (!more) segment_.parts = 0;
      const int32_t first = segment_.begin + static_cast<int32_t>(slot_);
      if (more) find(first);
      ring.wait_empty();
      load_segment(ring.full(), index);
      ring.advance();
      if (!more) return;
#pragma unroll 1
      for (int32_t tile = first; tile < segment_.end; tile += mla_slots) load_tile(tile);
    }
  }

 private:
  // All threads: what the math warpgroups do next, and its queries. Of e4m3 a thread's 16 bytes are copied to where one
  // half of what becomes of them will be, all of them before it waits. Queries of rows that do not exist are not loaded:
  // scores of whatever is there are not stored.
  __device__ __forceinline__ void load_segment(uint32_t full, uint32_t index) const {
    const uint32_t thread = threadIdx.x % num_threads;
    if (thread == 0) segment_.store(smem_.segment(index));
    if (!segment_.is_end()) {
      const uint64_t first = static_cast<uint64_t>(segment_.q_begin + segment_.first_token) * p_.q_token +
                             segment_.first_head * p_.q_head;
      const auto* q = static_cast<const uint8_t*>(p_.q) + first * Cfg::q_bytes;
      for_q_chunks(thread, [&](uint32_t token, uint32_t head, uint32_t chunk, uint32_t to) {
        ptx::copy_async_b128(to, q + (token * p_.q_token + head * p_.q_head) * Cfg::q_bytes + chunk * 16, 16);
      });
      ptx::copy_async_commit();
      ptx::copy_async_wait<0>();
      if constexpr (Cfg::q_bytes == 1)
        for_q_chunks(thread, [&](uint32_t, uint32_t, uint32_t chunk, uint32_t to) {
          upcast_chunk<mla_dtype<Cfg>>(ptx::load_shared_b32x4(to), to ^ chunk / 4 % 2 * 16, chunk / 4 % 2 != 0);
        });
      ptx::fence_proxy_async();
    }
    ptx::mbarrier_arrive(full);
  }
  // use(token, head, chunk, to): 16 bytes of a query and where they come to; of e4m3 four of eight that lie side by side
  // come to the first half of what becomes of them and four to the second, so that they meet in no bank.
  template <class Use>
  __device__ __forceinline__ void for_q_chunks(uint32_t thread, const Use& use) const {
    constexpr uint32_t chunks = mla_head_dim_qk * Cfg::q_bytes / 16;  // of a row
    const uint32_t count = segment_.tokens(p_) * p_.tile_heads * chunks;
#pragma unroll 2
    for (uint32_t i = thread; i < count; i += num_threads) {
      const uint32_t row = i / chunks, chunk = i - row * chunks;
      const uint32_t token = token_of_row(row, p_.row_scale), head = row - token * p_.tile_heads;
      if (head < static_cast<uint32_t>(segment_.heads))
        use(token, head, chunk,
            smem_.q() + attn_chunk_offset(mla_rows, row, Cfg::q_bytes == 1 ? chunk * 2 + chunk / 4 % 2 : chunk));
    }
  }

  // The page of this lane's row of a tile: nobody waits for the table's entry here.
  __device__ __forceinline__ void find(int32_t tile) {
    const int32_t key = tile * static_cast<int32_t>(mla_keys) + static_cast<int32_t>(first_row_ + threadIdx.x % 32);
    const bool exists = key < segment_.kv_len;
    const uint32_t in_table = exists ? static_cast<uint32_t>(key) / p_.page_size : 0;
    token_ = static_cast<uint32_t>(key) - in_table * p_.page_size;
    page_ = ptx::load_b32_if(exists, p_.page_table + segment_.sequence * p_.table_row + in_table, p_.num_pages);
  }

  __device__ __forceinline__ void load_tile(int32_t tile) {
    const bool exists = page_ < p_.num_pages;
    const uint64_t row = exists ? reinterpret_cast<uint64_t>(p_.k) + segment_.kv_head * p_.k_head +
                                      page_ * p_.k_page + token_ * p_.k_token
                                : 0;
    find(tile + static_cast<int32_t>(mla_slots));
    copy_tile(row, __ballot_sync(0xffffffff, exists));
    phase_ ^= 1;
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
    for (uint32_t half = 0; half < 2; ++half) {
      wait_copies(half);
      const uint32_t first_box = mla_half_box(slot_, half, 0);
#pragma unroll
      for (uint32_t box = 0; box < mla_half_boxes; box += 2) {
        convert_pair(first_box + box);
        const bool last = half == 1 && box + 2 == mla_half_boxes;
        if (last) convert_rotary();
        ptx::fence_proxy_async();
        __syncwarp();
        if (lane < (last ? 3 : 2))
          ptx::mbarrier_arrive(smem_.full(slot_, lane == 2 ? mla_boxes - 1 : first_box + box + lane));
      }
    }
  }

  // Where 16 bytes of one of the warp's rows are in a box.
  __device__ uint32_t chunk_of(uint32_t box, uint32_t row, uint32_t chunk) const {
    return smem_.box(slot_, box) + first_row_ * attn_row_bytes + attn_chunk_offset(mla_keys, row, chunk);
  }
  // The same of a row 4 * step below one of the first four: few registers hold all addresses.
  __device__ static uint32_t below(uint32_t chunk_of_row, uint32_t step) {
    return (chunk_of_row ^ step % 2 * 64) + step * 4 * attn_row_bytes;
  }

  // row: of this lane. Rows that do not exist are zeros.
  __device__ __forceinline__ void copy_tile(uint64_t row, uint32_t exist) const {
    const uint32_t lane = threadIdx.x % 32;
    const auto copy = [](uint32_t to, uint64_t from, uint32_t exists) {
      ptx::copy_async_b128(to, reinterpret_cast<const uint8_t*>(from), exists % 2 * 16);
    };
    uint64_t from[steps];
#pragma unroll
    for (uint32_t i = 0; i < steps; ++i)
      from[i] = __shfl_sync(0xffffffff, row, i * 4 + lane / 8) + lane % 8 * 16;
    uint64_t rotary_from[rows / 8];
#pragma unroll
    for (uint32_t i = 0; i < rows / 8; ++i)
      rotary_from[i] = __shfl_sync(0xffffffff, row, i * 8 + lane / 4) + mla_head_dim_v + lane % 4 * 16;
#pragma unroll 1
    for (uint32_t half = 0; half < 2; ++half) {
      if (half == 1) ptx::copy_async_commit();
      while (!ptx::mbarrier_try_wait(smem_.empty(slot_, half), phase_ ^ 1)) {
      }
      const uint32_t first_box = mla_half_box(slot_, half, 0), to = chunk_of(first_box, lane / 8, lane % 8);
#pragma unroll
      for (uint32_t box = 0; box < mla_half_boxes; box += 2)
#pragma unroll
        for (uint32_t i = 0; i < steps; ++i)
          copy(below(to, i) + box * mla_box_bytes, from[i] + (first_box + box) * attn_box_columns,
               exist >> lane / 8 >> i * 4);
    }
#pragma unroll
    for (uint32_t i = 0; i < rows / 8; ++i)
      copy(rotary_chunk() + i * 8 * attn_row_bytes, rotary_from[i], exist >> lane / 4 >> i * 8);
    ptx::copy_async_commit();
  }
  // Of row lane / 4: two rows that follow each other meet in no bank.
  __device__ uint32_t rotary_chunk() const {
    const uint32_t lane = threadIdx.x % 32;
    return chunk_of(mla_boxes - 1, lane / 4, lane % 4 + lane / 4 % 2 * 4);
  }

  // Those of a half: of all the warp.
  __device__ __forceinline__ static void wait_copies(uint32_t half) {
    if (half == 0)
      ptx::copy_async_wait<1>();
    else
      ptx::copy_async_wait<0>();
    __syncwarp();
  }

  // Eight lanes have 64 columns of two rows, of the first box in one and of the second in the other: neither what they
  // read nor what they write meets in a bank.
  __device__ __forceinline__ void convert_pair(uint32_t box) const {
    const uint32_t lane = threadIdx.x % 32, second = lane / 4 % 2;
    const uint32_t row = lane / 16 * 2 + (second ^ lane / 8 % 2);
    const uint32_t from = chunk_of(box, row, second * 4 + lane % 4);
    const uint32_t to = chunk_of(box, row, lane % 4 * 2) + second * mla_box_bytes;
    convert<steps>([&](uint32_t i) { return below(from, i); }, [&](uint32_t i) { return below(to, i); });
  }
  __device__ __forceinline__ void convert_rotary() const {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t from = rotary_chunk(), to = chunk_of(mla_boxes - 1, lane / 4, lane % 4 * 2);
    convert<rows / 8>([&](uint32_t i) { return from + i * 8 * attn_row_bytes; },
                      [&](uint32_t i) { return to + i * 8 * attn_row_bytes; });
  }
  template <uint32_t count, class From, class To>
  __device__ __forceinline__ static void convert(const From& from, const To& to) {
    uint4 codes[count];
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) codes[i] = ptx::load_shared_b32x4(from(i));
    __syncwarp();
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) upcast_chunk<mla_dtype<Cfg>>(codes[i], to(i), false);
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
