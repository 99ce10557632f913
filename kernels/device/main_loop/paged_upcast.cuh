// e4m3 elements of a paged cache as bf16 or fp16, exactly, from shared memory to shared memory: what a
// thread's own copies brought becomes rows of the boxes that products read.
#pragma once
#include "device/common/attn_tile.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/shared.cuh"

namespace dgrt {

// Where 16 bytes, the chunk `at` of the warp's `count`, lie as they came.
__device__ __forceinline__ uint32_t raw_chunk_offset(uint32_t count, uint32_t at) {
  return (threadIdx.x / 32 * count + at) * 16;
}

// codes: two, each in the upper byte of its half. Exponent and fraction are put where the type has them, so
// that only the biases differ: a multiplication, in which subnormals become what they are. It would make
// 480 of NaN: with may_be_nan the factor is NaN there.
template <int dtype, bool may_be_nan>
__device__ __forceinline__ uint32_t upcast_pair(uint32_t codes) {
  constexpr bool is_fp16 = dtype == dtype_fp16;
  constexpr uint32_t shift = is_fp16 ? 1 : 4, magnitude = is_fp16 ? 0x3f803f80 : 0x07f007f0;
  uint32_t factor = is_fp16 ? 0x5c005c00 : 0x7b807b80;  // 2^8, 2^120
  if (may_be_nan) factor |= ((codes & 0x7f007f00) + 0x01000100 >> 15 & 0x00010001) * 0x7fff;
  return ptx::mul_half2<dtype>((codes & 0x80008000) | (codes >> shift & magnitude), factor);
}

template <int dtype, bool may_be_nan>
__device__ __forceinline__ uint4 upcast_8(uint32_t low, uint32_t high) {
  return make_uint4(upcast_pair<dtype, may_be_nan>(ptx::permute_bytes(low, 0, 0x1404)),
                    upcast_pair<dtype, may_be_nan>(ptx::permute_bytes(low, 0, 0x3424)),
                    upcast_pair<dtype, may_be_nan>(ptx::permute_bytes(high, 0, 0x1404)),
                    upcast_pair<dtype, may_be_nan>(ptx::permute_bytes(high, 0, 0x3424)));
}

// A set sign bit says that the byte is NaN.
__device__ __forceinline__ uint32_t nan_bytes(uint32_t codes) { return (codes & 0x7f7f7f7f) + 0x01010101; }

// to: of the chunk's first half; the other is 16 bytes away, in one direction or the other. `swapped`: the
// second half goes first, so that the lanes of a store meet in no bank.
template <int dtype>
__device__ __forceinline__ void upcast_chunk(uint4 codes, uint32_t to, bool swapped) {
  if (swapped) {
    const uint32_t x = codes.x, y = codes.y;
    codes.x = codes.z, codes.y = codes.w, codes.z = x, codes.w = y;
    to ^= 16;
  }
  const uint32_t nan = nan_bytes(codes.x) | nan_bytes(codes.y) | nan_bytes(codes.z) | nan_bytes(codes.w);
  uint4 first, second;
  if ((nan & 0x80808080) == 0) {
    first = upcast_8<dtype, false>(codes.x, codes.y), second = upcast_8<dtype, false>(codes.z, codes.w);
  } else {
    first = upcast_8<dtype, true>(codes.x, codes.y), second = upcast_8<dtype, true>(codes.z, codes.w);
  }
  ptx::store_shared_b32x4(to, first);
  ptx::store_shared_b32x4(to ^ 16, second);
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
