// Tensor memory accelerator: bulk tensor copies between global and shared memory, two to four
// dimensions. Coordinates are {column, row, group, page} in elements. One thread issues.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cp-async-bulk-tensor
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::ptx {

__device__ __forceinline__ void prefetch_tensor_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ __forceinline__ void tma_load_2d(uint32_t smem, const TensorMap* map, uint32_t barrier,
                                            uint32_t column, uint32_t row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(smem),
      "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

// Writes to the same offset in, and completes on the same barrier of, every CTA whose bit is set in
// `ctas`.
__device__ __forceinline__ void tma_load_2d_multicast(uint32_t smem, const TensorMap* map,
                                                      uint32_t barrier, uint32_t column,
                                                      uint32_t row, uint16_t ctas) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(smem),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "h"(ctas)
      : "memory");
}

__device__ __forceinline__ void tma_store_2d(const TensorMap* map, uint32_t smem, uint32_t column,
                                             uint32_t row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
      "r"(smem), "r"(column), "r"(row)
      : "memory");
}

__device__ __forceinline__ void tma_load_3d(uint32_t smem, const TensorMap* map, uint32_t barrier,
                                            uint32_t column, uint32_t row, uint32_t group) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(smem),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(group)
      : "memory");
}

// Into the L2 cache alone.
__device__ __forceinline__ void tma_prefetch_3d(const TensorMap* map, uint32_t column, uint32_t row,
                                                uint32_t group) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global [%0, {%1, %2, %3}];" ::"l"(map),
               "r"(column), "r"(row), "r"(group)
               : "memory");
}

__device__ __forceinline__ void tma_load_4d(uint32_t smem, const TensorMap* map, uint32_t barrier,
                                            uint32_t column, uint32_t row, uint32_t group,
                                            uint32_t page) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(smem),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(group), "r"(page)
      : "memory");
}

__device__ __forceinline__ void tma_load_3d_multicast(uint32_t smem, const TensorMap* map,
                                                      uint32_t barrier, uint32_t column,
                                                      uint32_t row, uint32_t group, uint16_t ctas) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(smem),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(group), "h"(ctas)
      : "memory");
}

__device__ __forceinline__ void tma_store_3d(const TensorMap* map, uint32_t smem, uint32_t column,
                                             uint32_t row, uint32_t group) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(smem), "r"(column), "r"(row), "r"(group)
      : "memory");
}

// Adds to what is there, each element in one operation. Subnormal numbers count as zero.
__device__ __forceinline__ void tma_reduce_add_2d(const TensorMap* map, uint32_t smem,
                                                  uint32_t column, uint32_t row) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::
          "l"(map),
      "r"(smem), "r"(column), "r"(row)
      : "memory");
}

__device__ __forceinline__ void tma_reduce_add_3d(const TensorMap* map, uint32_t smem,
                                                  uint32_t column, uint32_t row, uint32_t group) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group [%0, {%2, %3, %4}], "
      "[%1];" ::"l"(map),
      "r"(smem), "r"(column), "r"(row), "r"(group)
      : "memory");
}

// From this CTA's shared memory to a shared::cluster address (see mapa), where it completes on a barrier of the
// receiving CTA. Addresses and bytes: multiples of 16.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cp-async-bulk
__device__ __forceinline__ void bulk_copy_to_cluster(uint32_t to, uint32_t from, uint32_t bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
      "r"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void tma_store_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits until at most `pending` store groups of this thread still read their shared memory.
template <uint32_t pending>
__device__ __forceinline__ void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}

// Waits until all store groups of this thread are complete: their writes are visible to it.
__device__ __forceinline__ void tma_store_wait_complete() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// Orders this thread's ordinary shared-memory writes before async-proxy reads of them (TMA, wgmma).
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace dgrt::ptx
