// One slab of a tile times one k block: d[64, N] (+)= x[64, 128 bytes] * transpose(y[N, 128
// bytes]). Element i of a thread's accumulators belongs to row 16 * warp + lane / 4 + 8 * (i / 2 %
// 2) and column 8 * (i / 4) + 2 * (lane % 4) + i % 2 (PTX ISA, wgmma .m64nNk16 fragment).
#pragma once
#include "device/mma/descriptor.cuh"
#include "device/ptx/wgmma.cuh"

namespace dgrt {

// Issues the four products (32 bytes of k each) and returns at once. x and y: descriptors of the first
// 32 bytes. `accumulate` false: the first product overwrites d. Requires wgmma_fence() before and
// commit and wait after.
template <class Wgmma, uint32_t count>
__device__ __forceinline__ void issue_described_product(float (&d)[count], uint64_t x, uint64_t y,
                                                        bool accumulate) {
#pragma unroll
  for (uint32_t step = 0; step < 4; ++step)  // 32 bytes: 2 in the descriptor's 16-byte units
    Wgmma::mma(d, x + step * 2, y + step * 2, step != 0 || accumulate);
}

// The same, given shared addresses.
template <class Wgmma, uint32_t count>
__device__ __forceinline__ void issue_slab_product(float (&d)[count], uint32_t x_address,
                                                   uint32_t y_address, bool accumulate) {
  issue_described_product<Wgmma>(d, operand_descriptor<false>(x_address),
                                 operand_descriptor<false>(y_address), accumulate);
}

// For 16-bit types, whose operands may also lie MN-major: there a step is 16 rows of 128
// bytes.
template <class Wgmma, bool x_mn, bool y_mn, uint32_t count>
__device__ __forceinline__ void issue_slab_product(float (&d)[count], uint32_t x_address,
                                                   uint32_t y_address, bool accumulate) {
  const uint64_t x = operand_descriptor<x_mn>(x_address);
  const uint64_t y = operand_descriptor<y_mn>(y_address);
  constexpr uint32_t x_step = x_mn ? 128 : 2, y_step = y_mn ? 128 : 2;
#pragma unroll
  for (uint32_t step = 0; step < 4; ++step)
    Wgmma::template mma<x_mn, y_mn>(d, x + step * x_step, y + step * y_step,
                                    step != 0 || accumulate);
}

template <uint32_t count>
__device__ __forceinline__ void keep_all(float (&values)[count]) {
#pragma unroll
  for (uint32_t i = 0; i < count; ++i) ptx::keep(values[i]);
}

}  // namespace dgrt
