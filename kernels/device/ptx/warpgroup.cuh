// Instructions of a warp or warpgroup that fit nowhere else: election, named barriers, register
// budgets, stmatrix, ldmatrix. https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

// True in one lane of the (converged) warp, always the same one.
__device__ __forceinline__ bool elect_one() {
  uint32_t elected;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(elected));
  return elected != 0;
}

// The largest of a converged warp. Of what is the same in all lanes: the same, and the compiler knows it to
// be so, which it does not of all that follows from a warp's number.
__device__ __forceinline__ uint32_t redux_max_u32(uint32_t value) {
  uint32_t most;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(most) : "r"(value));
  return most;
}

// No instruction. The compiler takes the value for a new one: what follows from it is not computed in front of a loop.
__device__ __forceinline__ void renew(uint32_t& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void renew(const float*& value) { asm volatile("" : "+l"(value)); }

// The sum over a converged warp.
__device__ __forceinline__ uint32_t redux_add_u32(uint32_t value) {
  uint32_t sum;
  asm volatile("redux.sync.add.u32 %0, %1, 0xffffffff;" : "=r"(sum) : "r"(value));
  return sum;
}

// Named barrier among `num_threads` threads; ids 1..15 (0 is __syncthreads').
__device__ __forceinline__ void named_barrier_sync(uint32_t id, uint32_t num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// Counts this thread in without waiting.
__device__ __forceinline__ void named_barrier_arrive(uint32_t id, uint32_t num_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

template <uint32_t count>
__device__ __forceinline__ void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <uint32_t count>
__device__ __forceinline__ void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// Four 8x8 matrices of 16-bit elements; lane l gives the row address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void stmatrix_x4(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2,
                                            uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}

// The reverse. Lane l receives of matrix i, in r[i], columns l % 4 * 2 and the next of row l / 4; transposed:
// rows l % 4 * 2 and the next of column l / 4.
template <bool transposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

}  // namespace dgrt::ptx
