// Number formats: conversions and the arithmetic whose rounding must not depend on compiler
// options.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cvt
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// Two e4m3 codes, `low` in the lower byte: nearest even, out of range becomes +-448, NaN becomes
// 0x7f.
__device__ __forceinline__ uint32_t cvt_e4m3x2(float high, float low) {
  uint16_t v;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(v) : "f"(high), "f"(low));
  return v;
}

// max(|x|, |y|) of two pairs of bf16, NaN if either is NaN. The sign is that of x * y.
__device__ __forceinline__ uint32_t max_abs_bf16x2(uint32_t x, uint32_t y) {
  uint32_t v;
  asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(v) : "r"(x), "r"(y));
  return v;
}

// NaN if either is NaN.
__device__ __forceinline__ float max_nan_f32(float x, float y) {
  float v;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(v) : "f"(x), "f"(y));
  return v;
}

// Subnormals are kept, as in the next one.
__device__ __forceinline__ float mul_rn_f32(float x, float y) {
  float v;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(v) : "f"(x), "f"(y));
  return v;
}

// x * y + z, rounded once.
__device__ __forceinline__ float fma_rn_f32(float x, float y, float z) {
  float v;
  asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(v) : "f"(x), "f"(y), "f"(z));
  return v;
}

// 1 / x within one unit of the last place.
__device__ __forceinline__ float rcp_approx_f32(float x) {
  float v;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(v) : "f"(x));
  return v;
}

// 2^x, relative error 2^-22; 0 of minus infinity.
__device__ __forceinline__ float ex2_approx_f32(float x) {
  float v;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(v) : "f"(x));
  return v;
}

// log2(x), absolute error 2^-22 near 1; minus infinity of 0.
__device__ __forceinline__ float lg2_approx_f32(float x) {
  float v;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(v) : "f"(x));
  return v;
}

}  // namespace dgrt::ptx
