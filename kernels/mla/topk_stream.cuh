// Rows of more scores than a CTA holds, read once. What may still be among a row's k largest is kept in a list in
// shared memory, in the order of positions, with keys above a bar: k keys of the list are not below it, and they come
// before all that follows, so of what follows no key up to the bar is taken. Each chunk of the row appends what lies
// above the bar. A chunk that has more of them than the list has room for (the first one; scores that rise) chooses
// its largest by itself, and a list that has no room for k more is cut to its largest: both raise the bar. So the
// list never overflows, whatever the scores are. In random order a chunk of n after m keys appends about k * n / m.
//
// One loop does all three: keys come to registers from a chunk or from the list, and some are chosen. Of a chunk few are,
// mostly none of a thread's, so those are read anew from shared memory. Chunks come two ahead, across the ends of rows.
#pragma once
#include "device/common/interface.cuh"
#include "mla/topk_select.cuh"

namespace dgrt::sm90::topk_transform {

constexpr uint32_t num_stages = 2;  // chunks in shared memory

// Keys of the list: room for twice the largest k, with many threads for more.
DGRT_HD constexpr uint32_t list_items(uint32_t threads) {
  return threads * 8 > 2 * max_top_k ? threads * 8 : 2 * max_top_k;
}

#ifdef __CUDACC_RTC__
template <class Cfg>
struct List {
  static constexpr uint32_t room = list_items(Cfg::threads);
  static_assert(room <= chunk_items(Cfg::threads, Cfg::items_per_thread), "a CTA holds the list");
  uint32_t keys;  // address in shared memory
  uint32_t count = 0, bar = no_key;

  __device__ explicit List(uint32_t address) : keys(address) {}
  __device__ uint32_t positions() const { return keys + room * 4; }

  // Appends a thread's scores of a chunk: a bit for each of its items, the first of which has position `first`.
  __device__ void append(uint32_t buffer, const Deal<Cfg>& deal, uint32_t taken, uint32_t place, uint32_t first) const {
#pragma unroll 1
    for (place += count; taken != 0; taken &= taken - 1, ++place) {
      const uint32_t item = __ffs(taken) - 1;
      const float score = ptx::load_shared_f32(deal.vector_at(buffer, item / 4) + item % 4 * 4);
      ptx::store_shared_u32(keys + place * 4, key_of(score));
      ptx::store_shared_u32(positions() + place * 4, first + item);
    }
  }

  // Keeps those of which smem.list has the indices, which ascend: none moves up.
  __device__ void keep(const Smem<Cfg>& smem, uint32_t num_kept) {
#pragma unroll 1
    for (uint32_t from = 0; from < num_kept; from += Cfg::threads) {
      const uint32_t i = from + threadIdx.x, index = i < num_kept ? smem.list[i] : i;
      const uint32_t key = ptx::load_shared_u32(keys + index * 4);
      const uint32_t position = ptx::load_shared_u32(positions() + index * 4);
      __syncthreads();  // what is written now was read by all, and what is read in the next round lies behind it
      if (i >= num_kept) continue;
      ptx::store_shared_u32(keys + i * 4, key);
      ptx::store_shared_u32(positions() + i * 4, position);
    }
    count = num_kept;
  }

  // Requires: a barrier since the last key was put.
  __device__ void take(const Deal<Cfg>& deal, Keys<Cfg>& of) const {
#pragma unroll
    for (uint32_t i = 0; i < deal.most; ++i) {
      if (i >= deal.each()) break;
      const uint4 v = ptx::load_shared_b32x4(keys + (deal.first() + i * 4) * 4);
      of.of[i * 4] = v.x, of.of[i * 4 + 1] = v.y, of.of[i * 4 + 2] = v.z, of.of[i * 4 + 3] = v.w;
    }
    deal.cut(of);
  }
};

// The chunks of this CTA, row after row, as their copies are begun. rows: count() of them, of which every step()th is
// this CTA's; segment(row) has no scores where a row has no chunk.
template <class Cfg, class Rows>
struct ChunkCursor {
  const Rows& rows;
  uint32_t row, chunk = 0;
  Segment segment;

  __device__ ChunkCursor(const Rows& rows, uint32_t row) : rows(rows), row(row), segment(rows.segment(row)) {}

