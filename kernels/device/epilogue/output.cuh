// The output matrix as plain pointers, and how neighbouring values of a row are written: plus c,
// rounded once, clipped at n.
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
// One value, where a group of columns is cut off by n.
template <bool fp32, bool with_c>
__device__ __forceinline__ void store_value(char* d, const char* c, float v) {
  if constexpr (fp32) {
    if (with_c) v += *reinterpret_cast<const float*>(c);
    *reinterpret_cast<float*>(d) = v;
  } else {
    if (with_c) v += ptx::bf16_low(*reinterpret_cast<const uint16_t*>(c));
    *reinterpret_cast<uint16_t*>(d) = static_cast<uint16_t>(ptx::pack_bf16x2(v, 0.0f));
  }
}

// Two or four neighbouring values; rows are 16-byte aligned and `column` a multiple of the count,
// so that the group is one aligned access.
template <bool fp32, bool with_c>
__device__ __forceinline__ void store_group(char* d, const char* c, float (&v)[2]) {
  if constexpr (fp32) {
    const float2 add = with_c ? *reinterpret_cast<const float2*>(c) : make_float2(0.0f, 0.0f);
    if (with_c) v[0] += add.x, v[1] += add.y;
    *reinterpret_cast<float2*>(d) = make_float2(v[0], v[1]);
  } else {
    const uint32_t add = with_c ? *reinterpret_cast<const uint32_t*>(c) : 0;
    if (with_c) v[0] += ptx::bf16_low(add), v[1] += ptx::bf16_high(add);
    *reinterpret_cast<uint32_t*>(d) = ptx::pack_bf16x2(v[0], v[1]);
  }
}
template <bool fp32, bool with_c>
__device__ __forceinline__ void store_group(char* d, const char* c, float (&v)[4]) {
  if constexpr (fp32) {
    const float4 add = with_c ? *reinterpret_cast<const float4*>(c) : make_float4(0, 0, 0, 0);
    if (with_c) v[0] += add.x, v[1] += add.y, v[2] += add.z, v[3] += add.w;
    *reinterpret_cast<float4*>(d) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
    const uint2 add = with_c ? *reinterpret_cast<const uint2*>(c) : make_uint2(0, 0);
    if (with_c) {
      v[0] += ptx::bf16_low(add.x), v[1] += ptx::bf16_high(add.x);
      v[2] += ptx::bf16_low(add.y), v[3] += ptx::bf16_high(add.y);
    }
    *reinterpret_cast<uint2*>(d) =
        make_uint2(ptx::pack_bf16x2(v[0], v[1]), ptx::pack_bf16x2(v[2], v[3]));
  }
}

// Part of one row of d, from a column on.
template <bool fp32, bool with_c>
struct RowCursor {
  static constexpr uint32_t element_bytes = fp32 ? 4 : 2;
  char* d;
  const char* c;
  uint32_t left;  // columns up to n

  __device__ __forceinline__ RowCursor(const GemmOutput& out, uint32_t row, uint32_t column)
      : d(static_cast<char*>(out.d) + (row * out.ldd + column) * element_bytes),
        c(with_c ? static_cast<const char*>(out.c) + (row * out.ldc + column) * element_bytes
                 : nullptr),
        left(column < out.n ? out.n - column : 0) {}

  // `count` values, `offset` columns further on; both 2 or both multiples of 4.
  template <uint32_t count>
  __device__ __forceinline__ void store(uint32_t offset, float (&v)[count]) const {
    char* to = d + offset * element_bytes;
    const char* from = c + offset * element_bytes;
    if (offset + count <= left) {
      store_group<fp32, with_c>(to, from, v);
      return;
    }
#pragma unroll
    for (uint32_t i = 0; i + 1 < count; ++i)
      if (offset + i < left)
        store_value<fp32, with_c>(to + i * element_bytes, from + i * element_bytes, v[i]);
  }
};
#endif

}  // namespace dgrt
