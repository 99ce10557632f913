// Global memory: vector loads and stores, one instruction per function. `_stream` loads are for
// data that this grid reads once: they do not stay in L1.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-ld
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

__device__ __forceinline__ uint4 load_stream_b32x4(const void* from) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

__device__ __forceinline__ int4 load_stream_s32x4(const void* from) {
  int4 v;
  asm volatile("ld.global.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

__device__ __forceinline__ uint2 load_stream_b32x2(const void* from) {
  uint2 v;
  asm volatile("ld.global.L1::no_allocate.v2.b32 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(from)
               : "memory");
  return v;
}

// `otherwise` unless `exists`, by a predicate.
__device__ __forceinline__ uint32_t load_b32_if(bool exists, const void* from, uint32_t otherwise) {
  uint32_t v;
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %1, 0; mov.b32 %0, %3;"
      "@p ld.global.b32 %0, [%2];}"
      : "=&r"(v)
      : "r"(static_cast<uint32_t>(exists)), "l"(from), "r"(otherwise)
      : "memory");
  return v;
}

// 0 unless `exists`: a predicate, where the compiler would branch around each of many.
__device__ __forceinline__ uint32_t load_b8_if(bool exists, const void* from) {
  uint32_t v;
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %1, 0; mov.b32 %0, 0;"
      "@p ld.global.b8 %0, [%2];}"
      : "=&r"(v)
      : "r"(static_cast<uint32_t>(exists)), "l"(from)
      : "memory");
  return v;
}

__device__ __forceinline__ uint32_t load_stream_b16(const void* from) {
  uint16_t v;
  asm volatile("ld.global.L1::no_allocate.b16 %0, [%1];" : "=h"(v) : "l"(from) : "memory");
  return v;
}

__device__ __forceinline__ float load_stream_f32(const void* from) {
  float v;
  asm volatile("ld.global.L1::no_allocate.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
  return v;
}

__device__ __forceinline__ void store_b32(void* to, uint32_t v) {
  asm volatile("st.global.b32 [%0], %1;" ::"l"(to), "r"(v) : "memory");
}

__device__ __forceinline__ void store_b32x2(void* to, uint2 v) {
  asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(v.x), "r"(v.y) : "memory");
}

__device__ __forceinline__ void store_b32x4(void* to, uint4 v) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

// Nothing unless `exists`: a predicate, where the compiler would branch around each of many.
__device__ __forceinline__ void store_b32x4_if(bool exists, void* to, uint4 v) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %0, 0;"
      "@p st.global.v4.b32 [%1], {%2, %3, %4, %5};}" ::"r"(static_cast<uint32_t>(exists)),
      "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
      : "memory");
}

__device__ __forceinline__ void store_b8(void* to, uint32_t v) {
  asm volatile("st.global.b8 [%0], %1;" ::"l"(to), "r"(v) : "memory");
}

__device__ __forceinline__ void store_b16(void* to, uint16_t v) {
  asm volatile("st.global.b16 [%0], %1;" ::"l"(to), "h"(v) : "memory");
}

__device__ __forceinline__ void store_f32(void* to, float v) {
  asm volatile("st.global.f32 [%0], %1;" ::"l"(to), "f"(v) : "memory");
}

__device__ __forceinline__ void store_f32x2(void* to, float2 v) {
  asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(v.x), "f"(v.y) : "memory");
}

__device__ __forceinline__ void store_f32x4(void* to, float4 v) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z),
               "f"(v.w)
               : "memory");
}

// The line around.
__device__ __forceinline__ void prefetch_l2(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from) : "memory");
}

// Both multiples of 16.
__device__ __forceinline__ void prefetch_bulk_l2(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// Adds to a counter after everything that this thread wrote or was told of by barriers.
__device__ __forceinline__ void add_release_gpu(int32_t* to, int32_t v) {
  asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(to), "r"(v) : "memory");
}

}  // namespace dgrt::ptx
