// bf16 and fp16 <-> fp32, by the config's number of the type. bf16 is the upper half of an fp32.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cvt
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::ptx {

// Two values, nearest even; `low` goes to the lower address.
template <int dtype>
__device__ __forceinline__ uint32_t pack_half2(float low, float high) {
  uint32_t packed;
  if constexpr (dtype == dtype_fp16)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

template <int dtype>
__device__ __forceinline__ float half_low(uint32_t pair) {
  if constexpr (dtype != dtype_fp16) return __uint_as_float(pair << 16);
  float v;
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}" : "=f"(v) : "r"(pair));
  return v;
}
template <int dtype>
__device__ __forceinline__ float half_high(uint32_t pair) {
  if constexpr (dtype != dtype_fp16) return __uint_as_float(pair & 0xffff0000u);
  return half_low<dtype>(pair >> 16);
}

// Two e4m3 codes, the first in the lower byte, exactly; NaN stays NaN. There is no conversion to bf16 but
// by way of fp16 and fp32.
template <int dtype>
__device__ __forceinline__ uint32_t upcast_e4m3x2(uint32_t codes) {
  uint32_t v;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(v) : "h"(static_cast<uint16_t>(codes)));
  if constexpr (dtype == dtype_fp16) return v;
  return pack_half2<dtype>(half_low<dtype_fp16>(v), half_high<dtype_fp16>(v));
}

}  // namespace dgrt::ptx
