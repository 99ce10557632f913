// The two products of attention by one warp: 16 rows of queries with a few keys of its own, whose rows lie packed
// in shared memory (packed_chunk_offset), of 16 bits as they are multiplied, or of e4m3. Those become fp16 in
// registers: a fragment of 8 bits is two of 16, if columns take each other's places. Scores: columns of q do the
// same (query_chunk). Output: columns of v are those of o, see output_column.
#pragma once
#include "device/common/attn_tile.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/mma.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// A lane's place in rows of `chunks`: where it is `further` chunks on. Requires: both the place's first chunk and
// `further` have been multiples of what one load reads.
template <uint32_t chunks>
__device__ __forceinline__ uint32_t further_chunk(uint32_t from, uint32_t further) {
  constexpr uint32_t spread = packed_spread(chunks);
  return (from ^ further % spread * 16) + further / spread * spread * 16;
}

// fp16: of q, and of what comes of e4m3. kv_bytes: of an element of keys and values.
template <bool fp16, uint32_t kv_bytes, uint32_t keys>
struct TeamProduct {
  static_assert(keys == 8 || keys % 16 == 0, "tiles of eight keys, by one or by two");
  static_assert(kv_bytes == 2 || fp16, "e4m3 becomes fp16");
  static constexpr uint32_t key_tiles = keys / 8, per_chunk = 16 / kv_bytes;

  // Row l % 16 of q for lane l, of 16 columns: the first operand of a step. q: rows of `columns`.
  template <uint32_t columns>
  static __device__ __forceinline__ void load_query(uint32_t (&a)[4], uint32_t q, uint32_t step) {
    constexpr uint32_t chunks = columns / 8;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t first = q + packed_chunk_offset(chunks, lane % 16, lane / 16);
    ptx::ldmatrix_x4<false>(a, further_chunk<chunks>(first, step * 2));
  }

  // s[16, keys] = q k^T. k: the first key's row. query(step, a) gives a step's operand. A product waits for the one
  // that it adds to: where tiles of keys are few, steps take turns at several sums.
  template <uint32_t columns, class Query>
  static __device__ __forceinline__ void scores(float (&s)[keys / 2], uint32_t k, const Query& query) {
    constexpr uint32_t sums = key_tiles >= 4 ? 1 : 4 / key_tiles;
    float partial[sums][keys / 2] = {};
    constexpr uint32_t chunks = columns / per_chunk, matrices = kv_bytes;  // matrices: of a step and key tile
    constexpr uint32_t tiles = key_tiles < 4 / matrices ? key_tiles : 4 / matrices, steps = 4 / matrices / tiles;
    const uint32_t matrix = threadIdx.x % 32 / 8, row = matrix / (steps * matrices) * 8 + threadIdx.x % 8;
    const uint32_t first = k + packed_chunk_offset(chunks, row, matrix % (steps * matrices));
#pragma unroll
    for (uint32_t step = 0; step < columns / 16; step += steps) {
      uint32_t a[steps][4];
#pragma unroll
      for (uint32_t j = 0; j < steps; ++j)
        if (step + j < columns / 16) query(step + j, a[j]);
#pragma unroll
      for (uint32_t tile = 0; tile < key_tiles; tile += tiles) {
        uint32_t b[4];
        ptx::ldmatrix_x4<false>(b, further_chunk<chunks>(first, step * matrices) + tile * 8 * chunks * 16);
#pragma unroll
        for (uint32_t j = 0; j < steps; ++j)
#pragma unroll
          for (uint32_t i = 0; i < tiles; ++i) {
            if (step + j >= columns / 16) continue;
            const uint32_t at = (i * steps + j) * matrices;
            float* sum = partial[(step + j) % sums] + (tile + i) * 4;
            if constexpr (kv_bytes == 2)
              ptx::mma_m16n8k16<fp16>(sum, a[j], b[at], b[at + 1]);
            else
              ptx::mma_m16n8k16<fp16>(sum, a[j], ptx::upcast_e4m3x2<dtype_fp16>(b[at] & 0xffff),
                                      ptx::upcast_e4m3x2<dtype_fp16>(b[at] >> 16));
          }
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < keys / 2; ++i) {
      s[i] = partial[0][i];
#pragma unroll
      for (uint32_t j = 1; j < sums; ++j) s[i] += partial[j][i];
    }
  }

  // o[16, own] += p v. p: pairs of a thread's fragment of scores. v: the first key's row, `columns` long, from the
  // first of `own` columns on.
  template <uint32_t columns, uint32_t own>
  static __device__ __forceinline__ void add_output(float (&o)[own / 2], const uint32_t (&p)[keys / 4], uint32_t v) {
    constexpr uint32_t chunks = columns / per_chunk, own_chunks = own / per_chunk;
    constexpr uint32_t tiles = keys == 8 ? 1 : 2, at_once = 4 / tiles;  // key tiles and chunks of one load
    const uint32_t matrix = threadIdx.x % 32 / 8;
    const uint32_t first = v + packed_chunk_offset(chunks, matrix % tiles * 8 + threadIdx.x % 8, matrix / tiles);
#pragma unroll
    for (uint32_t tile = 0; tile < key_tiles; tile += tiles) {
      const uint32_t a[4] = {p[tile * 2], p[tile * 2 + 1], tiles == 2 ? p[tile * 2 + 2 * (tiles - 1)] : 0,
                             tiles == 2 ? p[tile * 2 + 3 * (tiles - 1)] : 0};
#pragma unroll
      for (uint32_t chunk = 0; chunk < own_chunks; chunk += at_once) {
        uint32_t b[4];
        ptx::ldmatrix_x4<true>(b, further_chunk<chunks>(first, chunk) + tile * 8 * chunks * 16);
#pragma unroll
        for (uint32_t j = 0; j < at_once; ++j) {
          if (chunk + j >= own_chunks) continue;
          const uint32_t b0 = b[j * tiles], b1 = tiles == 2 ? b[j * tiles + tiles - 1] : 0;
          if constexpr (kv_bytes == 2)
            ptx::mma_m16n8k16<fp16>(o + (chunk + j) * 4, a, b0, b1);
          else
            add_two(o + (chunk + j) * 8, a, b0, b1);
        }
      }
    }
  }

 private:
  // A chunk's even columns, then the odd ones: bytes are those of two columns of one key, then of the next.
  static __device__ __forceinline__ void add_two(float* o, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t first = __byte_perm(b0, 0, 0x3120), second = __byte_perm(b1, 0, 0x3120);
    ptx::mma_m16n8k16<fp16>(o, a, ptx::upcast_e4m3x2<dtype_fp16>(first & 0xffff),
                            ptx::upcast_e4m3x2<dtype_fp16>(second & 0xffff));
    ptx::mma_m16n8k16<fp16>(o + 4, a, ptx::upcast_e4m3x2<dtype_fp16>(first >> 16),
                            ptx::upcast_e4m3x2<dtype_fp16>(second >> 16));
  }
};

}  // namespace dgrt
