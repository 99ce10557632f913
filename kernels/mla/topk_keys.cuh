// A row's scores as topk_transform's CTAs read them: as integers of the same order, in chunks that a CTA's threads
// hold in registers, each thread neighbours. Chunks come to shared memory by asynchronous copies, in the background.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/convert.cuh"
#include "device/ptx/copy_async.cuh"
#include "device/ptx/shared.cuh"
#endif

namespace dgrt::sm90::topk_transform {

// Keys that one CTA holds at once.
DGRT_HD constexpr uint32_t chunk_items(uint32_t threads, uint32_t items_per_thread) {
  return threads * items_per_thread;
}

#ifdef __CUDACC_RTC__
constexpr uint32_t no_key = 0, nan_key = 1;  // no_key: there is no score
constexpr uint32_t most_key = 0xff800002u;   // infinity's

// The one NaN that arithmetic makes has the largest bits of all; two more, and it comes around to nan_key.
__device__ __forceinline__ uint32_t key_of(float score) {
  const uint32_t bits = __float_as_uint(ptx::fma_rn_f32(score, 1.0f, 0.0f));  // -0 becomes 0, each NaN 0x7fffffff
  return (bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u)) + 2;
}

struct Range {
  uint32_t low, high;  // inclusive
  __device__ bool contains(uint32_t key) const { return key - low <= high - low; }
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
  // Address of vector i of this thread. Buffers are aligned to all of a thread's vectors.
  __device__ uint32_t vector_at(uint32_t buffer, uint32_t i) const {
    return (buffer + place(threadIdx.x << shift) * 16) ^ i * 16;
  }
  // The last scores' threads, and those behind them, have fewer.
  __device__ void cut(Keys<Cfg>& keys) const {
    if (first() + each() * 4 <= count) return;
#pragma unroll
    for (uint32_t i = 0; i < Cfg::items_per_thread; ++i)
      if (first() + i >= count) keys.of[i] = no_key;
  }
};

template <class Cfg>
__device__ __forceinline__ Deal<Cfg> deal_of(uint32_t count, uint32_t chunk) {
  constexpr uint32_t items = chunk_items(Cfg::threads, Cfg::items_per_thread);
  return Deal<Cfg>(min(count - chunk * items, items));
}

template <class Cfg>
__device__ __forceinline__ void copy_chunk(uint32_t buffer, const Segment& segment, uint32_t chunk) {
  static_assert(Cfg::threads % 64 == 0, "a step of the loop changes no bit that places are mixed of");
  const Deal<Cfg> deal = deal_of<Cfg>(segment.count, chunk);
  const uint32_t to = buffer + deal.place(threadIdx.x) * 16;
  const float* from =
      segment.scores + chunk * chunk_items(Cfg::threads, Cfg::items_per_thread) + threadIdx.x * 4;
  const uint32_t whole = deal.count / 4, rest = deal.count % 4;  // vectors, and scores behind them
#pragma unroll
  for (uint32_t i = 0; i < deal.most; ++i) {
    if (i * Cfg::threads + threadIdx.x >= whole) break;
    ptx::copy_async_b128(to + i * Cfg::threads * 16, from + i * Cfg::threads * 4);
  }
  if (rest != 0 && threadIdx.x == whole % Cfg::threads) {
    const uint32_t before = whole / Cfg::threads * Cfg::threads;
    ptx::copy_async_b128(to + before * 16, from + before * 4, rest * 4);
  }
  ptx::copy_async_commit();
}

// All threads; other threads' scores as well are in shared memory only after their copies were waited for. pending:
// chunks whose copies were begun later. A barrier must follow before the next copy to there.
template <class Cfg, uint32_t pending>
__device__ __forceinline__ void take_chunk(uint32_t buffer, const Deal<Cfg>& deal, Keys<Cfg>& keys) {
  ptx::copy_async_wait<pending>();
  __syncthreads();
#pragma unroll
  for (uint32_t i = 0; i < deal.most; ++i) {
    if (i >= deal.each()) break;
    const float4 v = ptx::load_shared_f32x4(deal.vector_at(buffer, i));
    keys.of[i * 4] = key_of(v.x), keys.of[i * 4 + 1] = key_of(v.y);
    keys.of[i * 4 + 2] = key_of(v.z), keys.of[i * 4 + 3] = key_of(v.w);
  }
  deal.cut(keys);
}
#endif

}  // namespace dgrt::sm90::topk_transform
