// SM90 topk_transform: the positions of each row's largest scores, in ascending order, and the cache slots
// that a page table gives them. Exact for every distribution of scores; of equal ones the lowest positions win.
//
// Keys      Scores become 32-bit integers of the same order: NaN below everything, -0 equal to 0.
// Select    The k-th largest key is enclosed in ranges. A first histogram is of the largest key of each of
//           thousands of groups: at least k keys are not below the bin in which its count reaches k, and few
//           others are. Further histograms divide what lies between that bin and the largest key, until the
//           bin that holds the k-th largest key is taken whole or consists of equal keys: one or two for
//           most distributions, never more than ceil(32 / bits of the bins).
// Roles     `cluster` CTAs share a row, each one segment of it; they add up their histograms. A thread holds
//           up to `items_per_thread` neighbouring keys in registers. A segment that has more keys than its CTA
//           holds is read in chunks, once for each pass. While one chunk is worked on, the next one (or the next
//           row's) is copied to shared memory.
// Needs     rows of scores 16-byte aligned. top_k up to max_top_k.
// Source    PTX ISA: cp.async, redux.sync, barrier.cluster, mapa. Radix select as in Alabi, Blanchard, Gordon,
//           Steinbach, "Fast k-selection algorithms for graphics processing units", 2012.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/cluster.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/copy_async.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/warpgroup.cuh"
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

constexpr uint32_t max_top_k = 2048;

// Keys that one CTA holds at once.
DGRT_HD constexpr uint32_t chunk_items(uint32_t threads, uint32_t items_per_thread) {
  return threads * items_per_thread;
}
// Dynamic shared memory. What else there is is static: either both are less than the 48 KiB that a kernel may have
// without asking, or this is more, for which the loader asks.
DGRT_HD constexpr uint32_t smem_bytes(uint32_t threads, uint32_t items_per_thread) {
  return chunk_items(threads, items_per_thread) * 4;
}

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

constexpr uint32_t no_key = 0, nan_key = 1;  // no_key: there is no score

// What a histogram says: the bin in which the counts from above reach what is needed.
struct Found {
  uint32_t bin, above, count;  // above: in higher bins
  uint32_t top;                // highest bin that is not empty
};

// How many keys a CTA has above and in the last range.
struct alignas(8) Own {
  uint32_t greater, equal;
};

template <class Cfg>
struct Smem {
  static constexpr uint32_t num_warps = Cfg::threads / 32;
  static constexpr uint32_t num_bins = Cfg::threads == 1024 ? 4096 : 2048;
  union {
    uint32_t histogram[num_bins];
    int32_t list[max_top_k];  // positions that this CTA found, when the histograms are done
  };
  uint32_t total[Cfg::cluster == 1 ? 4 : num_bins];  // of all CTAs
  uint32_t warp_sums[num_warps];
  Found found;
  Own own;
};

// Consecutive scores of a row, and the first one's position.
struct Segment {
  const float* scores;
  uint32_t first, count;
  __device__ uint32_t num_chunks(uint32_t items) const { return max(ceil_div(count, items), 1u); }
};

template <class Cfg>
struct Keys {
  uint32_t of[Cfg::items_per_thread];
};

struct Range {
  uint32_t low, high;  // inclusive
  __device__ bool contains(uint32_t key) const { return key - low <= high - low; }
};

__device__ __forceinline__ uint32_t key_of(float score) {
  const uint32_t bits = __float_as_uint(ptx::fma_rn_f32(score, 1.0f, 0.0f));  // -0 becomes 0
  const uint32_t key = bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
  return score == score ? key : nan_key;
}

// The segment of this CTA in a row that has more than top_k scores; else an empty one.
template <class Cfg>
__device__ __forceinline__ Segment segment_of(const Params& p, uint32_t row, uint32_t rank, uint32_t length) {
  if (length <= p.top_k) return {p.scores, 0, 0};
  const uint32_t size = align_up(ceil_div(length, Cfg::cluster), 4);
  const uint32_t first = min(rank * size, length), count = min(size, length - first);
  return {p.scores + row * p.score_row + first, first, count};
}

