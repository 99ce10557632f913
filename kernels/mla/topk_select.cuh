// Which of the keys that CTAs hold in registers are the k largest: exact for every distribution, in a fixed order.
//
// The k-th largest key is enclosed in ranges. A first histogram is of the largest key of each of thousands of groups:
// at least k keys are not below the bin in which its count reaches k, and few others are. A second one divides what lies
// between that bin and the largest key. Of most distributions its bins have few keys: those of the bin of the k-th are
// listed, and each warp finds by itself which one it is. Where they are many, further histograms divide the bin, until
// all that are left may be taken or are equal: never more than ceil(32 / bits of the bins). Of equal keys the first
// ones are taken. Histograms only count, the list is read as a set, and places follow from sums over threads in the
// order of keys: nothing depends on which atomic comes first.
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
constexpr uint32_t bin_bits = 10, num_bins = 1 << bin_bits;  // a warp's lanes sum up 32 bins each

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
  union {
    uint32_t histogram[num_bins + 4];  // behind the bins: of keys that are in none
    uint32_t list[max_top_k];          // of keys that are taken, when the histograms are done
  };
  uint32_t total[Cfg::cluster == 1 ? 4 : num_bins];  // of all CTAs
  uint32_t warp_sums[num_warps];
  uint32_t few[32], num_few;  // keys of a bin, in any order
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
  constexpr uint32_t part = num_bins / 4 / Cfg::cluster;  // vectors of bins
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

template <class Cfg>
__device__ __forceinline__ void clear_histogram(Smem<Cfg>& smem) {
  static_assert(num_bins % Cfg::threads == 0, "all threads clear as many");
#pragma unroll
  for (uint32_t i = 0; i < num_bins; i += Cfg::threads) smem.histogram[i + threadIdx.x] = 0;
}

// Where the counts from above reach `needed`. Bin 0 with nothing above it where they do not. is_added: in the sum of
// the cluster's histograms; else in this CTA's, which is cleared. One warp finds it: what all of them would do takes
// more instructions than all else.
template <class Cfg>
__device__ __forceinline__ Found find_bin(Smem<Cfg>& smem, bool is_added, bool with_top, uint32_t needed) {
  if (threadIdx.x < 32) {
    uint32_t* const bins = is_added ? smem.total : smem.histogram;
    const uint32_t lane = threadIdx.x;
    // The first lane has the highest bins. Neighbours read other banks.
    uint4* const own = reinterpret_cast<uint4*>(bins + (31 - lane) * 32);
    uint32_t sum = 0;
#pragma unroll 2  // registers hold keys
    for (uint32_t i = 0; i < 8; ++i) {
      const uint4 v = own[i ^ lane % 8];
      sum += v.x + v.y + v.z + v.w;
    }
    const uint32_t above = sum_below(sum);
    const uint32_t reach = __ballot_sync(0xffffffffu, above < needed && above + sum >= needed);
    const uint32_t filled = __ballot_sync(0xffffffffu, sum > 0);
    if (lane == 0) smem.found = {0, 0, 0, 0}, smem.num_few = 0;
    __syncwarp();
    if (reach != 0) {
      const uint32_t of = __ffs(reach) - 1, bin = (31 - of) * 32 + 31 - lane, count = bins[bin];
      const uint32_t before = __shfl_sync(0xffffffffu, above, of) + sum_below(count);
      if (before < needed && before + count >= needed)
        smem.found.bin = bin, smem.found.above = before, smem.found.count = count;
    }
    if (with_top && filled != 0) {
      const uint32_t first = (32 - __ffs(filled)) * 32;
      const uint32_t of_first = __ballot_sync(0xffffffffu, bins[first + lane] > 0);
      if (lane == 0) smem.found.top = first + 31 - __clz(of_first);
    }
    __syncwarp();
    if (!is_added)
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) own[i ^ lane % 8] = make_uint4(0, 0, 0, 0);
  }
  __syncthreads();
  // The same in all lanes: so that the compiler knows it to be, and keeps it out of registers that hold keys.
  const Found found = smem.found;
  return {ptx::redux_max_u32(found.bin), ptx::redux_max_u32(found.above), ptx::redux_max_u32(found.count),
          ptx::redux_max_u32(found.top)};
}

