// Gathers rows of queries, and key tiles out of a paged cache, into boxes of 64 columns or packed rows
// (attn_tile.cuh), by copies of 16 bytes: any page size, any strides. All threads of a CTA load. Every warp has
// rows of its own, and every lane finds the page of one of them.
// Keys that no row of the tile may see are zeros, not loads: what lies there may be NaN.
#pragma once
#include "device/main_loop/paged_upcast.cuh"
#include "device/ptx/copy_async.cuh"
#include "device/ptx/memory.cuh"
#include "device/sched/key_split.cuh"
#include "device/sched/page_check.cuh"

namespace dgrt {

// All threads of the grid.
template <class Cfg>
__device__ __forceinline__ void check_table(const AttnPagedParams& p) {
  if constexpr (Cfg::check_pages)
    check_pages<Cfg::new_keys>(p, [&](uint32_t sequence) { return PagedSequence<Cfg>(p, sequence); });
}

// By plain loads: to wait for copies of its own, a thread would have to wait for all key tiles on their way.
// Rows that do not exist keep what was there: they are rows of scores that nobody stores.
template <class Cfg, uint32_t num_threads>
__device__ __forceinline__ void load_queries(const AttnPagedParams& p, const KeySegment& s, uint32_t to) {
  constexpr uint32_t chunks = ceil_div(Cfg::head_dim_qk, 8), count = Cfg::block_m * chunks;
  constexpr uint32_t at_once = count < 4 * num_threads ? ceil_div(count, num_threads) : 4;
  const auto* q = static_cast<const uint16_t*>(p.q) +
                  static_cast<uint64_t>(s.q_begin + s.first_token) * p.q_token + s.first_head * p.q_head;
#pragma unroll 1
  for (uint32_t first = threadIdx.x; first < count; first += at_once * num_threads) {
    int4 values[at_once];
    bool exists[at_once];
#pragma unroll
    for (uint32_t j = 0; j < at_once; ++j) {
      const uint32_t i = first + j * num_threads, row = i / chunks, chunk = i % chunks;
      const uint32_t token = token_of_row(row, p.row_scale), head = row - token * p.tile_heads;
      exists[j] = i < count && token < s.tokens(p) && head < s.heads;
      values[j] = make_int4(0, 0, 0, 0);
      if (exists[j] && chunk * 8 < p.qk_columns)
        values[j] = ptx::load_stream_s32x4(q + token * p.q_token + head * p.q_head + chunk * 8);
    }
#pragma unroll
    for (uint32_t j = 0; j < at_once; ++j) {
      const uint32_t i = first + j * num_threads;
      if (exists[j])
        ptx::store_shared_s32x4(to + attn_chunk_offset(Cfg::block_m, i / chunks, i % chunks), values[j]);
    }
  }
}

// Walk: KeyWalk, ClusterWalk.
template <class Cfg, uint32_t num_threads, class Walk>
class PagedLoader {
 public:
  // segments: shared memory for as many as there are stages, and one.
  __device__ PagedLoader(const AttnPagedParams& p, const Walk& walk, uint32_t segments)
      : p_(p), walk_(walk), segments_(segments) {}

  // Segments whose loads have begun, or will with the next tile. Published by the next barrier.
  __device__ uint32_t num_segments() const { return num_segments_; }
  __device__ uint32_t segment_at(uint32_t index) const {
    return segments_ + index % (Cfg::stages + 1) * attn_paged_segment_bytes;
  }

  // Issues the copies of the next key tile, if there is one, and commits a group in any case. The first
  // call only looks for a tile.
  __device__ __forceinline__ void issue(uint32_t k_to, uint32_t v_to) {
    if (!done_) {
      uint64_t k_row, v_row;
      const uint32_t valid = __ballot_sync(0xffffffff, locate(k_row, v_row));
      copy<Cfg::head_dim_qk>(k_to, static_cast<const uint8_t*>(p_.k) + segment_.kv_head * p_.k_head * Cfg::kv_bytes,
                             k_row, valid, p_.qk_columns);
      copy<Cfg::head_dim_v>(v_to, static_cast<const uint8_t*>(p_.v) + segment_.kv_head * p_.v_head * Cfg::kv_bytes,
                            v_row, valid, p_.v_columns);
    }
    if (++tile_ < end_) {
      find_page();
    } else {
      enter();
    }
    ptx::copy_async_commit();
  }

 private:
  static constexpr uint32_t rows = Cfg::block_n / (num_threads / 32);  // of a warp
  static_assert(rows * (num_threads / 32) == Cfg::block_n && rows <= 32, "a lane finds one row's page");
  static_assert(!Cfg::new_keys || Cfg::kv_bytes == 2, "new keys are of 16 bits, as the cache's");

