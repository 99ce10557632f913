// wgmma shared-memory descriptors of operand tiles with 128-byte rows and 128-byte swizzle.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-shared-memory-layout-matrix-descriptor
#pragma once
#include "device/common/gemm_tile.cuh"

namespace dgrt {

// K-major: a row is 128 bytes of k of one row of the operand. MN-major: see mn_block_bytes.
// `address`: of the tile's first row (1024-byte aligned) plus the offset of the step along k.
template <bool mn_major>
__device__ __forceinline__ uint64_t operand_descriptor(uint32_t address) {
  constexpr uint64_t swizzle_128b = 1ull << 62;
  constexpr uint64_t stride_bytes = 1024;  // between groups of 8 rows of shared memory
  constexpr uint64_t leading_bytes = mn_major ? mn_block_bytes : 16;  // K-major: not used
  return swizzle_128b | (stride_bytes >> 4) << 32 | (leading_bytes >> 4) << 16 |
         ((address & 0x3ffff) >> 4);
}

// K-major, with rows of `row_bytes` swizzled over as many: all of k of an operand with a short one.
template <uint32_t row_bytes>
__device__ __forceinline__ uint64_t row_descriptor(uint32_t address) {
  static_assert(row_bytes == 128 || row_bytes == 64 || row_bytes == 32, "TMA swizzles over 32, 64 or 128 bytes");
  constexpr uint64_t swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
  constexpr uint64_t stride_bytes = 8 * row_bytes;  // between groups of 8 rows
  return swizzle << 62 | (stride_bytes >> 4) << 32 | 1ull << 16 | ((address & 0x3ffff) >> 4);
}

// MN-major, with `leading_bytes` between blocks of 64 rows of the operand.
__device__ __forceinline__ uint64_t mn_descriptor(uint32_t address, uint32_t leading_bytes) {
  return operand_descriptor<false>(address) + (static_cast<uint64_t>(leading_bytes - 16 >> 4) << 16);
}

}  // namespace dgrt
