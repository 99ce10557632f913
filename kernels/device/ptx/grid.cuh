// Programmatic dependent launch: this grid and its neighbours in the stream. Both are no-ops in a
// kernel that was launched without the attribute.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-griddepcontrol
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

// Blocks until the grids that this one depends on are complete and their writes are visible.
__device__ __forceinline__ void grid_dependency_wait() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Lets the next grid be scheduled once every block of this one came here or left.
__device__ __forceinline__ void grid_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Of the SM's cycles; comes round.
__device__ __forceinline__ uint32_t clock() {
  uint32_t v;
  asm volatile("mov.u32 %0, %%clock;" : "=r"(v)::"memory");
  return v;
}

}  // namespace dgrt::ptx
