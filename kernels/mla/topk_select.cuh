// Which of the keys that CTAs hold in registers are the k largest: exact for every distribution, in a fixed order.
//
// The k-th largest key is enclosed in ranges. A first histogram is of the largest key of each of thousands of groups:
// at least k keys are not below the bin in which its count reaches k, and few others are. Further histograms divide
// what lies between that bin and the largest key, until so few keys are left that all may be taken, or the bin
// consists of equal keys: one or two for most distributions, never more than ceil(32 / bits of the bins). Of equal
// keys the first ones are taken. Histograms only count, and places follow from sums over threads in the order of keys:
// nothing depends on which atomic comes first.
//
// Source  Radix select as in Alabi, Blanchard, Gordon, Steinbach, "Fast k-selection algorithms for graphics processing
//         units", 2012. PTX ISA: redux.sync, barrier.cluster, mapa.
#pragma once
#include "device/common/interface.cuh"
#include "mla/topk_keys.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/cluster.cuh"
#include "device/ptx/warpgroup.cuh"
#endif

namespace dgrt::sm90::topk_transform {

constexpr uint32_t max_top_k = 2048;

#ifdef __CUDACC_RTC__
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
    uint32_t list[max_top_k];  // positions of keys that were chosen, when the histograms are done
  };
  uint32_t total[Cfg::cluster == 1 ? 4 : num_bins];  // of all CTAs
  uint32_t warp_sums[num_warps];
  Found found;
  Own own;
};

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

// Of this CTA among those of the row. Read where it is wanted: registers hold the keys.
template <class Cfg>
__device__ __forceinline__ uint32_t rank_in_row() {
  if constexpr (Cfg::cluster == 1)
    return 0;
  else
    return ptx::cluster_cta_rank();
}

// Adds up the histograms of all CTAs; each CTA one part of the bins, which it tells the others.
template <class Cfg>
__device__ __forceinline__ void add_histograms(Smem<Cfg>& smem) {
  ptx::cluster_arrive();
  ptx::cluster_wait();
  constexpr uint32_t part = Smem<Cfg>::num_bins / 4 / Cfg::cluster;  // vectors of bins
  static_assert(part <= Cfg::threads, "a thread adds up one vector");
  if (threadIdx.x < part) {
    const uint32_t at = (rank_in_row<Cfg>() * part + threadIdx.x) * 16;
    const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(smem.histogram)) + at;
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(smem.total)) + at;
    uint4 sum = make_uint4(0, 0, 0, 0);
#pragma unroll(Cfg::streamed ? 1 : 2)  // as registers allow
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

// Where the counts from above reach `needed`. Bin 0 with nothing above it where they do not.
template <class Cfg>
__device__ __forceinline__ Found find_bin(Smem<Cfg>& smem, const uint32_t* bins, uint32_t needed) {
  using Bins = OwnBins<Cfg>;
  uint32_t counts[Bins::num], sum = 0, total;
  Bins::load(bins, counts);
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

// The keys that are taken: all above the range, and the first `needed` in it.
struct Choice {
  Range range;
  uint32_t needed;
};

// The largest keys of this thread's groups: of all elements j of its vectors.
template <class Cfg>
__device__ __forceinline__ void count_most(Smem<Cfg>& smem, const Keys<Cfg>& keys, const Deal<Cfg>& deal,
                                           const Range& range, uint32_t shift) {
  uint32_t most[4] = {no_key, no_key, no_key, no_key};
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i / 4 >= deal.each()) break;
    most[i % 4] = max(most[i % 4], keys.of[i]);
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
    if (range.contains(most[i])) atomicAdd(&smem.histogram[(most[i] - range.low) >> shift], 1u);
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

// One pass over the keys, towards a histogram of `range`.
template <class Cfg>
struct Counter {
  Smem<Cfg>& smem;
  Range range;
  uint32_t shift;
  bool is_first;  // of groups

  __device__ void operator()(const Keys<Cfg>& keys, const Deal<Cfg>& deal) const {
    if (is_first)
      count_most<Cfg>(smem, keys, deal, range, shift);
    else
      count_bins<Cfg>(smem, keys, deal, range, shift);
  }
};

// The largest of the keys in a range: at least `top_k`, and at most `most`. pass(counter) calls counter(keys, deal) for
// all of this CTA's keys, of every chunk that it has. across: of all CTAs of the cluster, each of which comes here with
// its own keys and says in smem.own how many of them are taken. Requires: there are top_k, top_k <= most; others have
// left what is in the histogram's place.
template <class Cfg, class Pass>
__device__ __forceinline__ Choice choose(Smem<Cfg>& smem, const Range& of, uint32_t top_k, uint32_t most,
                                         bool across, const Pass& pass) {
  constexpr uint32_t bin_bits = Cfg::threads == 1024 ? 12 : 11;
  static_assert(1u << bin_bits == Smem<Cfg>::num_bins);
  Choice choice = {of, top_k};
#pragma unroll 1
  for (bool is_first = true;; is_first = false) {
    const Range range = choice.range;
    const uint32_t width = range.high - range.low;
    const uint32_t bits = 32 - __clz(width), shift = bits > bin_bits ? bits - bin_bits : 0;
    OwnBins<Cfg>::clear(smem.histogram);
    __syncthreads();
    if (threadIdx.x == 0) smem.found = {0, 0, 0, 0};
    pass(Counter<Cfg>{smem, range, shift, is_first});
    const bool is_added = Cfg::cluster > 1 && across;
    if constexpr (Cfg::cluster > 1)
      if (is_added) add_histograms<Cfg>(smem);
    if (!is_added) __syncthreads();
    const Found found = find_bin<Cfg>(smem, is_added ? smem.total : smem.histogram, choice.needed);
    const uint32_t last = is_first ? found.top : found.bin;
    choice.range.low = range.low + (found.bin << shift);
    choice.range.high = range.low + min(last << shift | ((1u << shift) - 1), width);
    // Others have read it now: they came to the barriers above since.
    if (is_added && is_first && threadIdx.x == 0) smem.own.greater = 0;
    if (is_first) continue;
    choice.needed -= found.above;
    if (is_added) count_own<Cfg>(smem, found.bin);
    if (top_k - choice.needed + found.count <= most) {
      choice.needed = found.count;
      return choice;
    }
    if (shift == 0) return choice;
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

// Keys that come before something: above the range, and in it.
struct Before {
  uint32_t greater, equal;
  __device__ void add(uint32_t counts) { greater += counts & 0xffff, equal += counts >> 16; }
  // Of them, how many are taken.
  __device__ uint32_t taken(uint32_t needed) const { return greater + min(equal, needed); }
};

// What the lower CTAs of the cluster have of the row.
template <class Cfg>
__device__ __forceinline__ Before count_lower_ctas(const Smem<Cfg>& smem) {
  ptx::cluster_arrive();
  ptx::cluster_wait();
  const uint32_t own = static_cast<uint32_t>(__cvta_generic_to_shared(&smem.own));
  Before before = {0, 0};
  for (uint32_t i = 0, rank = rank_in_row<Cfg>(); i < rank; ++i) {
    const uint2 v = ptx::load_cluster_b32x2(ptx::mapa(own, i));
    before.greater += v.x, before.equal += v.y;
  }
  return before;
}
#endif

}  // namespace dgrt::sm90::topk_transform
