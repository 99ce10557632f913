// Reads tiles of d while the product that writes them still runs: waits for each tile's counter and
// copies what the tile holds then. What a copy and the finished d differ in was signalled too early.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::consumer {

constexpr uint32_t num_threads = 128;

struct Params {
  const int32_t* signal;              // one counter per group and tile of block_m rows
  const int32_t* masked_m;            // rows of each group
  const uint16_t* d;                  // [num_groups, m, row_words]
  uint16_t* copy;                     // of the same layout
  uint64_t group_stride, row_stride;  // 16-bit words
  uint32_t num_groups, m, block_m, row_words;
  int32_t threshold;
  uint32_t max_tries;    // looks at one counter before giving up
  uint32_t* num_waited;  // tiles that were not ready at first sight
  uint32_t* num_given_up;
};

#ifdef __CUDACC_RTC__

__device__ __forceinline__ int32_t load_acquire(const int32_t* from) {
  int32_t value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// One thread. False: the counter did not get there in time.
__device__ __forceinline__ bool wait_for(const Params& p, const int32_t* counter, uint32_t tries) {
  if (load_acquire(counter) >= p.threshold) return true;
  atomicAdd(p.num_waited, 1u);
  for (uint32_t i = 0; i < tries; ++i) {
    if (load_acquire(counter) >= p.threshold) return true;
    __nanosleep(200);
  }
  atomicAdd(p.num_given_up, 1u);
  return false;
}

template <class Cfg>
__device__ void run(const Params& p) {
  __shared__ uint32_t ready;
  const uint32_t tiles = ceil_div(p.m, p.block_m);
  uint32_t tries = p.max_tries;
  for (uint32_t i = blockIdx.x; i < p.num_groups * tiles; i += gridDim.x) {
    const uint32_t group = i / tiles, first = i % tiles * p.block_m;
    const int32_t count = p.masked_m[group];
    const uint32_t rows = count < 0 ? 0 : count < static_cast<int32_t>(p.m) ? count : p.m;
    if (first >= rows) continue;
    __syncthreads();
    if (threadIdx.x == 0) ready = wait_for(p, p.signal + i, tries);
    __syncthreads();
    if (!ready) {
      tries = 0;  // the others are not worth another wait
      continue;
    }
    const uint32_t end = first + p.block_m < rows ? first + p.block_m : rows;
    for (uint32_t row = first; row < end; ++row) {
      const uint64_t at = group * p.group_stride + row * p.row_stride;
      for (uint32_t word = threadIdx.x; word < p.row_words; word += num_threads)
        p.copy[at + word] = p.d[at + word];
    }
  }
}

#endif
}  // namespace dgrt::lab::consumer
