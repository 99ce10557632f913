// wgmma ordering instructions; the products themselves are in wgmma_*.gen.cuh.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-instructions
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most `pending` groups still run.
template <uint32_t pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Keeps the compiler from moving uses of accumulators across the asynchronous product: no
// instruction.
__device__ __forceinline__ void keep(float& value) { asm volatile("" : "+f"(value)::"memory"); }
}  // namespace dgrt::ptx
