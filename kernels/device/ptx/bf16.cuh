// bf16 <-> fp32. bf16 is the upper half of an fp32.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

// Two values, nearest even; `low` goes to the lower address.
__device__ __forceinline__ uint32_t pack_bf16x2(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

}  // namespace dgrt::ptx
