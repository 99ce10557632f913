// The sums that hc_prenorm must give, naively in fp64, for each split of k. Shares no code with the
// kernel that it judges. One block per row and split.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::hc_reference {

constexpr uint32_t num_threads = 128;

struct Params {
  const void* x;         // bf16 [rows, k]
  const float* f;        // [n, k]
  double* sums;          // [splits, rows, n + 1]: z, then q
  int64_t ldx, ldf;      // elements
  uint32_t n, k_blocks;  // of 64
};

#ifdef __CUDACC_RTC__

// Sum over the block, in thread 0.
__device__ __forceinline__ double block_sum(double* shared, double value) {
  __syncthreads();
  shared[threadIdx.x] = value;
  for (uint32_t half = num_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  return shared[0];
}

template <class Cfg>
__device__ void run(const Params& p) {
  __shared__ double shared[num_threads];
  const uint32_t num_splits = gridDim.y, split = blockIdx.y;
  // Blocks of k in order, one more for the first ones.
  uint32_t begin = 0, end = 0;
  for (uint32_t i = 0; i <= split; ++i) {
    begin = end;
    end += p.k_blocks / num_splits + (i < p.k_blocks % num_splits ? 1 : 0);
  }
  const uint16_t* x = static_cast<const uint16_t*>(p.x) + blockIdx.x * p.ldx;
  double* sums = p.sums + (uint64_t{split} * gridDim.x + blockIdx.x) * (p.n + 1);
  for (uint32_t first = 0; first <= p.n; first += 8) {
    double sum[8] = {};
    for (uint32_t k = begin * 64 + threadIdx.x; k < end * 64; k += num_threads) {
      const double value = __uint_as_float(uint32_t{x[k]} << 16);
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) {
        if (first + i < p.n) sum[i] = fma(value, double{p.f[(first + i) * p.ldf + k]}, sum[i]);
        if (first + i == p.n) sum[i] = fma(value, value, sum[i]);
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      const double total = block_sum(shared, sum[i]);
      if (threadIdx.x == 0 && first + i <= p.n) sums[first + i] = total;
    }
  }
}

#endif
}  // namespace dgrt::lab::hc_reference
