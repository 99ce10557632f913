// Who works on which keys of a paged batch. A unit is a row tile of one sequence and key head; it costs its
// key tiles and one more for what comes with a unit. All units, sequence by sequence, make one axis, of
// which every CTA takes an even share: long sequences are shared, short ones come several to a CTA.
//
// Lanes      With Cfg::row_lanes so many neighbouring CTAs (lanes) take the same range together, a row tile of a
//            sequence each, and read its keys from memory once. Units are then row_lanes tiles.
// Parts      A unit that ranges cut is the work of consecutive CTAs; the cut depends on lengths and grid
//            alone. A CTA has at most two cut units, its first and its last: each has a slot for its part.
// Invariant  With Cfg::invariant a unit is cut as its own length says, and costs its parts: ranges never
//            cut a part. attn_whole_units: a unit is one part.
#pragma once
#include "device/common/attn_paged_params.cuh"
#include "device/ptx/shared.cuh"
#include "device/sched/even_share.cuh"
#include "device/sched/new_keys.cuh"

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
  uint32_t ends_range;                 // whether the CTA has nothing to do behind it

  __device__ int32_t offset() const { return kv_len - q_len; }
  __device__ uint32_t tokens(const AttnPagedParams& p) const {
    return min(static_cast<int32_t>(p.tile_tokens.by), q_len - first_token);
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

  __device__ bool is_end() const { return parts == 0; }  // behind the last one

  // attn_paged_segment_bytes.
  __device__ void store(uint32_t to) const {
    ptx::store_shared_s32x4(to, make_int4(q_begin, q_len, kv_len, first_token));
    ptx::store_shared_s32x4(to + 16, make_int4(first_head, heads, kv_head, sequence));
    ptx::store_shared_s32x4(to + 32, make_int4(begin, end, part, parts));
    ptx::store_shared_s32x4(to + 48, make_int4(first_slot, second_slot, slot_step, ends_range));
  }
  __device__ void load(uint32_t from) {
    const int4 a = ptx::load_shared_s32x4(from), b = ptx::load_shared_s32x4(from + 16);
    const int4 c = ptx::load_shared_s32x4(from + 32), d = ptx::load_shared_s32x4(from + 48);
    q_begin = a.x, q_len = a.y, kv_len = a.z, first_token = a.w;
    first_head = b.x, heads = b.y, kv_head = b.z, sequence = b.w;
    begin = c.x, end = c.y, part = c.z, parts = c.w;
    first_slot = d.x, second_slot = d.y, slot_step = d.z, ends_range = d.w;
  }
};

// What a sequence has, from lengths that may be anything.
template <class Cfg>
struct PagedSequence {
  using Params = AttnPagedParams;
  static constexpr uint32_t overhead = Cfg::invariant ? 0 : 1;
  static constexpr bool looks_at_few = false;  // see find_share

  int32_t q_begin = 0, q_len = 0, kv_len = 0;

  __device__ PagedSequence() {}
  __device__ PagedSequence(const AttnPagedParams& p, uint32_t sequence) {
    const auto total = static_cast<int32_t>(p.total_q);
    q_begin = min(max(p.q_indptr[sequence], 0), total);
    q_len = max(min(p.q_indptr[sequence + 1], total) - q_begin, 0);
    q_len = min(q_len, static_cast<int32_t>(p.max_q_len));
    kv_len = cut_keys<Cfg::new_keys>(max(p.seq_lens[sequence], 0), q_len, p.max_kv_len);
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
    if (Cfg::invariant == attn_whole_units) return num_tiles;
    return max(attn_invariant_keys / Cfg::block_n, ceil_div(num_tiles, attn_invariant_parts));
  }
  __device__ uint32_t row_tiles(const AttnPagedParams& p) const {
    return ceil_div(q_len, p.tile_tokens) * p.head_tiles.by;
  }
  // CTAs that take the same range.
  __device__ static uint32_t lanes(const AttnPagedParams& p) { return Cfg::row_lanes ? p.row_lanes.by : 1; }
  __device__ static uint32_t by_lanes(const AttnPagedParams& p, uint32_t ctas) {
    return Cfg::row_lanes ? p.row_lanes.quotient(ctas) : ctas;
  }
  __device__ uint32_t head_units(const AttnPagedParams& p) const {
    return Cfg::row_lanes ? ceil_div(row_tiles(p), p.row_lanes) : row_tiles(p);
  }
  __device__ uint32_t units(const AttnPagedParams& p) const { return head_units(p) * p.num_kv_heads; }
  __device__ uint32_t unit_cost(const AttnPagedParams& p) const {
    const uint32_t tiles = num_tiles(p);
    return ceil_div(tiles, part_tiles(tiles)) + overhead;
  }
  __device__ uint32_t cost(const AttnPagedParams& p) const { return units(p) * unit_cost(p); }
  // The rows of a segment.
  __device__ __forceinline__ void place(const AttnPagedParams& p, KeySegment& s, uint32_t sequence, uint32_t kv_head,
                                        uint32_t row_tile) const {
    const uint32_t token_tile = p.head_tiles.quotient(row_tile);
    const uint32_t group_head = (row_tile - token_tile * p.head_tiles.by) * p.tile_heads;
    s.q_begin = q_begin, s.q_len = q_len, s.kv_len = kv_len;
    s.sequence = static_cast<int32_t>(sequence);
    s.kv_head = static_cast<int32_t>(kv_head);
    s.first_token = static_cast<int32_t>(token_tile * p.tile_tokens.by);
    s.first_head = static_cast<int32_t>(kv_head * p.group + group_head);
    s.heads = static_cast<int32_t>(min(p.tile_heads, p.group - group_head));
  }
};

