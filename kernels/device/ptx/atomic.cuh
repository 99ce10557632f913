// Global memory that several CTAs of a grid share: counters, and loads that see what other CTAs wrote
// before they touched a counter.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-atom
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

// Adds 1, or writes 0 where the counter stands at `last`. Returns what was there. Releases what this
// thread wrote or has seen by a barrier of its CTA, and acquires what earlier increments released.
__device__ __forceinline__ uint32_t atomic_inc_wrap(uint32_t* counter, uint32_t last) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(counter), "r"(last)
               : "memory");
  return before;
}

__device__ __forceinline__ float2 load_relaxed_f32x2(const void* from) {
  float2 v;
  asm volatile("ld.relaxed.gpu.global.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "l"(from) : "memory");
  return v;
}

__device__ __forceinline__ float4 load_relaxed_f32x4(const void* from) {
  float4 v;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

}  // namespace dgrt::ptx
