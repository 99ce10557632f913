// SM90 topk_transform: the positions of each row's largest scores, in ascending order, and the cache slots
// that a page table gives them. Exact for every distribution of scores; of equal ones the lowest positions win.
//
// Keys      Scores become 32-bit integers of the same order: NaN below everything, -0 equal to 0 (topk_keys.cuh).
// Select    By histograms that enclose the k-th largest key (topk_select.cuh).
// Roles     `cluster` CTAs share a row, each one segment of it; they add up their histograms. A thread holds up to
//           `items_per_thread` neighbouring keys in registers. A segment that has more keys than its CTA holds is read
//           in chunks: streamed, once, leaving a list of those that may be taken (topk_stream.cuh); else once for each
//           pass. While one chunk is worked on, the next one (or the next row's) is copied to shared memory.
// Needs     rows of scores 16-byte aligned. top_k up to max_top_k.
// Source    PTX ISA: cp.async, redux.sync, barrier.cluster, mapa.
#pragma once
#include "device/common/interface.cuh"
#include "mla/topk_stream.cuh"  // chunk_items(), list_items(), max_top_k
#ifdef __CUDACC_RTC__
#include "device/ptx/grid.cuh"
#endif

namespace dgrt::sm90::topk_transform {

// ---- Interface: host and NVRTC ----

// Strides in elements.
struct Params {
  const float* scores;        // [rows, columns]
  const int32_t* lengths;     // [rows]
  const int32_t* page_table;  // [rows, num_pages]
  int32_t* slots;             // [rows, top_k], or null
  int32_t* positions;         // [rows, top_k], or null
  uint64_t score_row, page_table_row, slot_row, position_row;
  uint32_t num_rows, num_columns, num_pages, page_size, top_k;
};

// Dynamic shared memory. What else there is is static: either both are less than the 48 KiB that a kernel may have
// without asking, or this is more, for which the loader asks.
DGRT_HD constexpr uint32_t smem_bytes(uint32_t threads, uint32_t items_per_thread, bool streamed) {
  const uint32_t chunk_bytes = chunk_items(threads, items_per_thread) * 4;
  return streamed ? num_stages * chunk_bytes + list_items(threads) * 8 : chunk_bytes;
}

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// The segment of this CTA in a row that has more than top_k scores; else none.
template <class Cfg>
__device__ __forceinline__ Segment segment_of(const Params& p, uint32_t row, uint32_t length) {
  if (length <= p.top_k) return {nullptr, 0, 0};
  const uint32_t size = align_up(ceil_div(length, Cfg::cluster), 4);
  const uint32_t first = min(rank_in_row<Cfg>() * size, length), count = min(size, length - first);
  return {p.scores + row * p.score_row + first, first, count};
}

__device__ __forceinline__ uint32_t length_of(const Params& p, uint32_t row) {
  if (row >= p.num_rows) return 0;
  return min(static_cast<uint32_t>(max(p.lengths[row], 0)), p.num_columns);
}

// Calls use(keys, deal, chunk) for each chunk of `segment`. Requires: the first one was copied;
// this pass is the first, or keys are those that it left. Copied after the last one: the first of the segment
// that next() gives, if that is the last reading, else of this one.
template <class Cfg, class Next, class Use>
__device__ __forceinline__ void for_chunks(uint32_t buffer, const Segment& segment, bool is_first,
                                           bool is_last_reading, const Next& next, Keys<Cfg>& keys,
                                           const Use& use) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
#pragma unroll 1
  for (uint32_t chunk = 0; chunk < segment.num_chunks(items); ++chunk) {
    const Deal<Cfg> deal = deal_of<Cfg>(segment.count, chunk);
    if (is_first || segment.count > items) {
      take_chunk<Cfg, 0>(buffer, deal, keys);
      const bool is_last = chunk + 1 == segment.num_chunks(items);
      Segment then = segment;
      if (is_last && is_last_reading) then = next();
      copy_chunk<Cfg>(buffer, then, is_last ? 0 : chunk + 1);
    }
    use(keys, deal, chunk);
  }
}

__device__ __forceinline__ void store_position(const Params& p, uint32_t row, uint32_t place,
                                               int32_t position) {
  if (p.positions != nullptr) p.positions[row * p.position_row + place] = position;
  if (p.slots == nullptr) return;
  int64_t slot = -1;
  const uint32_t page = static_cast<uint32_t>(position) / p.page_size;
  if (position >= 0 && page < p.num_pages) {
    const int64_t first = p.page_table[row * p.page_table_row + page];
    slot = first * p.page_size + (static_cast<uint32_t>(position) - page * p.page_size);
    if (first < 0 || slot > 0x7fffffff) slot = -1;
  }
  p.slots[row * p.slot_row + place] = static_cast<int32_t>(slot);
}

// Of a row that has no more than top_k scores.
template <class Cfg>
__device__ __forceinline__ void write_short_row(const Params& p, uint32_t row, uint32_t length) {
  for (uint32_t i = rank_in_row<Cfg>() * Cfg::threads + threadIdx.x; i < p.top_k; i += Cfg::cluster * Cfg::threads)
    store_position(p, row, i, i < length ? static_cast<int32_t>(i) : -1);
}

