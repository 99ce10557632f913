// wgmma shared-memory descriptor of a K-major tile with 128-byte rows and 128-byte swizzle.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-shared-memory-layout-matrix-descriptor
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// `address`: of the tile's first row (1024-byte aligned) plus a multiple of 32 bytes along k.
__device__ __forceinline__ uint64_t k_major_descriptor(uint32_t address) {
  constexpr uint64_t swizzle_128b = 1ull << 62;
  constexpr uint64_t stride_bytes = 1024;  // between groups of 8 rows
  return swizzle_128b | (stride_bytes >> 4) << 32 | 1ull << 16 | ((address & 0x3ffff) >> 4);
}

}  // namespace dgrt