  __device__ __forceinline__ void enter() {
    done_ = !walk_.next(segment_);
    if (done_) return;
    if (threadIdx.x == 0) segment_.store(segment_at(num_segments_));
    ++num_segments_;
    tile_ = segment_.begin, end_ = segment_.end;
    key_first_ = segment_.key_first(p_);
    key_end_ = segment_.key_end(p_);
    find_page();
    prefetch_queries();
  }

  // They are loaded when the segment begins, and waited for.
  __device__ __forceinline__ void prefetch_queries() const {
    constexpr uint32_t lines = ceil_div(Cfg::head_dim_qk * 2, 128), count = Cfg::block_m * lines;
    const KeySegment& s = segment_;
    const auto* q = static_cast<const uint16_t*>(p_.q) +
                    static_cast<uint64_t>(s.q_begin + s.first_token) * p_.q_token + s.first_head * p_.q_head;
#pragma unroll
    for (uint32_t i = threadIdx.x; i < count; i += num_threads) {
      const uint32_t row = i / lines, line = i % lines;
      const uint32_t token = token_of_row(row, p_.row_scale), head = row - token * p_.tile_heads;
      if (token < s.tokens(p_) && head < s.heads && line * 64 < p_.qk_columns)
        ptx::prefetch_l2(q + token * p_.q_token + head * p_.q_head + line * 64);
    }
  }

  __device__ __forceinline__ uint32_t own_row() const { return threadIdx.x / 32 * rows + threadIdx.x % rows; }

  __device__ __forceinline__ int32_t own_key() const {
    return tile_ * static_cast<int32_t>(Cfg::block_n) + static_cast<int32_t>(own_row());
  }

  // A tile ahead: the table's entry is there when it is needed.
  __device__ __forceinline__ void find_page() {
    const int32_t key = own_key();
    page_ = -1;
    if (key < key_first_ || key >= (Cfg::new_keys ? min(key_end_, segment_.offset()) : key_end_)) return;
    const uint32_t in_table = static_cast<uint32_t>(key) / p_.page_size;
    slot_ = static_cast<uint32_t>(key) - in_table * p_.page_size;
    page_ = p_.page_table[segment_.sequence * p_.table_row + in_table];
  }

  // Of the lane's row: its elements' offset in k and v. False: no key, or none that the cache has.
  __device__ __forceinline__ bool locate(uint64_t& k_row, uint64_t& v_row) const {
    if constexpr (Cfg::new_keys) {
      const int32_t key = own_key(), token = key - segment_.offset();
      if (token >= 0 && key >= key_first_ && key < key_end_) {
        const auto row = static_cast<uint64_t>(segment_.q_begin + token);
        const auto head = static_cast<uint64_t>(segment_.kv_head);
        k_row = p_.k_new + row * p_.k_new_token + head * (p_.k_new_head - p_.k_head);  // copy() adds the cache's
        v_row = p_.v_new + row * p_.v_new_token + head * (p_.v_new_head - p_.v_head);
        return true;
      }
    }
    const auto page = static_cast<uint32_t>(page_);
    const bool valid = page < p_.num_pages;
    k_row = valid ? page * p_.k_page + slot_ * p_.k_token : 0;
    v_row = valid ? page * p_.v_page + slot_ * p_.v_token : 0;
    return valid;
  }

  template <uint32_t columns>
  __device__ __forceinline__ void copy(uint32_t to, const uint8_t* from, uint64_t own, uint32_t valid,
                                       uint32_t real_columns) const {
    constexpr uint32_t width = 16 / Cfg::kv_bytes, chunks = ceil_div(columns, width), count = rows * chunks;
#pragma unroll
    for (uint32_t i = 0; i < count; i += 32) {
      const uint32_t at = i + threadIdx.x % 32, row = at / chunks, chunk = at % chunks;
      const uint64_t offset = __shfl_sync(0xffffffff, own, row);
      if (count % 32 != 0 && at >= count) continue;
      const bool real = (valid >> row & 1) != 0 && chunk * width < real_columns;
      const uint32_t of_tile = threadIdx.x / 32 * rows + row;
      const uint32_t place = Cfg::block_m == attn_team_rows ? packed_chunk_offset(chunks, of_tile, chunk)
                             : Cfg::kv_bytes == 1           ? raw_chunk_offset(count, at)
                                                            : attn_chunk_offset(Cfg::block_n, of_tile, chunk);
      // The other half of a line may be another head's, which other CTAs read at another time.
      constexpr uint32_t l2 = columns * Cfg::kv_bytes % 128 == 0 ? 128 : 64;
      ptx::copy_async_b128<l2>(to + place, from + (offset + chunk * width) * Cfg::kv_bytes, real ? 16 : 0);
    }
  }

  const AttnPagedParams& p_;
  Walk walk_;
  KeySegment segment_;
  uint32_t segments_, num_segments_ = 0, slot_ = 0;
  int32_t tile_ = 0, end_ = 0, page_ = 0, key_first_ = 0, key_end_ = 0;
  bool done_ = true;  // there is no tile
};

}  // namespace dgrt
