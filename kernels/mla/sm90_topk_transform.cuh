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
//           `items_per_thread` keys in registers. A segment that has more keys than its CTA holds is read
//           in chunks, once for each pass. While one chunk is worked on, each thread copies its elements of the
//           next one (or of the next row) to its own place in shared memory.
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
// Dynamic shared memory. What else there is is static: up to 43 KiB, so that either both are less than the 48 KiB
// that a kernel may have without asking, or this is more, for which the loader asks.
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
  static constexpr uint32_t num_warps = Cfg::threads / 32, num_vectors = Cfg::items_per_thread / 4;
  uint32_t histogram[Cfg::threads * 4];
  uint32_t total[Cfg::cluster == 1 ? 4 : Cfg::threads * 4];  // of all CTAs
  int32_t list[max_top_k];                                   // positions that this CTA found
  uint32_t places[num_vectors * num_warps];
  uint32_t warp_sums[32];
  Found found;
  Own own;
  uint32_t chunk_sum;
};

// Consecutive scores of a row, and the first one's position.
struct Segment {
  const float* scores;
  uint32_t first, count, num_chunks;
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
  if (length <= p.top_k) return {p.scores, 0, 0, 1};
  const uint32_t size = align_up(ceil_div(length, Cfg::cluster), 4);
  const uint32_t first = min(rank * size, length), count = min(size, length - first);
  constexpr uint32_t chunk = chunk_items(Cfg::threads, Cfg::items_per_thread);
  return {p.scores + row * p.score_row + first, first, count, max(ceil_div(count, chunk), 1u)};
}

__device__ __forceinline__ uint32_t length_of(const Params& p, uint32_t row) {
  if (row >= p.num_rows) return 0;
  return min(static_cast<uint32_t>(max(p.lengths[row], 0)), p.num_columns);
}

// Vector i of a chunk, in elements: all threads' vectors of one i lie side by side.
template <class Cfg>
__device__ __forceinline__ uint32_t place_of(uint32_t i) {
  return (i * Cfg::threads + threadIdx.x) * 4;
}

template <class Cfg>
__device__ __forceinline__ void copy_chunk(uint32_t buffer, const float* scores, uint32_t count,
                                           uint32_t chunk) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread / 4; ++i) {
    const uint32_t at = chunk * items + place_of<Cfg>(i);
    if (at >= count) break;
    ptx::copy_async_b128(buffer + place_of<Cfg>(i) * 4, scores + at, min(count - at, 4u) * 4);
  }
  ptx::copy_async_commit();
}

// `count`: scores of the chunk.
template <class Cfg>
__device__ __forceinline__ void take_chunk(uint32_t buffer, uint32_t count, Keys<Cfg>& keys) {
  ptx::copy_async_wait<0>();
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread / 4; ++i) {
    if (i * Cfg::threads * 4 >= count) break;
    const uint32_t at = place_of<Cfg>(i);
    const float4 v = ptx::load_shared_f32x4(buffer + at * 4);
    keys.of[i * 4] = key_of(v.x), keys.of[i * 4 + 1] = key_of(v.y);
    keys.of[i * 4 + 2] = key_of(v.z), keys.of[i * 4 + 3] = key_of(v.w);
    if ((i + 1) * Cfg::threads * 4 <= count) continue;
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j)
      if (at + j >= count) keys.of[i * 4 + j] = no_key;
  }
}

// Calls use(keys, scores of the chunk, chunk) for each chunk of `segment`. Requires: the first one was copied;
// this pass is the first, or keys are those that it left. Copied after the last one: the first of the segment
// that next() gives, if that is the last reading, else of this one.
template <class Cfg, class Next, class Use>
__device__ __forceinline__ void for_chunks(uint32_t buffer, const Segment& segment, bool is_first,
                                           bool is_last_reading, const Next& next, Keys<Cfg>& keys,
                                           const Use& use) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
