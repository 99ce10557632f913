// e4m3 elements of a paged cache as bf16 or fp16, exactly, from shared memory to shared memory, for warpgroups: what a
// thread's own copies brought becomes rows of the boxes that products read.
#pragma once
#include "device/common/attn_tile.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/shared.cuh"

namespace dgrt {

// Where 16 bytes, the chunk `at` of the warp's `count`, lie as they came.
__device__ __forceinline__ uint32_t raw_chunk_offset(uint32_t count, uint32_t at) {
  return (threadIdx.x / 32 * count + at) * 16;
}

template <int dtype>
__device__ __forceinline__ uint4 upcast_8(uint32_t low, uint32_t high) {
  const uint2 first = ptx::upcast_e4m3x4<dtype>(low), second = ptx::upcast_e4m3x4<dtype>(high);
  return make_uint4(first.x, first.y, second.x, second.y);
}

// to: of the chunk's first half; the other is 16 bytes away, in one direction or the other. `swapped`: the
// second half goes first, so that the lanes of a store meet in no bank.
template <int dtype>
__device__ __forceinline__ void upcast_chunk(uint4 codes, uint32_t to, bool swapped) {
  if (swapped) {
    const uint32_t x = codes.x, y = codes.y;
    codes.x = codes.z, codes.y = codes.w, codes.z = x, codes.w = y;
    to ^= 16;
  }
  ptx::store_shared_b32x4(to, upcast_8<dtype>(codes.x, codes.y));
  ptx::store_shared_b32x4(to ^ 16, upcast_8<dtype>(codes.z, codes.w));
}

// All threads of the CTA, each the chunks that it copied (PagedLoader) and whose arrival it waited for.
template <class Cfg, uint32_t num_threads, uint32_t columns>
__device__ __forceinline__ void upcast_tile(uint32_t from, uint32_t to) {
  constexpr uint32_t rows = Cfg::block_n / (num_threads / 32), chunks = columns / 16, count = rows * chunks;
  constexpr uint32_t steps = ceil_div(count, 32), batch = steps % 4 == 0 ? 4 : steps % 2 == 0 ? 2 : 1;
#pragma unroll
  for (uint32_t step = 0; step < steps; step += batch) {
    uint4 codes[batch];
#pragma unroll
    for (uint32_t i = 0; i < batch; ++i) {
      const uint32_t at = (step + i) * 32 + threadIdx.x % 32;
      if (count % 32 == 0 || at < count) codes[i] = ptx::load_shared_b32x4(from + raw_chunk_offset(count, at));
    }
#pragma unroll
    for (uint32_t i = 0; i < batch; ++i) {
      const uint32_t at = (step + i) * 32 + threadIdx.x % 32, row = at / chunks, chunk = at % chunks;
      if (count % 32 != 0 && at >= count) continue;
      upcast_chunk<Cfg::dtype>(
          codes[i], to + attn_chunk_offset(Cfg::block_n, threadIdx.x / 32 * rows + row, chunk * 2),
          chunk / 4 % 2 != 0);
    }
  }
}

}  // namespace dgrt
