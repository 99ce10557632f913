// Copies from global to shared memory that any thread may issue, of up to 16 bytes, those of 16 past L1.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-non-bulk-copy
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

// Reads `bytes` (up to 16), writes 16: zeros for what was not read. Nothing is read where bytes is 0. l2: bytes
// around that come to L2, 64 or 128.
template <uint32_t l2 = 128>
__device__ __forceinline__ void copy_async_b128(uint32_t smem, const void* from, uint32_t bytes) {
  if constexpr (l2 == 128)
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(smem), "l"(from), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.cg.shared.global.L2::64B [%0], [%1], 16, %2;" ::"r"(smem), "l"(from), "r"(bytes)
                 : "memory");
}

// Reads and writes 16.
__device__ __forceinline__ void copy_async_b128(uint32_t smem, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(smem), "l"(from) : "memory");
}

// Reads `bytes` (up to 8), writes 8.
__device__ __forceinline__ void copy_async_b64(uint32_t smem, const void* from, uint32_t bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(smem), "l"(from), "r"(bytes) : "memory");
}

// Of 4 bytes, where `copies`: without a branch.
__device__ __forceinline__ void copy_async_b32_if(bool copies, uint32_t smem, const void* from) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p cp.async.ca.shared.global [%0], [%1], 4;}" ::"r"(smem), "l"(from),
               "r"(static_cast<uint32_t>(copies))
               : "memory");
}

__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most `pending` groups of this thread are not complete.
template <uint32_t pending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// This thread arrives at an mbarrier, whose count has a place for it, once all copies that it issued are complete.
__device__ __forceinline__ void copy_async_arrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

}  // namespace dgrt::ptx