// Lists the positions that were chosen in this CTA's segment, ascending, and stores them.
template <class Cfg, class Next>
__device__ __forceinline__ void write_row(const Params& p, Smem<Cfg>& smem, uint32_t buffer, uint32_t row,
                                          const Segment& segment, const Next& next, const Choice& choice,
                                          Keys<Cfg>& keys) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  Before before = {0, 0};
  if constexpr (Cfg::cluster > 1) before = count_lower_ctas<Cfg>(smem);
  const uint32_t first_place = before.taken(choice.needed);
  for_chunks<Cfg>(
      buffer, segment, false, true, next, keys, [&](const Keys<Cfg>& of, const Deal<Cfg>& deal, uint32_t chunk) {
        const Marks marks = mark<Cfg>(of, deal, choice.range);
        uint32_t total;
        Before here = before;
        here.add(sum_below_in_block(smem, marks.count(), &total));
        const uint32_t first = segment.first + chunk * items + deal.first();
#pragma unroll 1
        for (uint32_t left = marks.greater | marks.equal; left != 0; left &= left - 1) {
          const uint32_t bit = __ffs(left) - 1, greater = marks.greater >> bit & 1;
          if (greater != 0 || here.equal < choice.needed)
            smem.list[here.taken(choice.needed) - first_place] = first + bit;
          here.greater += greater, here.equal += 1 - greater;
        }
        before.add(total);
        __syncthreads();  // the list is complete; sums of the next chunk may go where these were
      });
  const uint32_t end = before.taken(choice.needed);
  for (uint32_t place = first_place + threadIdx.x; place < end; place += Cfg::threads)
    store_position(p, row, place, static_cast<int32_t>(smem.list[place - first_place]));
  __syncthreads();  // the next row's histogram goes where the list was
}

// Rows whose segments are held, or read again in every pass.
template <class Cfg>
__device__ __forceinline__ void run_held(const Params& p, Smem<Cfg>& smem, uint32_t buffer) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  const uint32_t num_clusters = gridDim.x / Cfg::cluster;
  uint32_t row = blockIdx.x / Cfg::cluster, length = length_of(p, row);
  Segment segment = segment_of<Cfg>(p, row, length);
  copy_chunk<Cfg>(buffer, segment, 0);
  Keys<Cfg> keys;
#pragma unroll 1
  while (row < p.num_rows) {
    const uint32_t next_row = row + num_clusters, next_length = length_of(p, next_row);
    const auto next = [&] { return segment_of<Cfg>(p, next_row, next_length); };
    if (length > p.top_k) {
      const Choice choice = choose<Cfg>(
          smem, {nan_key, most_key}, p.top_k, p.top_k, Cfg::cluster > 1, [&](const Counter<Cfg>& counter) {
            for_chunks<Cfg>(buffer, segment, counter.is_first, counter.is_first && segment.count <= items, next, keys,
                            [&](const Keys<Cfg>& of, const Deal<Cfg>& deal, uint32_t) { counter(of, deal); });
          });
      write_row<Cfg>(p, smem, buffer, row, segment, next, choice, keys);
    } else {
      write_short_row<Cfg>(p, row, length);
      copy_chunk<Cfg>(buffer, next(), 0);
    }
    row = next_row, length = next_length, segment = next();
  }
}

template <class Cfg>
struct Rows {
  const Params& p;
  __device__ uint32_t count() const { return p.num_rows; }
  __device__ uint32_t step() const { return gridDim.x / Cfg::cluster; }
  __device__ Segment segment(uint32_t row) const { return segment_of<Cfg>(p, row, length_of(p, row)); }
};

template <class Cfg>
__device__ __forceinline__ void run_streamed(const Params& p, Smem<Cfg>& smem, uint32_t buffer) {
  const Rows<Cfg> rows{p};
  uint32_t row = blockIdx.x / Cfg::cluster, stage = buffer;
  ChunkCursor<Cfg, Rows<Cfg>> cursor(rows, row);
#pragma unroll 1
  for (uint32_t i = 0; i < num_stages; ++i)
    cursor.copy(buffer + i * chunk_items(Cfg::threads, Cfg::items_per_thread) * 4);
#pragma unroll 1
  for (; row < p.num_rows; row += rows.step()) {
    const uint32_t length = length_of(p, row);
    if (length <= p.top_k) {
      write_short_row<Cfg>(p, row, length);
      continue;
    }
    const Segment segment = segment_of<Cfg>(p, row, length);
    const Places places = choose_streamed<Cfg>(smem, buffer, stage, cursor, segment.first, segment.count, p.top_k);
    for (uint32_t place = places.begin + threadIdx.x; place < places.end; place += Cfg::threads)
      store_position(p, row, place, static_cast<int32_t>(smem.list[place - places.begin]));
    __syncthreads();  // the next row's histogram goes where the list was
  }
}

// Cfg: threads, items_per_thread, cluster, streamed.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  constexpr uint32_t most_smem = smem_bytes(Cfg::threads, Cfg::items_per_thread, Cfg::streamed);
  static_assert(Cfg::items_per_thread == 8 || Cfg::items_per_thread == 16 || Cfg::items_per_thread == 32,
                "2, 4 or 8 vectors of 4 scores, a bit each");
  static_assert(most_smem > 49152 || most_smem + sizeof(Smem<Cfg>) <= 49152,
                "more than 48 KiB must be asked for, and dynamic shared memory alone says so");
  static_assert(chunk_items(Cfg::threads, Cfg::items_per_thread) < 65536, "16 bits count a chunk's keys");
  __shared__ __align__(16) Smem<Cfg> smem;
  const uint32_t buffer = ptx::dynamic_shared_address();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  if constexpr (Cfg::streamed)
    run_streamed<Cfg>(p, smem, buffer);
  else
    run_held<Cfg>(p, smem, buffer);
  if constexpr (Cfg::cluster > 1) {  // nobody leaves while others may read its shared memory
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}
#endif

}  // namespace dgrt::sm90::topk_transform
