// Several CTAs leave partial results in global memory; the one that comes last combines them. The
// counter starts at zero and every launch leaves it at zero. Who comes last is chance: the combining
// must take the parts in their own order, so that its result is not.
#pragma once
#include "device/ptx/atomic.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// All of `num_threads` threads, after their last write of a part. True in all of them if `count`
// CTAs have come now, this one included; what those wrote may then be read by relaxed loads.
// `flag`: shared address of a word of this call alone.
__device__ __forceinline__ bool arrives_last(uint32_t* counter, uint32_t count, uint32_t flag,
                                             uint32_t barrier_id, uint32_t num_threads) {
  ptx::named_barrier_sync(barrier_id, num_threads);
  if (threadIdx.x == 0) {
    const bool is_last = ptx::atomic_inc_wrap(counter, count - 1) == count - 1;
    ptx::store_shared_f32(flag, is_last ? 1.0f : 0.0f);
  }
  ptx::named_barrier_sync(barrier_id, num_threads);
  return ptx::load_shared_f32(flag) != 0.0f;
}

__device__ __forceinline__ float4 plus(float4 x, float4 y) {
  return make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
}

// What changes no sum: for terms that a branch would leave out.
__device__ __forceinline__ float4 no_term() { return make_float4(-0.0f, -0.0f, -0.0f, -0.0f); }

// part(first) + part(first + 1) + ... + part(end - 1), in this order; up to 16 are loaded side by side.
template <class Part>
__device__ __forceinline__ float4 sum_in_order(uint32_t first, uint32_t end, const Part& part) {
  float4 total = {};
#pragma unroll 1
  for (; first < end; first += 16) {
    float4 parts[16] = {};
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i)
      if (first + i < end) parts[i] = part(first + i);
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i) total = plus(total, parts[i]);
  }
  return total;
}

}  // namespace dgrt
