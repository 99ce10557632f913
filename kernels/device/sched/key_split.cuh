// Who works on which keys of a paged batch. A unit is a row tile of one sequence and key head; it costs its
// key tiles and one more for what comes with a unit. All units, sequence by sequence, make one axis, of
// which every CTA takes a range of the same length: long sequences are shared, short ones come several to
// a CTA. Lengths are read on the device, and every CTA finds its range alone: no plan to make beforehand,
// and lengths may change between replays of a graph.
//
// Parts      A unit that ranges cut is the work of consecutive CTAs; the cut depends on lengths and grid
//            alone. A CTA has at most two cut units, its first and its last: each has a slot for its part.
// Invariant  With Cfg::invariant a unit is cut as its own length says, and costs its parts: ranges never
//            cut a part.
#pragma once
#include "device/common/attn_paged_params.cuh"
#include "device/ptx/shared.cuh"

namespace dgrt {

// Consecutive key tiles of a unit, and where the unit's parts are.
struct KeySegment {
  int32_t q_begin, q_len, kv_len;
  int32_t first_token;                 // of the row tile, among the sequence's
  int32_t first_head, heads;           // query heads of the row tile
  int32_t kv_head, sequence;
  int32_t begin, end;                  // key tiles
  uint32_t part, parts;                // this one, of so many
  uint32_t first_slot, second_slot;    // of the first two parts; further ones are slot_step apart
  uint32_t slot_step;

  __device__ int32_t offset() const { return kv_len - q_len; }
  __device__ uint32_t tokens(const AttnPagedParams& p) const {
    return min(static_cast<int32_t>(p.tile_tokens), q_len - first_token);
  }
  // Keys [key_first, key_end) are all that some row may see.
  __device__ int32_t key_first(const AttnPagedParams& p) const {
    return max(offset() + first_token - p.window_left, 0);
  }
  __device__ int32_t key_end(const AttnPagedParams& p) const {
    return min(offset() + first_token + static_cast<int32_t>(tokens(p)) + p.window_right, kv_len);
  }
  __device__ uint32_t slot_of(uint32_t index) const {
    return index == 0 ? first_slot : second_slot + (index - 1) * slot_step;
  }

  // attn_paged_segment_bytes.
  __device__ void store(uint32_t to) const {
    ptx::store_shared_s32x4(to, make_int4(q_begin, q_len, kv_len, first_token));
    ptx::store_shared_s32x4(to + 16, make_int4(first_head, heads, kv_head, sequence));
    ptx::store_shared_s32x4(to + 32, make_int4(begin, end, part, parts));
    ptx::store_shared_s32x4(to + 48, make_int4(first_slot, second_slot, slot_step, 0));
  }
  __device__ void load(uint32_t from) {
    const int4 a = ptx::load_shared_s32x4(from), b = ptx::load_shared_s32x4(from + 16);
    const int4 c = ptx::load_shared_s32x4(from + 32), d = ptx::load_shared_s32x4(from + 48);
    q_begin = a.x, q_len = a.y, kv_len = a.z, first_token = a.w;
    first_head = b.x, heads = b.y, kv_head = b.z, sequence = b.w;
    begin = c.x, end = c.y, part = c.z, parts = c.w;
    first_slot = d.x, second_slot = d.y, slot_step = d.z;
  }
};

// What a sequence has, from lengths that may be anything.
template <class Cfg>
struct PagedSequence {
  static constexpr uint32_t overhead = Cfg::invariant ? 0 : 1;

  int32_t q_begin = 0, q_len = 0, kv_len = 0;