  // Begins the copy of the next chunk, of an empty one behind the last.
  __device__ void copy(uint32_t to) {
    constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
    while (row < rows.count() && (segment.scores == nullptr || chunk == segment.num_chunks(items))) {
      row += rows.step(), chunk = 0;
      segment = rows.segment(row);
    }
    if (row < rows.count())
      copy_chunk<Cfg>(to, segment, chunk++);
    else
      ptx::copy_async_commit();
  }
};

// What a step takes of the keys that are in registers: a chunk's above the bar; the largest, where those are too many
// or the keys are the list's.
struct Taken {
  Choice choice;
  Marks marks;
  uint32_t below, total;  // counts of marks: of lower threads, of all
};

template <class Cfg>
__device__ __forceinline__ Taken take(Smem<Cfg>& smem, List<Cfg>& list, const Keys<Cfg>& keys,
                                      const Deal<Cfg>& deal, bool is_listed, bool is_last, uint32_t top_k) {
  const uint32_t room = list.room - list.count;
  Taken taken = {{list.bar, list.bar + 1, 0}, {}, 0, 0};
#pragma unroll 1
  for (bool is_chosen = is_listed;; is_chosen = true) {
    if (is_chosen) {
      const uint32_t most = is_last     ? top_k
                            : is_listed ? min(min(top_k + top_k / 4, list.room - top_k), max_top_k)
                                        : room;
      const Range range = {is_listed ? nan_key : list.bar + 1, most_key};
      taken.choice = choose<Cfg>(smem, range, top_k, most, is_last,
                                 [&](const Counter<Cfg>& counter) { counter(keys, deal); });
      list.bar = max(list.bar, taken.choice.low);  // at least k keys are not below it
    }
    taken.marks = mark<Cfg>(keys, deal, taken.choice);
    taken.below = sum_below_in_block(smem, taken.marks.count(), &taken.total);
    if (is_chosen || (taken.total & 0xffff) <= room) return taken;
  }
}

// Chooses of a segment of `count` scores whose first two chunks' copies the cursor began. store(place, position): of
// those of the row's k largest keys that are of this segment. Requires: the histogram is clear.
template <class Cfg, class Cursor, class Store>
__device__ __forceinline__ void choose_streamed(Smem<Cfg>& smem, uint32_t buffer, uint32_t& stage, Cursor& cursor,
                                                uint32_t first, uint32_t count, uint32_t top_k, const Store& store) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  List<Cfg> list(buffer + num_stages * items * 4);
  const uint32_t num_chunks = max(ceil_div(count, items), 1u);
#pragma unroll 1
  for (uint32_t chunk = 0;;) {
    const bool is_last = chunk == num_chunks;
    const bool is_listed = is_last || list.room - list.count < top_k;  // else of a chunk
    const Deal<Cfg> deal = is_listed ? Deal<Cfg>(list.count) : deal_of<Cfg>(count, chunk);
    Keys<Cfg> keys;
    if (is_listed)
      list.take(deal, keys);
    else
      take_chunk<Cfg, num_stages - 1>(stage, deal, keys);
    const Taken taken = take<Cfg>(smem, list, keys, deal, is_listed, is_last, top_k);
    const uint32_t needed = taken.choice.needed;

    Before lower = {0, 0};
    if constexpr (Cfg::cluster > 1)
      if (is_last) lower = count_lower_ctas<Cfg>(smem);
    Before before = lower;
    const uint32_t begin = lower.taken(needed);
    before.add(taken.below), lower.add(taken.total);
    const uint32_t end = lower.taken(needed);
    const uint32_t marks = taken.marks.taken(before.left(needed)), place = before.taken(needed) - begin;
    if (!is_listed) {
      list.append(stage, deal, marks, place, first + chunk * items + deal.first());
      list.count += end, ++chunk;
      __syncthreads();  // the list is complete, and others may copy there now
      cursor.copy(stage);
      stage = buffer + (stage == buffer ? items * 4 : 0);
      continue;
    }
    list_taken(smem, marks, place, deal.first());
    __syncthreads();
    if (is_last)
      for (uint32_t i = begin + threadIdx.x; i < end; i += Cfg::threads)
        store(i, ptx::load_shared_u32(list.positions() + smem.list[i - begin] * 4));
    else
      list.keep(smem, end);
    __syncthreads();
    clear_histogram(smem);  // where smem.list was. Barriers follow before keys are counted
    if (is_last) return;
  }
}
#endif

}  // namespace dgrt::sm90::topk_transform
