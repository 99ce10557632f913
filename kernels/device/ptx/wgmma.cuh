// wgmma ordering instructions; the products themselves are in wgmma_*.gen.cuh.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-instructions
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most `pending` groups still run. Requires: a compile-time constant after unrolling.
__device__ __forceinline__ void wgmma_wait(uint32_t pending) {
  switch (pending) {
    case 0: asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); break;
    case 1: asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory"); break;
    case 2: asm volatile("wgmma.wait_group.sync.aligned 2;" ::: "memory"); break;
    default: asm volatile("wgmma.wait_group.sync.aligned 3;" ::: "memory"); break;
  }
}

// Keeps the compiler from moving uses of accumulators across the asynchronous product: no instruction.
__device__ __forceinline__ void keep(float& value) { asm volatile("" : "+f"(value)::"memory"); }

}  // namespace dgrt::ptx
