// Tensor maps that a kernel edits: in shared memory, then published to global memory, where TMA reads
// them. Shapes and strides are those of two-dimensional maps.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-tensormap-replace
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

__device__ __forceinline__ void replace_map_address(uint32_t smem, const void* base) {
  asm volatile("tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%0], %1;" ::"r"(smem),
               "l"(base)
               : "memory");
}

// Elements of the contiguous axis.
__device__ __forceinline__ void replace_map_columns(uint32_t smem, uint32_t columns) {
  asm volatile("tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%0], 0, %1;" ::"r"(smem),
               "r"(columns)
               : "memory");
}

// Elements of the other axis.
__device__ __forceinline__ void replace_map_rows(uint32_t smem, uint32_t rows) {
  asm volatile("tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%0], 1, %1;" ::"r"(smem),
               "r"(rows)
               : "memory");
}

__device__ __forceinline__ void replace_map_row_bytes(uint32_t smem, uint64_t bytes) {
  asm volatile(
      "tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%0], 0, %1;" ::"r"(smem),
      "l"(bytes)
      : "memory");
}

// A whole warp. Copies a map to global memory and releases it to the device's TMA units.
__device__ __forceinline__ void publish_map(TensorMap* to, uint32_t smem) {
  asm volatile(
      "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned "
      "[%0], [%1], 128;" ::"l"(to),
      "r"(smem)
      : "memory");
}

// The thread that will use the map, once it knows that it was published.
__device__ __forceinline__ void acquire_map(const TensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

}  // namespace dgrt::ptx
