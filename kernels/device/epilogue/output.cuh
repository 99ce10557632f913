// How neighbouring values of a row of d are written: plus bias and c, rounded once, clipped at n.
#pragma once
#include "device/common/gemm_params.cuh"
#include "device/ptx/half_format.cuh"

namespace dgrt {

// Column of d where column n of the product goes.
template <class Cfg>
__device__ __forceinline__ uint32_t d_column(const GemmOutput& out, uint32_t n) {
  if constexpr (!Cfg::head_mid) return n;
  const uint32_t head = n / out.head_width;
  const uint32_t is_right = n % out.head_width >= out.head_left;
  return n + (head + is_right) * out.head_mid;
}

template <int dtype>
__device__ __forceinline__ float load_value(const char* from) {
  if constexpr (dtype == dtype_fp32) return *reinterpret_cast<const float*>(from);
  return ptx::half_low<dtype>(*reinterpret_cast<const uint16_t*>(from));
}
template <int dtype>
__device__ __forceinline__ void store_value(char* to, float v) {
  if constexpr (dtype == dtype_fp32)
    *reinterpret_cast<float*>(to) = v;
  else
    *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(ptx::pack_half2<dtype>(v, 0.0f));
}

// v += two or four neighbouring values that one aligned access reaches.
template <int dtype>
__device__ __forceinline__ void add_group(float (&v)[2], const char* from) {
  if constexpr (dtype == dtype_fp32) {
    const float2 add = *reinterpret_cast<const float2*>(from);
    v[0] += add.x, v[1] += add.y;
  } else {
    const uint32_t add = *reinterpret_cast<const uint32_t*>(from);
    v[0] += ptx::half_low<dtype>(add), v[1] += ptx::half_high<dtype>(add);
  }
}
template <int dtype>
__device__ __forceinline__ void add_group(float (&v)[4], const char* from) {
  if constexpr (dtype == dtype_fp32) {
    const float4 add = *reinterpret_cast<const float4*>(from);
    v[0] += add.x, v[1] += add.y, v[2] += add.z, v[3] += add.w;
  } else {
    const uint2 add = *reinterpret_cast<const uint2*>(from);
    v[0] += ptx::half_low<dtype>(add.x), v[1] += ptx::half_high<dtype>(add.x);
    v[2] += ptx::half_low<dtype>(add.y), v[3] += ptx::half_high<dtype>(add.y);
  }
}

template <int dtype>
__device__ __forceinline__ void store_group(char* to, const float (&v)[2]) {
  if constexpr (dtype == dtype_fp32)
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
  else
    *reinterpret_cast<uint32_t*>(to) = ptx::pack_half2<dtype>(v[0], v[1]);
}
template <int dtype>
__device__ __forceinline__ void store_group(char* to, const float (&v)[4]) {
  if constexpr (dtype == dtype_fp32)
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  else
    *reinterpret_cast<uint2*>(to) =
        make_uint2(ptx::pack_half2<dtype>(v[0], v[1]), ptx::pack_half2<dtype>(v[2], v[3]));
}

// Part of one row of d, from a column on.
template <class Cfg>
struct RowCursor {
  static constexpr int dtype = Cfg::dtype_d;
  static constexpr uint32_t bytes = dtype_bytes<dtype>;
  const GemmOutput& out;
  char* d;  // of the row
  const char* c;
  const char* bias;
  uint32_t column;

  __device__ __forceinline__ RowCursor(const GemmOutput& out, uint32_t group, uint32_t row,
                                       uint32_t column)
      : out(out),
        d(static_cast<char*>(out.d) + (group * out.d_group_stride + row * out.ldd) * bytes),
        c(Cfg::with_c ? static_cast<const char*>(out.c) +
                            (group * out.c_group_stride + row * out.ldc + column) * bytes
                      : nullptr),
        bias(Cfg::with_bias ? static_cast<const char*>(out.bias) + column * bytes : nullptr),
        column(column) {}

  // `count` values, `offset` columns further on; both 2 or both multiples of 4, so that the group
  // is one aligned access where rows are 16-byte aligned.
  template <uint32_t count>
  __device__ __forceinline__ void store(uint32_t offset, float (&v)[count]) const {
    const uint32_t left = column < out.n ? out.n - column : 0;
    char* to = d + uint64_t{d_column<Cfg>(out, column + offset)} * bytes;
    if (!Cfg::unaligned_d && offset + count <= left) {
      if constexpr (Cfg::with_bias) add_group<dtype>(v, bias + offset * bytes);
      if constexpr (Cfg::with_c) add_group<dtype>(v, c + offset * bytes);
      store_group<dtype>(to, v);
      return;
    }
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) {
      if (offset + i >= left) break;
      if constexpr (Cfg::with_bias) v[i] += load_value<dtype>(bias + (offset + i) * bytes);
      if constexpr (Cfg::with_c) v[i] += load_value<dtype>(c + (offset + i) * bytes);
      store_value<dtype>(to + i * bytes, v[i]);
    }
  }
};

}  // namespace dgrt