__device__ __forceinline__ uint32_t length_of(const Params& p, uint32_t row) {
  if (row >= p.num_rows) return 0;
  return min(static_cast<uint32_t>(max(p.lengths[row], 0)), p.num_columns);
}

// How the vectors of 4 scores of a chunk are dealt out: 2^shift neighbours to a thread.
template <class Cfg>
struct Deal {
  static constexpr uint32_t most = Cfg::items_per_thread / 4;
  uint32_t count, shift;  // count: of scores

  __device__ explicit Deal(uint32_t count) : count(count), shift(0) {
#pragma unroll
    for (uint32_t each = 1; each < most; each *= 2) shift += count > Cfg::threads * 4 * each;
  }
  __device__ uint32_t each() const { return 1u << shift; }
  __device__ uint32_t first() const { return (threadIdx.x << shift) * 4; }  // of this thread's scores
  // Where a vector lies in shared memory, so that neither writing neighbours nor reading a thread's has conflicts.
  __device__ uint32_t place(uint32_t vector) const {
    return vector ^ (vector >> 3 & (each() - 1));
  }
};

template <class Cfg>
__device__ __forceinline__ void copy_chunk(uint32_t buffer, const float* scores, uint32_t count,
                                           uint32_t chunk) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  scores += chunk * items;
  const Deal<Cfg> deal(min(count - chunk * items, items));
#pragma unroll
  for (uint32_t i = 0; i < deal.most; ++i) {
    const uint32_t vector = i * Cfg::threads + threadIdx.x;
    if (vector * 4 >= deal.count) break;
    ptx::copy_async_b128(buffer + deal.place(vector) * 16, scores + vector * 4,
                         min(deal.count - vector * 4, 4u) * 4);
  }
  ptx::copy_async_commit();
}

// All threads; other threads' scores as well are in shared memory only after their copies were waited for.
template <class Cfg>
__device__ __forceinline__ void take_chunk(uint32_t buffer, const Deal<Cfg>& deal, Keys<Cfg>& keys) {
  ptx::copy_async_wait<0>();
  __syncthreads();
#pragma unroll
  for (uint32_t i = 0; i < deal.most; ++i) {
    if (i >= deal.each()) break;
    const uint32_t at = deal.first() + i * 4;
    const float4 v = ptx::load_shared_f32x4(buffer + deal.place(at / 4) * 16);
    keys.of[i * 4] = key_of(v.x), keys.of[i * 4 + 1] = key_of(v.y);
    keys.of[i * 4 + 2] = key_of(v.z), keys.of[i * 4 + 3] = key_of(v.w);
  }
  if (deal.first() + deal.each() * 4 > deal.count) {  // the last scores' threads, and those behind them
#pragma unroll
    for (uint32_t i = 0; i < Cfg::items_per_thread; ++i)
      if (deal.first() + i >= deal.count) keys.of[i] = no_key;
  }
  __syncthreads();  // others may copy there now
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
    const Deal<Cfg> deal(min(segment.count - chunk * items, items));
    if (is_first || segment.count > items) {
      take_chunk<Cfg>(buffer, deal, keys);
      const bool is_last = chunk + 1 == segment.num_chunks(items);
      Segment then = segment;
      if (is_last && is_last_reading) then = next();
      copy_chunk<Cfg>(buffer, then.scores, then.count, is_last ? 0 : chunk + 1);
    }
    use(keys, deal, chunk);
  }
}

// Sum over the warp's lower lanes.
__device__ __forceinline__ uint32_t sum_below(uint32_t value) {
  const uint32_t lane = threadIdx.x % 32;
  uint32_t sum = value;
#pragma unroll
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  return sum - value;
}

// Adds up the histograms of all CTAs; each CTA one part of the bins, which it tells the others.
template <class Cfg>
__device__ __forceinline__ void add_histograms(Smem<Cfg>& smem, uint32_t rank) {
  ptx::cluster_arrive();
  ptx::cluster_wait();
  constexpr uint32_t part = Smem<Cfg>::num_bins / 4 / Cfg::cluster;  // vectors of bins
  static_assert(part <= Cfg::threads, "a thread adds up one vector");
  if (threadIdx.x < part) {
    const uint32_t at = (rank * part + threadIdx.x) * 16;
    const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(smem.histogram)) + at;
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(smem.total)) + at;
    uint4 sum = make_uint4(0, 0, 0, 0);