// How many of this CTA's keys lie above the bin, and in it. Reads the bins that this thread clears.
template <class Cfg>
__device__ __forceinline__ void count_own(Smem<Cfg>& smem, uint32_t bin) {
  uint32_t above = 0;
#pragma unroll
  for (uint32_t i = 0; i < num_bins; i += Cfg::threads) {
    const uint32_t at = i + threadIdx.x, count = smem.histogram[at];
    above += at > bin ? count : 0;
    if (at == bin) smem.own.equal = count;
  }
  above = ptx::redux_add_u32(above);
  if (threadIdx.x % 32 == 0 && above > 0) atomicAdd(&smem.own.greater, above);
}

// The keys that are taken: all above `above`, and the first `needed` of those from `low` on to it.
struct Choice {
  uint32_t above, low, needed;
  __device__ bool is_cut() const { return low <= above; }  // else nothing lies between them
};

enum class Count : uint32_t { groups, bins, few };

// One pass over the keys of a range: a histogram of it, of the largest keys of groups alone, or a list of all.
template <class Cfg>
struct Counter {
  Smem<Cfg>& smem;
  Range range;
  uint32_t shift, end, bins;  // keys from range.low + end on are in no bin; address of the first bin
  Count count;

  __device__ bool is_first() const { return count == Count::groups; }
  __device__ void operator()(const Keys<Cfg>& keys, const Deal<Cfg>& deal) const {
    if (count == Count::groups)
      count_most(keys, deal);
    else if (count == Count::bins)
      count_bins(keys, deal);
    else
      list_few(keys, deal);
  }

 private:
  // Without a branch: keys of other ranges have a bin of their own, which a warp counts at once.
  __device__ void add(uint32_t key) const {
    ptx::increment_shared_u32(bins + (min(key - range.low, end) >> shift) * 4);
  }
  // A group: all elements j of this thread's vectors.
  __device__ void count_most(const Keys<Cfg>& keys, const Deal<Cfg>& deal) const {
    uint32_t most[4] = {no_key, no_key, no_key, no_key};
#pragma unroll
    for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
      if (i % 4 == 0 && i / 4 >= deal.each()) break;
      most[i % 4] = max(most[i % 4], keys.of[i]);
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) add(most[i]);
  }
  __device__ void count_bins(const Keys<Cfg>& keys, const Deal<Cfg>& deal) const {
#pragma unroll
    for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
      if (i % 4 == 0 && i / 4 >= deal.each()) break;
      add(keys.of[i]);
    }
  }
  // Each key as often as this thread has it. Most threads have none.
  __device__ void list_few(const Keys<Cfg>& keys, const Deal<Cfg>& deal) const {
#pragma unroll 1
    for (uint32_t from = range.low;;) {
      uint32_t nearest = 0xffffffffu, count = 0;
#pragma unroll
      for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
        if (i % 4 == 0 && i / 4 >= deal.each()) break;
        nearest = min(nearest, keys.of[i] - from);
      }
      if (nearest > range.high - from) return;
      const uint32_t key = from + nearest;
#pragma unroll
      for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
        if (i % 4 == 0 && i / 4 >= deal.each()) break;
        count += keys.of[i] == key;
      }
      for (uint32_t at = atomicAdd(&smem.num_few, count); count > 0; --count) smem.few[at++] = key;
      if (key == range.high) return;
      from = key + 1;
    }
  }
};

// The `needed`th largest of the keys that are listed. Every warp finds it.
template <class Cfg>
__device__ __forceinline__ Choice choose_of_few(const Smem<Cfg>& smem, uint32_t needed) {
  const uint32_t lane = threadIdx.x % 32, count = smem.num_few, key = lane < count ? smem.few[lane] : no_key;
  uint32_t greater = 0, equal = 0;
#pragma unroll 1
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t other = smem.few[i];
    greater += other > key, equal += other == key;
  }
  const bool is_it = greater < needed && greater + equal >= needed;
  const uint32_t kth = ptx::redux_max_u32(is_it ? key : 0);
  const uint32_t left = ptx::redux_max_u32(is_it ? needed - greater : 0);
  const uint32_t of = ptx::redux_max_u32(is_it ? equal : 0);
  return {left == of ? kth - 1 : kth, kth, left};
}