  __device__ PagedSequence() {}
  __device__ PagedSequence(const AttnPagedParams& p, uint32_t sequence) {
    const auto total = static_cast<int32_t>(p.total_q);
    q_begin = min(max(p.q_indptr[sequence], 0), total);
    q_len = max(min(p.q_indptr[sequence + 1], total) - q_begin, 0);
    q_len = min(q_len, static_cast<int32_t>(p.max_q_len));
    kv_len = min(max(p.seq_lens[sequence], 0), static_cast<int32_t>(p.max_kv_len));
  }
  // Position of the first query among the keys; negative if there are more queries than keys.
  __device__ int32_t offset() const { return kv_len - q_len; }
  // Key tiles that some query may see; one that nobody sees, if there are none.
  __device__ int32_t first_tile(const AttnPagedParams& p) const {
    return max(offset() - p.window_left, 0) / static_cast<int32_t>(Cfg::block_n);
  }
  __device__ uint32_t num_tiles(const AttnPagedParams& p) const {
    const auto end = static_cast<int32_t>(ceil_div(static_cast<uint32_t>(kv_len), Cfg::block_n));
    return static_cast<uint32_t>(max(end - first_tile(p), 1));
  }
  // Key tiles of an indivisible part.
  __device__ static uint32_t part_tiles(uint32_t num_tiles) {
    if (!Cfg::invariant) return 1;
    return max(attn_invariant_keys / Cfg::block_n, ceil_div(num_tiles, attn_invariant_parts));
  }
  __device__ uint32_t row_tiles(const AttnPagedParams& p) const {
    return ceil_div(q_len, p.tile_tokens) * p.head_tiles;
  }
  __device__ uint32_t units(const AttnPagedParams& p) const { return row_tiles(p) * p.num_kv_heads; }
  __device__ uint32_t unit_cost(const AttnPagedParams& p) const {
    const uint32_t tiles = num_tiles(p);
    return ceil_div(tiles, part_tiles(tiles)) + overhead;
  }
  __device__ uint32_t cost(const AttnPagedParams& p) const { return units(p) * unit_cost(p); }
  // The rows of a segment.
  __device__ __forceinline__ void place(const AttnPagedParams& p, KeySegment& s, uint32_t sequence, uint32_t kv_head,
                                        uint32_t row_tile) const {
    const uint32_t token_tile = row_tile / p.head_tiles;
    const uint32_t group_head = (row_tile - token_tile * p.head_tiles) * p.tile_heads;
    s.q_begin = q_begin, s.q_len = q_len, s.kv_len = kv_len;
    s.sequence = static_cast<int32_t>(sequence);
    s.kv_head = static_cast<int32_t>(kv_head);
    s.first_token = static_cast<int32_t>(token_tile * p.tile_tokens);
    s.first_head = static_cast<int32_t>(kv_head * p.group + group_head);
    s.heads = static_cast<int32_t>(min(p.tile_heads, p.group - group_head));
  }
};

struct KeyRangeOfCta {
  uint32_t begin, end;      // of this CTA
  uint32_t length;          // of every CTA's
  uint32_t sequence, base;  // the one that `begin` lies in, and where it starts
};

__device__ __forceinline__ uint32_t warp_prefix_sum(uint32_t x) {
#pragma unroll
  for (uint32_t distance = 1; distance < 32; distance *= 2) {
    const uint32_t before = __shfl_up_sync(0xffffffff, x, distance);
    if (threadIdx.x % 32 >= distance) x += before;
  }
  return x;
}

// All threads of a warp: which sequence from `first` on, that starts at `base`, `at` lies in, and where it
// starts, to shared memory. 32 side by side, so that a large batch's lengths are read in whole lines.
template <class Cfg>
__device__ __forceinline__ void find_sequence(const AttnPagedParams& p, uint32_t at, uint32_t base, uint32_t first,
                                              uint32_t last, uint32_t to) {
#pragma unroll 1
  for (;; first += 32) {
    const uint32_t sequence = first + threadIdx.x % 32;
    const uint32_t cost = sequence < last ? PagedSequence<Cfg>(p, sequence).cost(p) : 0;
    const uint32_t end = base + warp_prefix_sum(cost), start = end - cost;
    if (at >= start && at < end) {
      ptx::store_shared_u32(to, sequence);
      ptx::store_shared_u32(to + 4, start);
    }
    base = __shfl_sync(0xffffffff, end, 31);
    if (at < base) return;
  }
}

// All threads of the CTA. scratch: attn_paged_scratch_bytes of shared memory.
template <class Cfg, uint32_t num_threads>
__device__ KeyRangeOfCta find_range(const AttnPagedParams& p, uint32_t scratch) {
  using Sequence = PagedSequence<Cfg>;
  const uint32_t lane = threadIdx.x % 32, each = ceil_div(p.batch, num_threads) * 32;  // of a warp
  const uint32_t first = min(threadIdx.x / 32 * each, p.batch), last = min(first + each, p.batch);
  uint32_t own = 0;
#pragma unroll 4
  for (uint32_t i = first + lane; i < last; i += 32) own += Sequence(p, i).cost(p);
  own = __reduce_add_sync(0xffffffff, own);
  if (lane == 0) ptx::store_shared_u32(scratch + threadIdx.x / 32 * 4, own);
  __syncthreads();
  uint32_t total = 0, base = 0;
#pragma unroll
  for (uint32_t warp = 0; warp < num_threads / 32; ++warp) {
    const uint32_t sum = ptx::load_shared_u32(scratch + warp * 4);
    if (warp < threadIdx.x / 32) base += sum;
    total += sum;
  }
  KeyRangeOfCta range;
  range.length = max(ceil_div(total, gridDim.x), 1u);
  range.begin = min(blockIdx.x * range.length, total);
  range.end = min(range.begin + range.length, total);
  if (range.begin >= base && range.begin < base + own)
    find_sequence<Cfg>(p, range.begin, base, first, last, scratch + 32);
  __syncthreads();
  range.sequence = ptx::load_shared_u32(scratch + 32);
  range.base = ptx::load_shared_u32(scratch + 36);
  return range;
}

template <class Cfg>
class KeyWalk {
 public:
  __device__ KeyWalk(const AttnPagedParams& p, const KeyRangeOfCta& range)
      : p_(p), range_(range), at_(range.begin), sequence_(range.sequence - 1), base_(range.base) {}

