// The output matrix as plain pointers, and how a few neighbouring values of it are written: plus c, rounded
// once, clipped at n.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/bf16.cuh"
#endif

namespace dgrt {

struct GemmOutput {
  void* d;            // [m, n], bf16 or fp32
  const void* c;      // [m, n] of d's type, or null
  uint64_t ldd, ldc;  // elements
  uint32_t m, n;
};

#ifdef __CUDACC_RTC__
// `count` (2 or 4) values of one row, from `column`, a multiple of count. Rows are 16-byte aligned, so
// that a whole group is one aligned access.
template <bool fp32, bool with_c, uint32_t count>
__device__ __forceinline__ void store_values(const GemmOutput& out, uint32_t row, uint32_t column,
                                             float (&v)[count]) {
  if (column >= out.n) return;
  const bool whole = column + count <= out.n;
  if constexpr (fp32) {
    float* d = static_cast<float*>(out.d) + row * out.ldd + column;
    if constexpr (with_c) {
      const float* c = static_cast<const float*>(out.c) + row * out.ldc + column;
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        if (column + i < out.n) v[i] += c[i];
    }
    if (whole) {
      if constexpr (count == 4)
        *reinterpret_cast<float4*>(d) = make_float4(v[0], v[1], v[2], v[3]);
      else
        *reinterpret_cast<float2*>(d) = make_float2(v[0], v[1]);
    } else {
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        if (column + i < out.n) d[i] = v[i];
    }
  } else {
    uint16_t* d = static_cast<uint16_t*>(out.d) + row * out.ldd + column;
    if constexpr (with_c) {
      const uint16_t* c = static_cast<const uint16_t*>(out.c) + row * out.ldc + column;
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        if (column + i < out.n) v[i] += ptx::bf16_low(c[i]);
    }
    if (whole) {
      if constexpr (count == 4)
        *reinterpret_cast<uint2*>(d) =
            make_uint2(ptx::pack_bf16x2(v[0], v[1]), ptx::pack_bf16x2(v[2], v[3]));
      else
        *reinterpret_cast<uint32_t*>(d) = ptx::pack_bf16x2(v[0], v[1]);
    } else {
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        if (column + i < out.n) d[i] = static_cast<uint16_t>(ptx::pack_bf16x2(v[i], 0.0f));
    }
  }
}
#endif

}  // namespace dgrt
