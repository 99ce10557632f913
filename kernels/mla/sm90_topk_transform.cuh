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
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::topk_transform {

// ---- Interface: host and NVRTC ----

// Division of numbers below 2^31 by a multiplication (Granlund, Montgomery, "Division by invariant integers using
// multiplication", 1994). Requires: value 1 to 2^30.
struct Divisor {
  uint32_t value = 0, factor = 0, shift = 0;

  DGRT_HD static constexpr Divisor of(uint32_t value) {
    uint32_t shift = 31;
    while (1u << (shift - 31) < value) ++shift;
    return {value, static_cast<uint32_t>((uint64_t{1} << shift) / value + 1), shift};
  }
  DGRT_HD constexpr uint32_t quotient(uint32_t x) const {
    return static_cast<uint32_t>((uint64_t{x} * factor) >> shift);
  }
};

// Strides in elements.
struct Params {
  const float* scores;        // [rows, columns]
  const int32_t* lengths;     // [rows]
  const int32_t* page_table;  // [rows, num_pages]
  int32_t* slots;             // [rows, top_k], or null
  int32_t* positions;         // [rows, top_k], or null
  uint64_t score_row, page_table_row, slot_row, position_row;
  Divisor page_size;
  uint32_t num_rows, num_columns, num_pages, top_k;
};

// Dynamic shared memory. What else there is is static: either both are less than the 48 KiB that a kernel may have
// without asking, or this is more, for which the loader asks.
DGRT_HD constexpr uint32_t smem_bytes(uint32_t threads, uint32_t items_per_thread, bool streamed) {
  const uint32_t chunk_bytes = chunk_items(threads, items_per_thread) * 4;
  return streamed ? num_stages * chunk_bytes + list_items(threads) * 8 : chunk_bytes;
}

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// A row and how long it is.
struct Row {
  uint32_t index, length;
};

// The segment of this CTA in a row that has more than top_k scores; else none.
template <class Cfg>
__device__ __forceinline__ Segment segment_of(const Params& p, Row row) {
  ptx::renew(row.index);  // addresses are computed where they are wanted: registers hold keys
  if (row.length <= p.top_k) return {nullptr, 0, 0};
  const uint32_t size = align_up(ceil_div(row.length, Cfg::cluster), 4);
  const uint32_t first = min(rank_in_row<Cfg>() * size, row.length), count = min(size, row.length - first);
  return {p.scores + row.index * p.score_row + first, first, count};
}

__device__ __forceinline__ Row row_of(const Params& p, uint32_t index) {
  const uint32_t length = index < p.num_rows ? static_cast<uint32_t>(max(p.lengths[index], 0)) : 0;
  return {index, min(length, p.num_columns)};
}

// Calls use(keys, deal, chunk) for each chunk of this CTA's segment, of `count` scores, of a row. Requires: the first
// chunk was copied; this pass is the first, or keys are those that it left. Copied after the last one: the first of
// the next row's, if that is the last reading, else of this one's.
template <class Cfg, class Use>
__device__ __forceinline__ void for_chunks(const Params& p, uint32_t buffer, const Row& row, const Row& next,
                                           uint32_t count, bool is_first, bool is_last_reading, Keys<Cfg>& keys,
                                           const Use& use) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  const uint32_t num_chunks = max(ceil_div(count, items), 1u);
#pragma unroll 1
  for (uint32_t chunk = 0; chunk < num_chunks; ++chunk) {
    const Deal<Cfg> deal = deal_of<Cfg>(count, chunk);
    if (is_first || count > items) {
      take_chunk<Cfg, 0>(buffer, deal, keys);
      __syncthreads();  // others may copy there now
      const bool is_last = chunk + 1 == num_chunks, is_of_next = is_last && is_last_reading;
      copy_chunk<Cfg>(buffer, segment_of<Cfg>(p, is_of_next ? next : row), is_last ? 0 : chunk + 1);
    }
    use(keys, deal, chunk);
  }
}

// Where a row's positions and slots go, and its page table.
struct Output {
  const Params& p;
  int32_t *positions, *slots;  // or null
  const int32_t* page_table;

  __device__ Output(const Params& p, uint32_t row)
      : p(p),
        positions(p.positions == nullptr ? nullptr : p.positions + row * p.position_row),
        slots(p.slots == nullptr ? nullptr : p.slots + row * p.slot_row),
        page_table(p.page_table + row * p.page_table_row) {}

  __device__ void store(uint32_t place, int32_t position) const {
    if (positions != nullptr) positions[place] = position;
    if (slots == nullptr) return;
    int64_t slot = -1;
    const uint32_t page = p.page_size.quotient(static_cast<uint32_t>(position));
    if (position >= 0 && page < p.num_pages) {
      const int64_t first = page_table[page];
      slot = first * p.page_size.value + (static_cast<uint32_t>(position) - page * p.page_size.value);
      if (first < 0 || slot > 0x7fffffff) slot = -1;
    }
    slots[place] = static_cast<int32_t>(slot);
  }
};

