// Kernels that only take time: an empty one, one that reads a buffer (which leaves L2 without dirty
// lines), and one that holds the stream back while the host fills the queue.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::timing {

enum Kind { kind_empty, kind_read, kind_spin };

struct Params {
  const void* from;  // read
  uint64_t count;    // read: 16-byte words. spin: nanoseconds
  uint32_t* sink;    // read: one word, written only if the sum happens to hit it
};

#ifdef __CUDACC_RTC__

template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::kind == kind_read) {
    const uint4* from = static_cast<const uint4*>(p.from);
    const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
    uint32_t sum = 0;
#pragma unroll 8
    for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < p.count; i += stride) {
      const uint4 v = from[i];
      sum += v.x ^ v.y ^ v.z ^ v.w;
    }
    if (sum == 0x5bd1e995u) *p.sink = sum;
  } else if constexpr (Cfg::kind == kind_spin) {
    uint64_t start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
      asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < p.count);
  }
}

#endif
}  // namespace dgrt::lab::timing