#pragma unroll 1
  for (uint32_t chunk = 0; chunk < segment.num_chunks; ++chunk) {
    const uint32_t count = min(segment.count - chunk * items, items);
    if (is_first || segment.num_chunks > 1) {
      take_chunk<Cfg>(buffer, count, keys);
      const bool is_last = chunk + 1 == segment.num_chunks;
      Segment then = segment;
      if (is_last && is_last_reading) then = next();
      copy_chunk<Cfg>(buffer, then.scores, then.count, is_last ? 0 : chunk + 1);
    }
    use(keys, count, chunk);
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
  constexpr uint32_t part = Cfg::threads / Cfg::cluster;  // 4 bins for each thread
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

// The 4 bins that a thread counts; the first thread has the highest ones.
template <class Cfg>
__device__ __forceinline__ uint32_t first_bin() {
  return (Cfg::threads - 1 - threadIdx.x) * 4;
}

// Where the counts from above reach `needed`. Bin 0 with nothing above it where they do not.
template <class Cfg>
__device__ __forceinline__ Found find_bin(Smem<Cfg>& smem, uint32_t needed) {
  const uint32_t* bins = Cfg::cluster == 1 ? smem.histogram : smem.total;
  const uint32_t first = first_bin<Cfg>();
  const uint4 count = *reinterpret_cast<const uint4*>(bins + first);
  const uint32_t sum = count.x + count.y + count.z + count.w;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t above = sum_below(sum);
  if (lane == 31) smem.warp_sums[warp] = above + sum;
  __syncthreads();
  above += ptx::redux_add_u32(lane < warp ? smem.warp_sums[lane] : 0);
  const uint32_t counts[4] = {count.x, count.y, count.z, count.w};
  if (above == 0 && sum > 0) {
    uint32_t top = 3;
#pragma unroll
    for (uint32_t i = 3; i > 0; --i)
      if (top == i && counts[i] == 0) top = i - 1;
    smem.found.top = first + top;
  }
#pragma unroll
  for (uint32_t i = 4; i-- > 0;) {
    if (above < needed && above + counts[i] >= needed) {
      smem.found.bin = first + i;
      smem.found.above = above;
      smem.found.count = counts[i];
    }
    above += counts[i];
  }
  __syncthreads();
  return smem.found;
}

// How many of this CTA's keys lie above the bin, and in it.
template <class Cfg>
__device__ __forceinline__ void count_own(Smem<Cfg>& smem, uint32_t bin) {
  const uint32_t first = first_bin<Cfg>();
  uint32_t above = 0;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) above += first + i > bin ? smem.histogram[first + i] : 0;
  above = ptx::redux_add_u32(above);
  if (threadIdx.x % 32 == 0 && above > 0) atomicAdd(&smem.own.greater, above);
  if (bin - first < 4) smem.own.equal = smem.histogram[bin];
}

// The keys of a row that are taken: all above the range, and the first `needed` in it.
struct Choice {
  Range range;
  uint32_t needed;
};

// most[j]: of all elements j of vectors.
template <class Cfg>
__device__ __forceinline__ void find_most(const Keys<Cfg>& keys, uint32_t count, uint32_t (&most)[4]) {
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i * Cfg::threads >= count) break;
    most[i % 4] = max(most[i % 4], keys.of[i]);
  }
}

template <class Cfg>
__device__ __forceinline__ void count_bins(Smem<Cfg>& smem, const Keys<Cfg>& keys, uint32_t count,
                                           const Range& range, uint32_t shift) {
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i * Cfg::threads >= count) break;
    if (range.contains(keys.of[i])) atomicAdd(&smem.histogram[(keys.of[i] - range.low) >> shift], 1u);
  }
}

