// Global memory that several CTAs of a grid share: counters, loads that see what other CTAs wrote before
// they touched a counter, and words that are looked at until they have come.
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

// Returns what was there. Releases and acquires as atomic_inc_wrap().
__device__ __forceinline__ uint64_t atomic_add_u64(uint64_t* to, uint64_t v) {
  uint64_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], %2;" : "=l"(before) : "l"(to), "l"(v) : "memory");
  return before;
}

// Says nothing of other memory.
__device__ __forceinline__ uint64_t atomic_add_relaxed_u64(uint64_t* to, uint64_t v) {
  uint64_t before;
  asm volatile("atom.relaxed.gpu.global.add.u64 %0, [%1], %2;" : "=l"(before) : "l"(to), "l"(v) : "memory");
  return before;
}

__device__ __forceinline__ uint64_t load_acquire_u64(const uint64_t* from) {
  uint64_t v;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(from) : "memory");
  return v;
}

__device__ __forceinline__ void store_relaxed_u64(uint64_t* to, uint64_t v) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(v) : "memory");
}

// Writes `to` where the memory holds `from`. Returns what was there. Aligned to 16 bytes, device memory.
__device__ __forceinline__ int4 atomic_cas_b128(int32_t* at, int4 from, int4 to) {
  int4 before;
  asm volatile(
      "{\n"
      ".reg .b64 low, high;\n"
      ".reg .b128 from, to, before;\n"
      "mov.b64 low, {%5, %6};\n"
      "mov.b64 high, {%7, %8};\n"
      "mov.b128 from, {low, high};\n"
      "mov.b64 low, {%9, %10};\n"
      "mov.b64 high, {%11, %12};\n"
      "mov.b128 to, {low, high};\n"
      "atom.relaxed.gpu.global.cas.b128 before, [%4], from, to;\n"
      "mov.b128 {low, high}, before;\n"
      "mov.b64 {%0, %1}, low;\n"
      "mov.b64 {%2, %3}, high;\n"
      "}"
      : "=r"(before.x), "=r"(before.y), "=r"(before.z), "=r"(before.w)
      : "l"(at), "r"(from.x), "r"(from.y), "r"(from.z), "r"(from.w), "r"(to.x), "r"(to.y), "r"(to.z), "r"(to.w)
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

// 16 bytes at once: who loads them so finds all of a store or nothing of it. Aligned to 16 bytes.
__device__ __forceinline__ float4 load_relaxed_b128(const void* from) {
  uint64_t low, high;
  asm volatile(
      "{\n"
      ".reg .b128 v;\n"
      "ld.relaxed.gpu.global.b128 v, [%2];\n"
      "mov.b128 {%0, %1}, v;\n"
      "}"
      : "=l"(low), "=l"(high)
      : "l"(from)
      : "memory");
  return make_float4(__uint_as_float(static_cast<uint32_t>(low)), __uint_as_float(static_cast<uint32_t>(low >> 32)),
                     __uint_as_float(static_cast<uint32_t>(high)), __uint_as_float(static_cast<uint32_t>(high >> 32)));
}
__device__ __forceinline__ void store_relaxed_b128(void* to, float4 v) {
  asm volatile(
      "{\n"
      ".reg .b64 low, high;\n"
      ".reg .b128 v;\n"
      "mov.b64 low, {%1, %2};\n"
      "mov.b64 high, {%3, %4};\n"
      "mov.b128 v, {low, high};\n"
      "st.relaxed.gpu.global.b128 [%0], v;\n"
      "}" ::"l"(to),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
      : "memory");
}

}  // namespace dgrt::ptx