#pragma unroll 2  // registers hold the keys
    for (uint32_t i = 0; i < Cfg::cluster; ++i) {
      const uint4 v = ptx::load_cluster_b32x4(ptx::mapa(from, i));
      sum = make_uint4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
    }
#pragma unroll
    for (uint32_t i = 0; i < Cfg::cluster; ++i) ptx::store_cluster_b32x4(ptx::mapa(to, i), sum);
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// The bins that a thread counts; the first thread has the highest ones.
template <class Cfg>
struct OwnBins {
  static constexpr uint32_t num = Smem<Cfg>::num_bins / Cfg::threads;
  static_assert(num % 4 == 0, "bins are loaded by 4");
  __device__ static uint32_t first() { return (Cfg::threads - 1 - threadIdx.x) * num; }
  __device__ static void load(const uint32_t* bins, uint32_t (&counts)[num]) {
#pragma unroll
    for (uint32_t i = 0; i < num; i += 4) {
      const uint4 v = *reinterpret_cast<const uint4*>(bins + first() + i);
      counts[i] = v.x, counts[i + 1] = v.y, counts[i + 2] = v.z, counts[i + 3] = v.w;
    }
  }
  __device__ static void clear(uint32_t* bins) {
#pragma unroll
    for (uint32_t i = 0; i < num; i += 4)
      *reinterpret_cast<uint4*>(bins + first() + i) = make_uint4(0, 0, 0, 0);
  }
};

// Sum over the block's lower threads; `total`: over all. Contains a barrier; smem.warp_sums is free after the next.
template <class Cfg>
__device__ __forceinline__ uint32_t sum_below_in_block(Smem<Cfg>& smem, uint32_t value, uint32_t* total) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t below = sum_below(value);
  if (lane == 31) smem.warp_sums[warp] = below + value;
  __syncthreads();
  const uint32_t of_warp = lane < smem.num_warps ? smem.warp_sums[lane] : 0;
  *total = ptx::redux_add_u32(of_warp);
  return below + ptx::redux_add_u32(lane < warp ? of_warp : 0);
}

// Where the counts from above reach `needed`. Bin 0 with nothing above it where they do not.
template <class Cfg>
__device__ __forceinline__ Found find_bin(Smem<Cfg>& smem, uint32_t needed) {
  using Bins = OwnBins<Cfg>;
  uint32_t counts[Bins::num], sum = 0, total;
  Bins::load(Cfg::cluster == 1 ? smem.histogram : smem.total, counts);
#pragma unroll
  for (uint32_t i = 0; i < Bins::num; ++i) sum += counts[i];
  uint32_t above = sum_below_in_block(smem, sum, &total);
  if (above == 0 && sum > 0) {
    uint32_t top = 0;
#pragma unroll
    for (uint32_t i = 1; i < Bins::num; ++i)
      if (counts[i] != 0) top = i;
    smem.found.top = Bins::first() + top;
  }
  if (above < needed && above + sum >= needed) {
#pragma unroll
    for (uint32_t i = Bins::num; i-- > 0;) {
      if (above < needed && above + counts[i] >= needed) {
        smem.found.bin = Bins::first() + i;
        smem.found.above = above;
        smem.found.count = counts[i];
      }
      above += counts[i];
    }
  }
  __syncthreads();
  return smem.found;
}

// How many of this CTA's keys lie above the bin, and in it.
template <class Cfg>
__device__ __forceinline__ void count_own(Smem<Cfg>& smem, uint32_t bin) {
  using Bins = OwnBins<Cfg>;
  uint32_t counts[Bins::num], above = 0;
  Bins::load(smem.histogram, counts);
#pragma unroll
  for (uint32_t i = 0; i < Bins::num; ++i) above += Bins::first() + i > bin ? counts[i] : 0;
  above = ptx::redux_add_u32(above);
  if (threadIdx.x % 32 == 0 && above > 0) atomicAdd(&smem.own.greater, above);
  if (bin - Bins::first() < Bins::num) smem.own.equal = smem.histogram[bin];
}