template <class Cfg, class Next>
__device__ __forceinline__ Choice choose(const Params& p, Smem<Cfg>& smem, uint32_t buffer,
                                         const Segment& segment, const Next& next, uint32_t rank,
                                         Keys<Cfg>& keys) {
  constexpr uint32_t bin_bits = Cfg::threads == 1024 ? 12 : Cfg::threads == 512 ? 11 : 10;
  static_assert(1u << bin_bits == Cfg::threads * 4, "a thread counts 4 bins");
  Choice choice = {{nan_key, 0xffffffffu}, p.top_k};
#pragma unroll 1
  for (bool is_first = true;; is_first = false) {
    const Range range = choice.range;
    const uint32_t width = range.high - range.low;
    const uint32_t bits = 32 - __clz(width), shift = bits > bin_bits ? bits - bin_bits : 0;
    *reinterpret_cast<uint4*>(smem.histogram + first_bin<Cfg>()) = make_uint4(0, 0, 0, 0);
    __syncthreads();
    if (threadIdx.x == 0) smem.found = {0, 0, 0, 0};
    uint32_t most[4] = {no_key, no_key, no_key, no_key};  // of this thread's groups
    for_chunks<Cfg>(buffer, segment, is_first, is_first && segment.num_chunks == 1, next, keys,
                    [&](const Keys<Cfg>& of, uint32_t count, uint32_t) {
                      if (is_first)
                        find_most<Cfg>(of, count, most);
                      else
                        count_bins<Cfg>(smem, of, count, range, shift);
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
  // How many of vector i: those above the range in the lower half, those in it in the upper one. Sums over a
  // chunk fit.
  __device__ uint32_t count(uint32_t i) const {
    return __popc(greater >> i * 4 & 15) + (__popc(equal >> i * 4 & 15) << 16);
  }
};

template <class Cfg>
__device__ __forceinline__ Marks mark(const Keys<Cfg>& keys, uint32_t count, const Range& range) {
  Marks marks;
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i * Cfg::threads >= count) break;
    if (keys.of[i] > range.high)
      marks.greater |= 1u << i;
    else if (keys.of[i] >= range.low)
      marks.equal |= 1u << i;
  }
  return marks;
}

// In smem.places: counts of all keys of the chunk before vector i of a warp. In smem.chunk_sum: of the chunk.
template <class Cfg>
__device__ __forceinline__ void count_chunk(Smem<Cfg>& smem, const Marks& marks) {
  using S = Smem<Cfg>;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (uint32_t i = 0; i < S::num_vectors; ++i) {
    const uint32_t sum = ptx::redux_add_u32(marks.count(i));
    if (lane == 0) smem.places[i * S::num_warps + warp] = sum;
  }
  __syncthreads();
  if (warp == 0) {
    constexpr uint32_t num = S::num_vectors * S::num_warps, each = ceil_div(num, 32);
    uint32_t of[each], sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < each; ++i) {
      const uint32_t at = lane * each + i;
      of[i] = at < num ? smem.places[at] : 0;
      sum += of[i];
    }
    uint32_t before = sum_below(sum);
    if (lane == 31) smem.chunk_sum = before + sum;
#pragma unroll
    for (uint32_t i = 0; i < each; ++i) {
      const uint32_t at = lane * each + i;
      if (at < num) smem.places[at] = before;
      before += of[i];
    }
  }
  __syncthreads();
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
  using S = Smem<Cfg>;
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  Before before = {0, 0};
  if constexpr (Cfg::cluster > 1) before = count_lower_ctas<Cfg>(smem, rank);
  const uint32_t first_place = before.taken(choice.needed), warp = threadIdx.x / 32;
  for_chunks<Cfg>(
      buffer, segment, false, true, next, keys, [&](const Keys<Cfg>& of, uint32_t count, uint32_t chunk) {
        const Marks marks = mark<Cfg>(of, count, choice.range);
        count_chunk<Cfg>(smem, marks);
#pragma unroll 1
        for (uint32_t i = 0; i < S::num_vectors; ++i) {
          const uint32_t counts = marks.count(i);
          if (__ballot_sync(0xffffffffu, counts != 0) == 0) continue;
          Before here = before;
          here.add(smem.places[i * S::num_warps + warp]);
          here.add(sum_below(counts));
#pragma unroll
          for (uint32_t j = 0; j < 4; ++j) {
            const uint32_t bit = i * 4 + j, greater = marks.greater >> bit & 1, equal = marks.equal >> bit & 1;
            if (greater != 0 || (equal != 0 && here.equal < choice.needed))
              smem.list[here.taken(choice.needed) - first_place] =
                  segment.first + chunk * items + place_of<Cfg>(i) + j;
            here.greater += greater, here.equal += equal;
          }
        }
        before.add(smem.chunk_sum);
        __syncthreads();  // the next chunk's counts may go where these were; the list is complete
      });
  const uint32_t end = before.taken(choice.needed);
  for (uint32_t place = first_place + threadIdx.x; place < end; place += Cfg::threads)
    store_position(p, row, place, smem.list[place - first_place]);
}

// Cfg: threads, items_per_thread, cluster.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  static_assert(Cfg::items_per_thread % 4 == 0, "scores are loaded by 4");
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
