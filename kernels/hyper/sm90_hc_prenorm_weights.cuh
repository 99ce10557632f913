// SM90 hc_prenorm_weights: splits fp32 weights f[n, k] into two bf16 matrices, one above the other:
// rows 0 .. n - 1 of w hold high = bf16(f), rows padded n .. padded n + n - 1 hold low = bf16(f -
// high), the others zeros. high + low is f to 16 significant bits. Run once per set of weights.
//
// Roles     a thread turns 8 columns of one row: 32 bytes in, twice 16 bytes out.
// Needs     f and w 16-byte aligned, ldf a multiple of 4, k of 8.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::hc_prenorm_weights {

// ---- Interface: host and NVRTC ----

struct Params {
  const float* f;  // [n, k]
  void* w;         // bf16 [2 * padded n, k], dense
  int64_t ldf;     // elements
  uint32_t n, padded_n, k;
};

constexpr uint32_t num_threads = 128;
constexpr uint32_t thread_columns = 8;

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// Two columns as bf16 pairs.
struct Pair {
  uint32_t high, low;
};

// A finite number whose nearest bf16 is infinite takes the largest bf16 instead; what an infinity or
// NaN lacks is 0, so that it is not counted twice.
__device__ __forceinline__ float high_part(float f) {
  const float high = ptx::half_low<dtype_bf16>(ptx::pack_half2<dtype_bf16>(f, 0.0f));
  const bool overflow = fabsf(f) <= 3.402823466e38f && fabsf(high) > 3.402823466e38f;
  return overflow ? copysignf(__uint_as_float(0x7f7f0000u), f) : high;
}
__device__ __forceinline__ float low_part(float f, float high) {
  return fabsf(f) <= 3.402823466e38f ? f - high : 0.0f;
}

__device__ __forceinline__ Pair split(float first, float second) {
  const float high[2] = {high_part(first), high_part(second)};
  return {ptx::pack_half2<dtype_bf16>(high[0], high[1]),
          ptx::pack_half2<dtype_bf16>(low_part(first, high[0]), low_part(second, high[1]))};
}

template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_k == num_threads * thread_columns, "one row, 8 columns per thread");
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const uint32_t column = blockIdx.x * Cfg::block_k + threadIdx.x * thread_columns;
  const uint32_t row = blockIdx.y;
  if (column >= p.k) return;
  Pair pairs[4] = {};
  if (row < p.n) {
    const float* f = p.f + row * p.ldf + column;
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const uint4 v = ptx::load_stream_b32x4(f + 4 * i);
      pairs[2 * i] = split(__uint_as_float(v.x), __uint_as_float(v.y));
      pairs[2 * i + 1] = split(__uint_as_float(v.z), __uint_as_float(v.w));
    }
  }
  uint16_t* high = static_cast<uint16_t*>(p.w) + uint64_t{row} * p.k + column;
  ptx::store_b32x4(high, make_uint4(pairs[0].high, pairs[1].high, pairs[2].high, pairs[3].high));
  ptx::store_b32x4(high + uint64_t{p.padded_n} * p.k,
                   make_uint4(pairs[0].low, pairs[1].low, pairs[2].low, pairs[3].low));
}

#endif
}  // namespace dgrt::sm90::hc_prenorm_weights