// The largest of the keys in a range: at least `top_k`, and at most `most`. pass(counter) calls counter(keys, deal) for
// all of this CTA's keys, of every chunk that it has. across: of all CTAs of the cluster, each of which comes here with
// its own keys and says in smem.own how many of them are taken. Requires: there are top_k, top_k <= most; the histogram
// is clear, which it is again at the end.
template <class Cfg, class Pass>
__device__ __forceinline__ Choice choose(Smem<Cfg>& smem, Range range, uint32_t top_k, uint32_t most, bool across,
                                         const Pass& pass) {
  const bool is_added = Cfg::cluster > 1 && across;
  uint32_t needed = top_k;
#pragma unroll 1
  for (Count pass_of = Count::groups;;) {
    const uint32_t width = range.high - range.low;
    const uint32_t bits = 32 - __clz(width), shift = bits > bin_bits ? bits - bin_bits : 0;
    const uint32_t bins = (width >> shift) + 1, first = num_bins - bins;  // the last ones
    pass(Counter<Cfg>{smem, range, shift, bins << shift,
                      static_cast<uint32_t>(__cvta_generic_to_shared(smem.histogram + first)), pass_of});
    if constexpr (Cfg::cluster > 1)
      if (is_added) add_histograms<Cfg>(smem);
    if (!is_added) __syncthreads();
    if (pass_of == Count::few) return choose_of_few<Cfg>(smem, needed);
    const bool is_first = pass_of == Count::groups;
    const Found found = find_bin<Cfg>(smem, is_added, is_first, needed);
    const uint32_t last = is_first ? found.top : found.bin;
    range.high = range.low + (((last + 1 - first) << shift) - 1);
    range.low += (max(found.bin, first) - first) << shift;
    pass_of = Count::bins;
    if (is_added) {
      // Others have read it now: they came to the barriers above since.
      if (is_first && threadIdx.x == 0) smem.own.greater = 0;
      if (!is_first) count_own<Cfg>(smem, found.bin);
      clear_histogram(smem);
      __syncthreads();
    }
    if (is_first) continue;
    needed -= found.above;
    if (top_k - needed + found.count <= most) return {range.low - 1, range.low, found.count};
    if (shift == 0) return {range.high, range.low, needed};
    if (!is_added && found.count <= 32) pass_of = Count::few;
  }
}

// A bit for each of a thread's keys that is greater.
template <class Cfg>
__device__ __forceinline__ uint32_t mark_above(const Keys<Cfg>& keys, const Deal<Cfg>& deal, uint32_t bound) {
  uint32_t marks = 0;
#pragma unroll
  for (uint32_t i = 0; i < Cfg::items_per_thread; ++i) {
    if (i % 4 == 0 && i / 4 >= deal.each()) break;
    if (keys.of[i] > bound) marks |= 1u << i;
  }
  return marks;
}

// A thread's keys that are taken, and those of which the first ones of all are.
struct Marks {
  uint32_t greater, equal;
  // Sums over a chunk fit in halves.
  __device__ uint32_t count() const { return __popc(greater) + (__popc(equal) << 16); }
  // With the first `left` of the equal ones.
  __device__ uint32_t taken(uint32_t left) const {
    uint32_t of_equal = equal;
    while (__popc(of_equal) > left) of_equal ^= 0x80000000u >> __clz(of_equal);
    return greater | of_equal;
  }
};

template <class Cfg>
__device__ __forceinline__ Marks mark(const Keys<Cfg>& keys, const Deal<Cfg>& deal, const Choice& choice) {
  Marks marks = {mark_above(keys, deal, choice.above), 0};
  if (choice.is_cut()) marks.equal = mark_above(keys, deal, choice.low - 1) ^ marks.greater;
  return marks;
}

// Keys that come before something: taken whatever else is, and of those of which the first ones are.
struct Before {
  uint32_t greater, equal;
  __device__ void add(uint32_t counts) { greater += counts & 0xffff, equal += counts >> 16; }
  // Of them, how many are taken.
  __device__ uint32_t taken(uint32_t needed) const { return greater + min(equal, needed); }
  // How many of the equal ones behind them are.
  __device__ uint32_t left(uint32_t needed) const { return needed - min(equal, needed); }
};

// Lists this thread's keys that are taken, a bit for each, from `place` on. first: what the list says of the first.
template <class Cfg>
__device__ __forceinline__ void list_taken(Smem<Cfg>& smem, uint32_t taken, uint32_t place, uint32_t first) {
#pragma unroll 1
  for (; taken != 0; taken &= taken - 1) smem.list[place++] = first + __ffs(taken) - 1;
}

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
