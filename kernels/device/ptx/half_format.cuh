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

// Pairs of bf16, nearest even; subnormals are kept, as in the next one, which rounds once.
__device__ __forceinline__ uint32_t mul_bf16x2(uint32_t x, uint32_t y) {
  uint32_t v;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(x), "r"(y));
  return v;
}
__device__ __forceinline__ uint32_t fma_bf16x2(uint32_t x, uint32_t y, uint32_t z) {
  uint32_t v;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(v) : "r"(x), "r"(y), "r"(z));
  return v;
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

// Four, the first in the lowest byte, as two pairs: in one piece, for which the assembler needs no shifts.
template <int dtype>
__device__ __forceinline__ uint2 upcast_e4m3x4(uint32_t codes) {
  uint2 v;
  if constexpr (dtype == dtype_fp16)
    asm("{.reg .b16 x, y; mov.b32 {x, y}, %2; cvt.rn.f16x2.e4m3x2 %0, x; cvt.rn.f16x2.e4m3x2 %1, y;}"
        : "=r"(v.x), "=r"(v.y)
        : "r"(codes));
  else
    asm("{.reg .b16 x, y, a, b; .reg .b32 pair; .reg .f32 low, high; mov.b32 {x, y}, %2;"
        "cvt.rn.f16x2.e4m3x2 pair, x; mov.b32 {a, b}, pair; cvt.f32.f16 low, a; cvt.f32.f16 high, b;"
        "cvt.rn.bf16x2.f32 %0, high, low;"
        "cvt.rn.f16x2.e4m3x2 pair, y; mov.b32 {a, b}, pair; cvt.f32.f16 low, a; cvt.f32.f16 high, b;"
        "cvt.rn.bf16x2.f32 %1, high, low;}"
        : "=r"(v.x), "=r"(v.y)
        : "r"(codes));
  return v;
}

}  // namespace dgrt::ptx
