// hc_prenorm of few rows: CTAs that only add up what others of their row tile send them. Each takes some
// columns of all parts, so that no SM reads many bytes, and passes over them until all have come. The code of
// a pass that finds them was walked through by those before: none of it must be fetched when it matters.
#pragma once
#include "device/epilogue/sent_parts.cuh"
#include "hyper/hc_prenorm_sums.cuh"

namespace dgrt::sm90::hc_prenorm {

// All threads. True if all say so; `words`: one for each warp, written in no other pass that a thread may be in.
template <class Cfg>
__device__ __forceinline__ bool all_threads(bool yes, uint32_t words) {
  const bool warp_says = __all_sync(0xffffffff, yes);
  if (threadIdx.x % 32 == 0) ptx::store_shared_u32(words + threadIdx.x / 32 * 4, warp_says ? 1 : 0);
  __syncthreads();
  bool all = true;
#pragma unroll
  for (uint32_t i = 0; i < Cfg::warps; i += 4) {
    const uint4 v = ptx::load_shared_b32x4(words + i * 4);
    all &= (v.x & v.y & v.z & v.w) != 0;
  }
  return all;
}

// What a thread adds up: four floats of each of `count` parts in their order, 16 of them under way at once.
// `here`: whether all have come.
template <class Cfg>
__device__ __forceinline__ float4 sum_sent(const float* first, uint32_t count, bool* here) {
  constexpr uint32_t stride = TileSums<Cfg>::part;
  float4 total = {};
#pragma unroll 1
  for (; count > 0; count -= count < 16 ? count : 16, first += 16 * stride) {
    ptx::renew(first);  // one address and 16 constants
    float4 parts[16];
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i) {
      parts[i] = no_term();
      if (i < count) parts[i] = receive(first + i * stride);
    }
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i) {
      *here &= has_come(parts[i]);
      total = plus(total, parts[i]);
    }
  }
  return total;
}

// Adder number `adder` of a tile. `scratch`: staging_bytes() of shared memory.
template <class Cfg>
__device__ __forceinline__ void add_parts(const Params& p, uint32_t tile, uint32_t adder,
                                          uint32_t scratch) {
  constexpr uint32_t num_threads = Cfg::warps * 32;
  static_assert(Cfg::warps % 4 == 0, "words of warps are read in fours");
  const TileSums<Cfg> sums(p, tile);
  const uint32_t first = sums.count * adder / p.num_adders;
  const uint32_t count = sums.count * (adder + 1) / p.num_adders - first;
  if (count == 0) return;
  const uint32_t fitting = num_threads / count;  // at least 1
  const uint32_t slices = fitting < p.max_slices ? fitting : p.max_slices;
  const uint32_t slice = threadIdx.x / count, group = first + threadIdx.x % count;
  const uint32_t begin = p.num_groups * slice / slices;
  const uint32_t num_parts = slice < slices ? p.num_groups * (slice + 1) / slices - begin : 0;
  float* parts = sums.parts(p, tile) + begin * sums.part + sums.offset(group);
#pragma unroll 1
  for (uint32_t pass = 0;; ++pass) {
    bool here = true;
    const float4 sum = sum_sent<Cfg>(parts, num_parts, &here);
    const uint32_t said = scratch + pass % 2 * pass_bytes(Cfg::warps);
    ptx::store_shared_f32x4(said + threadIdx.x * 16, sum);
    const bool done = all_threads<Cfg>(here, said + num_threads * 16);
    if (threadIdx.x < count) {
      const float4 total = sum_of_slices(said, slices, count, threadIdx.x);
      if (done) sums.store(p.out, 0, group, total);
    }
    if (done) break;
  }
#pragma unroll 1
  for (uint32_t part = 0; part < num_parts; ++part) forget(parts + part * sums.part);
}

}  // namespace dgrt::sm90::hc_prenorm