// The keys of a row that are taken: all above the range, and the first `needed` in it.
struct Choice {
  Range range;
  uint32_t needed;
};

// most[j]: of all elements j of this thread's vectors.
template <class Cfg>
__device__ __forceinline__ void find_most(const Keys<Cfg>& keys, const Deal<Cfg>& deal, uint32_t (&most)[4]) {
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i / 4 >= deal.each()) break;
    most[i % 4] = max(most[i % 4], keys.of[i]);
  }
}

template <class Cfg>
__device__ __forceinline__ void count_bins(Smem<Cfg>& smem, const Keys<Cfg>& keys, const Deal<Cfg>& deal,
                                           const Range& range, uint32_t shift) {
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i / 4 >= deal.each()) break;
    if (range.contains(keys.of[i])) atomicAdd(&smem.histogram[(keys.of[i] - range.low) >> shift], 1u);
  }
}

template <class Cfg, class Next>
__device__ __forceinline__ Choice choose(const Params& p, Smem<Cfg>& smem, uint32_t buffer,
                                         const Segment& segment, const Next& next, uint32_t rank,
                                         Keys<Cfg>& keys) {
  constexpr uint32_t bin_bits = Cfg::threads == 1024 ? 12 : 11;
  static_assert(1u << bin_bits == Smem<Cfg>::num_bins);
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  Choice choice = {{nan_key, 0xffffffffu}, p.top_k};
#pragma unroll 1
  for (bool is_first = true;; is_first = false) {
    const Range range = choice.range;
    const uint32_t width = range.high - range.low;
    const uint32_t bits = 32 - __clz(width), shift = bits > bin_bits ? bits - bin_bits : 0;
    OwnBins<Cfg>::clear(smem.histogram);
    __syncthreads();
    if (threadIdx.x == 0) smem.found = {0, 0, 0, 0};
    uint32_t most[4] = {no_key, no_key, no_key, no_key};  // of this thread's groups
    for_chunks<Cfg>(buffer, segment, is_first, is_first && segment.count <= items, next, keys,
                    [&](const Keys<Cfg>& of, const Deal<Cfg>& deal, uint32_t) {
                      if (is_first)
                        find_most<Cfg>(of, deal, most);
                      else
                        count_bins<Cfg>(smem, of, deal, range, shift);
                    });
    if (is_first)
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i)
        if (most[i] != no_key) atomicAdd(&smem.histogram[(most[i] - range.low) >> shift], 1u);
    if constexpr (Cfg::cluster == 1)
      __syncthreads();
    else
      add_histograms<Cfg>(smem, rank);
    const Found found = find_bin<Cfg>(smem, choice.needed);
    const uint32_t last = is_first ? found.top : found.bin;
    choice.range.low = range.low + (found.bin << shift);
    choice.range.high = range.low + min(last << shift | ((1u << shift) - 1), width);
    // Others have read it now: they came to the barriers above since.
    if (Cfg::cluster > 1 && is_first && threadIdx.x == 0) smem.own.greater = 0;
    if (is_first) continue;
    choice.needed -= found.above;
    if constexpr (Cfg::cluster > 1) count_own<Cfg>(smem, found.bin);
    if (found.count == choice.needed || shift == 0) return choice;
  }
}

// Which of a thread's keys lie above the range, and in it: a bit for each.
struct Marks {
  uint32_t greater = 0, equal = 0;
  // Those above the range in the lower half, those in it in the upper one. Sums over a chunk fit.
  __device__ uint32_t count() const { return __popc(greater) + (__popc(equal) << 16); }
};

template <class Cfg>
__device__ __forceinline__ Marks mark(const Keys<Cfg>& keys, const Deal<Cfg>& deal, const Range& range) {
  Marks marks;
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i / 4 >= deal.each()) break;
    if (keys.of[i] > range.high)
      marks.greater |= 1u << i;
    else if (keys.of[i] >= range.low)
      marks.equal |= 1u << i;
  }
  return marks;
}