// Of a row that has no more than top_k scores.
template <class Cfg>
__device__ __forceinline__ void write_short_row(const Params& p, const Row& row) {
  const Output output(p, row.index);
  for (uint32_t i = rank_in_row<Cfg>() * Cfg::threads + threadIdx.x; i < p.top_k; i += Cfg::cluster * Cfg::threads)
    output.store(i, i < row.length ? static_cast<int32_t>(i) : -1);
}

// Lists the positions that were chosen in this CTA's segment, ascending, and stores them.
template <class Cfg>
__device__ __forceinline__ void write_row(const Params& p, Smem<Cfg>& smem, uint32_t buffer, const Row& row,
                                          const Row& next, const Choice& choice, Keys<Cfg>& keys) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  Before before = {0, 0};
  if constexpr (Cfg::cluster > 1) before = count_lower_ctas<Cfg>(smem);
  const uint32_t first_place = before.taken(choice.needed);
  const Segment segment = segment_of<Cfg>(p, row);
  for_chunks<Cfg>(
      p, buffer, row, next, segment.count, false, true, keys,
      [&](const Keys<Cfg>& of, const Deal<Cfg>& deal, uint32_t chunk) {
        const Marks marks = mark<Cfg>(of, deal, choice);
        uint32_t total;
        Before here = before;
        here.add(sum_below_in_block(smem, marks.count(), &total));
        const uint32_t first = segment.first + chunk * items + deal.first();
        list_taken(smem, marks.taken(here.left(choice.needed)), here.taken(choice.needed) - first_place, first);
        before.add(total);
        __syncthreads();  // the list is complete; sums of the next chunk may go where these were
      });
  const uint32_t end = before.taken(choice.needed);
  const Output output(p, row.index);
  for (uint32_t place = first_place + threadIdx.x; place < end; place += Cfg::threads)
    output.store(place, static_cast<int32_t>(smem.list[place - first_place]));
  __syncthreads();
  clear_histogram(smem);  // where the list was. Barriers follow before the next row's keys are counted
}

// Rows whose segments are held, or read again in every pass.
template <class Cfg>
__device__ __forceinline__ void run_held(const Params& p, Smem<Cfg>& smem, uint32_t buffer) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  const uint32_t num_clusters = gridDim.x / Cfg::cluster;
  Row row = row_of(p, blockIdx.x / Cfg::cluster);
  copy_chunk<Cfg>(buffer, segment_of<Cfg>(p, row), 0);
  Keys<Cfg> keys;
#pragma unroll 1
  while (row.index < p.num_rows) {
    const Row next = row_of(p, row.index + num_clusters);
    if (row.length > p.top_k) {
      const uint32_t count = segment_of<Cfg>(p, row).count;
      const Choice choice = choose<Cfg>(
          smem, {nan_key, most_key}, p.top_k, p.top_k, true, [&](const Counter<Cfg>& counter) {
            for_chunks<Cfg>(p, buffer, row, next, count, counter.is_first(), counter.is_first() && count <= items, keys,
                            [&](const Keys<Cfg>& of, const Deal<Cfg>& deal, uint32_t) { counter(of, deal); });
          });
      write_row<Cfg>(p, smem, buffer, row, next, choice, keys);
    } else {
      write_short_row<Cfg>(p, row);
      copy_chunk<Cfg>(buffer, segment_of<Cfg>(p, next), 0);
    }
    row = next;
  }
}

template <class Cfg>
struct Rows {
  const Params& p;
  __device__ uint32_t count() const { return p.num_rows; }
  __device__ uint32_t step() const { return gridDim.x / Cfg::cluster; }
  __device__ Segment segment(uint32_t row) const { return segment_of<Cfg>(p, row_of(p, row)); }
};

template <class Cfg>
__device__ __forceinline__ void run_streamed(const Params& p, Smem<Cfg>& smem, uint32_t buffer) {
  const Rows<Cfg> rows{p};
  uint32_t index = blockIdx.x / Cfg::cluster, stage = buffer;
  ChunkCursor<Cfg, Rows<Cfg>> cursor(rows, index);
#pragma unroll 1
  for (uint32_t i = 0; i < num_stages; ++i)
    cursor.copy(buffer + i * chunk_items(Cfg::threads, Cfg::items_per_thread) * 4);
#pragma unroll 1
  for (; index < p.num_rows; index += rows.step()) {
    const Row row = row_of(p, index);
    if (row.length <= p.top_k) {
      write_short_row<Cfg>(p, row);
      continue;
    }
    const Segment segment = segment_of<Cfg>(p, row);
    const Output output(p, index);
    choose_streamed<Cfg>(
        smem, buffer, stage, cursor, segment.first, segment.count, p.top_k,
        [&](uint32_t place, uint32_t position) { output.store(place, static_cast<int32_t>(position)); });
  }
}

// The page table of this CTA's first row comes to L2 while scores do: where rows are few, nothing else hides it.
template <class Cfg>
__device__ __forceinline__ void prefetch_page_table(const Params& p) {
  const Output output(p, blockIdx.x / Cfg::cluster);
  if (output.slots == nullptr) return;
#pragma unroll 1
  for (uint32_t page = threadIdx.x * 32; page < p.num_pages; page += Cfg::threads * 32)  // 128 bytes
    ptx::prefetch_l2(output.page_table + page);
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
  clear_histogram(smem);
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  prefetch_page_table<Cfg>(p);
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