// All threads of the CTA. scratch: attn_paged_scratch_bytes of shared memory. Sequence: as PagedSequence. slack, least: see
// find_share; where ranges cut no part, there is nothing to gain.
template <class Cfg, uint32_t num_threads, class Sequence = PagedSequence<Cfg>, uint32_t slack = 0>
__device__ EvenShare find_range(const typename Sequence::Params& p, uint32_t scratch, uint32_t least = 1) {
  static_assert(share_scratch_bytes<num_threads> <= attn_paged_scratch_bytes, "too little scratch");
  return find_share<num_threads, true, Cfg::invariant ? 0 : slack, Sequence::looks_at_few>(
      p.batch, [&](uint32_t sequence) { return Sequence(p, sequence).cost(p); }, scratch,
      Sequence::by_lanes(p, blockIdx.x), Sequence::by_lanes(p, gridDim.x), Cfg::invariant ? 1 : least);
}

constexpr uint32_t key_walk_bytes = 48;

template <class Cfg, class Sequence = PagedSequence<Cfg>>
class KeyWalk {
 public:
  using Params = typename Sequence::Params;

  __device__ KeyWalk(const Params& p, const EvenShare& range)
      : p_(p), range_(range), at_(range.begin), sequence_(range.owner - 1), base_(range.base) {
    share_ = Sequence::by_lanes(p, blockIdx.x), lane_ = blockIdx.x - share_ * Sequence::lanes(p);
  }

  // False after the last segment.
  __device__ __forceinline__ bool next(KeySegment& segment) {
    while (at_ < range_.end) {
      while (at_ >= base_ + units_ * cost_) {
        base_ += units_ * cost_;
        ++sequence_;
        enter();
      }
      const uint32_t unit = quick_div(at_ - base_, cost_), start = base_ + unit * cost_, from = at_;
      at_ = Cfg::invariant ? from + 1 : min(range_.end, start + cost_);
      if (at_ <= start + Sequence::overhead) continue;  // no keys
      const uint32_t head_units = now_.head_units(p_), kv_head = quick_div(unit, head_units);
      const uint32_t row_tile = (unit - kv_head * head_units) * Sequence::lanes(p_) + lane_;
      if (Cfg::row_lanes && row_tile >= now_.row_tiles(p_)) continue;  // the unit has none for this lane
      now_.place(p_, segment, sequence_, kv_head, row_tile);
      cut(segment, start, from);
      return true;
    }
    return false;
  }

  // Puts a walk aside between segments, for a role that has no registers for it: key_walk_bytes of shared memory.
  __device__ void store(uint32_t to) const {
    ptx::store_shared_b32x4(to, make_uint4(range_.end, range_.length, at_, sequence_));
    ptx::store_shared_b32x4(to + 16, make_uint4(base_, share_, lane_, units_));
    ptx::store_shared_s32x4(to + 32, make_int4(static_cast<int32_t>(cost_), now_.q_begin, now_.q_len, now_.kv_len));
  }
  __device__ KeyWalk(const Params& p, uint32_t stored) : p_(p) {
    const uint4 a = ptx::load_shared_b32x4(stored), b = ptx::load_shared_b32x4(stored + 16);
    const int4 c = ptx::load_shared_s32x4(stored + 32);
    range_.end = a.x, range_.length = a.y, at_ = a.z, sequence_ = a.w;
    base_ = b.x, share_ = b.y, lane_ = b.z, units_ = b.w;
    cost_ = c.x, now_.q_begin = c.y, now_.q_len = c.z, now_.kv_len = c.w;
  }

 private:
  __device__ __forceinline__ void enter() {
    now_ = Sequence(p_, sequence_);
    units_ = now_.units(p_);
    cost_ = now_.unit_cost(p_);
  }

  __device__ __forceinline__ void cut(KeySegment& s, uint32_t start, uint32_t from) const {
    const auto first = static_cast<uint32_t>(now_.first_tile(p_));
    s.ends_range = range_.end <= at_ + Sequence::overhead;  // what is left of it may be a unit without its keys
    if constexpr (Cfg::invariant) {
      const uint32_t tiles = now_.num_tiles(p_), each = Sequence::part_tiles(tiles);
      s.part = from - start, s.parts = cost_;
      s.begin = static_cast<int32_t>(first + s.part * each);
      s.end = static_cast<int32_t>(first + min((s.part + 1) * each, tiles));
      s.slot_step = Sequence::lanes(p_);
      s.first_slot = start * s.slot_step + lane_, s.second_slot = s.first_slot + s.slot_step;
      return;
    }
    const uint32_t keys = start + Sequence::overhead;
    s.begin = static_cast<int32_t>(first + max(from, keys) - keys);
    s.end = static_cast<int32_t>(first + at_ - keys);
    const uint32_t first_share = keys / range_.length, last_share = (start + cost_ - 1) / range_.length;
    s.part = share_ - first_share, s.parts = last_share - first_share + 1;
    // The first share may have begun with another unit; the others begin with this one.
    s.slot_step = 2 * Sequence::lanes(p_);
    s.first_slot = first_share * s.slot_step + 2 * lane_ + (start > first_share * range_.length ? 1 : 0);
    s.second_slot = (first_share + 1) * s.slot_step + 2 * lane_;
  }

  const Params& p_;
  EvenShare range_;
  uint32_t at_, sequence_, base_;  // sequence_: before the first one, which costs nothing
  uint32_t share_, lane_;          // of all ranges the one that is this CTA's; of its lanes this CTA
  uint32_t units_ = 0, cost_ = 1;
  Sequence now_;
};

}  // namespace dgrt