// Keys of a row that come before something: above the range, and in it.
struct Before {
  uint32_t greater, equal;
  __device__ void add(uint32_t counts) { greater += counts & 0xffff, equal += counts >> 16; }
  // Of them, how many are taken.
  __device__ uint32_t taken(uint32_t needed) const { return greater + min(equal, needed); }
};

// What the lower CTAs of the cluster have of the row.
template <class Cfg>
__device__ __forceinline__ Before count_lower_ctas(const Smem<Cfg>& smem, uint32_t rank) {
  ptx::cluster_arrive();
  ptx::cluster_wait();
  const uint32_t own = static_cast<uint32_t>(__cvta_generic_to_shared(&smem.own));
  Before before = {0, 0};
  for (uint32_t i = 0; i < rank; ++i) {
    const uint2 v = ptx::load_cluster_b32x2(ptx::mapa(own, i));
    before.greater += v.x, before.equal += v.y;
  }
  return before;
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

// Lists the positions that were chosen in this CTA's segment, ascending, and stores them.
template <class Cfg, class Next>
__device__ __forceinline__ void write_row(const Params& p, Smem<Cfg>& smem, uint32_t buffer, uint32_t row,
                                          const Segment& segment, const Next& next, uint32_t rank,
                                          const Choice& choice, Keys<Cfg>& keys) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  Before before = {0, 0};
  if constexpr (Cfg::cluster > 1) before = count_lower_ctas<Cfg>(smem, rank);
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
    store_position(p, row, place, smem.list[place - first_place]);
  __syncthreads();  // the next row's histogram goes where the list was
}

// Cfg: threads, items_per_thread, cluster.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  static_assert(Cfg::items_per_thread == 8 || Cfg::items_per_thread == 32, "2 or 8 vectors of 4 scores, a bit each");
  static_assert(smem_bytes(Cfg::threads, Cfg::items_per_thread) > 49152 ||
                    smem_bytes(Cfg::threads, Cfg::items_per_thread) + sizeof(Smem<Cfg>) <= 49152,
                "more than 48 KiB must be asked for, and dynamic shared memory alone says so");
  static_assert(chunk_items(Cfg::threads, Cfg::items_per_thread) < 65536, "16 bits count a chunk's keys");
  __shared__ __align__(16) Smem<Cfg> smem;
  const uint32_t buffer = ptx::dynamic_shared_address();
  const uint32_t rank = Cfg::cluster == 1 ? 0 : ptx::cluster_cta_rank();
  const uint32_t num_clusters = gridDim.x / Cfg::cluster;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  uint32_t row = blockIdx.x / Cfg::cluster, length = length_of(p, row);
  Segment segment = segment_of<Cfg>(p, row, rank, length);
  copy_chunk<Cfg>(buffer, segment.scores, segment.count, 0);
  Keys<Cfg> keys;
#pragma unroll 1
  while (row < p.num_rows) {
    const uint32_t next_row = row + num_clusters, next_length = length_of(p, next_row);
    const auto next = [&] { return segment_of<Cfg>(p, next_row, rank, next_length); };
    if (length > p.top_k) {
      const Choice choice = choose<Cfg>(p, smem, buffer, segment, next, rank, keys);
      write_row<Cfg>(p, smem, buffer, row, segment, next, rank, choice, keys);
    } else {
      for (uint32_t i = rank * Cfg::threads + threadIdx.x; i < p.top_k; i += Cfg::cluster * Cfg::threads)
        store_position(p, row, i, i < length ? static_cast<int32_t>(i) : -1);
      const Segment then = next();
      copy_chunk<Cfg>(buffer, then.scores, then.count, 0);
    }
    row = next_row, length = next_length, segment = next();
  }
  if constexpr (Cfg::cluster > 1) {  // nobody leaves while others may read its shared memory
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}
#endif

}  // namespace dgrt::sm90::topk_transform
