// Softmax over keys that come tile by tile: the running maximum and sum of the two rows that a
// thread holds of a 64-row slab (see issue_slab_product), four threads to a row. Source: Milakov
// and Gimelshein, Online normalizer calculation for softmax, arXiv 1805.02867.
#pragma once
#include "device/ptx/convert.cuh"

namespace dgrt {

// Over the four threads of a row.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

struct OnlineSoftmax {
  float max[2] = {-ptx::infinity(), -ptx::infinity()};
  float sum[2] = {};  // of this thread's columns

  // Replaces scores by exp2((score - maximum) * scale). `rescale`: what earlier sums and outputs of
  // a row must be multiplied by. A row that has seen no key yet has maximum minus infinity: its
  // weights are 0.
  template <uint32_t count>
  __device__ __forceinline__ void update(float (&s)[count], float scale, float (&rescale)[2]) {
    update<0>(s, {scale, scale}, rescale);
  }
  // The same with a scale for each row, and weights times 2^lift: of fp16, the smaller ones stay normal.
  template <int lift, uint32_t count>
  __device__ __forceinline__ void update(float (&s)[count], const float (&scale)[2], float (&rescale)[2]) {
#pragma unroll
    for (uint32_t row = 0; row < 2; ++row) {
      float most = s[2 * row];
#pragma unroll
      for (uint32_t i = 0; i < count; i += 4)
        most = fmaxf(most, fmaxf(s[i + 2 * row], s[i + 2 * row + 1]));
      most = fmaxf(max[row], row_max(most));
      const float shift = most == -ptx::infinity() ? 0.0f : most * scale[row];
      rescale[row] = ptx::ex2_approx_f32(max[row] * scale[row] - shift);
      max[row] = most;
      float part = 0.0f;
#pragma unroll
      for (uint32_t i = 0; i < count; i += 4)
#pragma unroll
        for (uint32_t j = i + 2 * row; j < i + 2 * row + 2; ++j) {
          s[j] = ptx::ex2_approx_f32(s[j] * scale[row] - (shift - lift));
          part += s[j];
        }
      sum[row] = sum[row] * rescale[row] + part;
    }
  }

  // Takes a maximum that others know of: at least this one.
  __device__ __forceinline__ void raise(const float (&most)[2], float scale, float (&rescale)[2]) {
#pragma unroll
    for (uint32_t row = 0; row < 2; ++row) {
      const float shift = most[row] == -ptx::infinity() ? 0.0f : most[row] * scale;
      rescale[row] = ptx::ex2_approx_f32(max[row] * scale - shift);
      max[row] = most[row];
      sum[row] *= rescale[row];
    }
  }
};

// tanh(x), absolute error 2^-22: the hardware's own has 2^-11, which a cap of 50 makes 0.02 in a
// logit.
__device__ __forceinline__ float tanh_f32(float x) {
  constexpr float two_log2e = 2.885390081777927f;
  return 1.0f - 2.0f * ptx::rcp_approx_f32(1.0f + ptx::ex2_approx_f32(x * two_log2e));
}

}  // namespace dgrt