  // False after the last segment.
  __device__ __forceinline__ bool next(KeySegment& segment) {
    while (at_ < range_.end) {
      while (at_ >= base_ + units_ * cost_) {
        base_ += units_ * cost_;
        ++sequence_;
        enter();
      }
      const uint32_t unit = (at_ - base_) / cost_, start = base_ + unit * cost_, from = at_;
      at_ = Cfg::invariant ? from + 1 : min(range_.end, start + cost_);
      if (at_ <= start + Sequence::overhead) continue;  // no keys
      const uint32_t row_tiles = now_.row_tiles(p_), kv_head = unit / row_tiles;
      now_.place(p_, segment, sequence_, kv_head, unit - kv_head * row_tiles);
      cut(segment, start, from);
      return true;
    }
    return false;
  }

 private:
  using Sequence = PagedSequence<Cfg>;

  __device__ __forceinline__ void enter() {
    now_ = Sequence(p_, sequence_);
    units_ = now_.units(p_);
    cost_ = now_.unit_cost(p_);
  }

  __device__ __forceinline__ void cut(KeySegment& s, uint32_t start, uint32_t from) const {
    const auto first = static_cast<uint32_t>(now_.first_tile(p_));
    if constexpr (Cfg::invariant) {
      const uint32_t tiles = now_.num_tiles(p_), each = Sequence::part_tiles(tiles);
      s.part = from - start, s.parts = cost_;
      s.begin = static_cast<int32_t>(first + s.part * each);
      s.end = static_cast<int32_t>(first + min((s.part + 1) * each, tiles));
      s.first_slot = start, s.second_slot = start + 1, s.slot_step = 1;
      return;
    }
    const uint32_t keys = start + Sequence::overhead;
    s.begin = static_cast<int32_t>(first + max(from, keys) - keys);
    s.end = static_cast<int32_t>(first + at_ - keys);
    const uint32_t first_cta = keys / range_.length, last_cta = (start + cost_ - 1) / range_.length;
    s.part = blockIdx.x - first_cta, s.parts = last_cta - first_cta + 1;
    // The first CTA may have begun with another unit; the others begin with this one.
    s.first_slot = 2 * first_cta + (start > first_cta * range_.length ? 1 : 0);
    s.second_slot = 2 * (first_cta + 1), s.slot_step = 2;
  }

  const AttnPagedParams& p_;
  const KeyRangeOfCta range_;
  uint32_t at_, sequence_, base_;  // sequence_: before the first one, which costs nothing
  uint32_t units_ = 0, cost_ = 1;
  Sequence now_;
};

}  // namespace dgrt
