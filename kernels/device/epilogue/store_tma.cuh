// Output of one math warpgroup: accumulators -> swizzled shared memory -> TMA store, or addition to a d
// that is c (fp32), in chunks of columns. With room for all chunks the warpgroup meets twice for the whole
// tile; with fewer buffers, twice for each chunk. Either way the stores run while the next tile is
// computed. TMA clips the tails of m and n.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"
#include "device/epilogue/segments.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// 16-byte column of a swizzle row of `bytes` that holds logical 16-byte column `part` of `row` (PTX
// ISA, swizzling modes of tensor maps).
template <uint32_t bytes>
__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t part) {
  return bytes == 128  ? part ^ (row & 7)
         : bytes == 64 ? part ^ (row >> 1 & 3)
                       : part ^ (row >> 2 & 1);
}

template <class Cfg>
struct TmaStore {
  using Tile = GemmTile<Cfg>;
  static constexpr uint32_t element = dtype_bytes<Cfg::dtype_d>;
  static constexpr uint32_t columns = gemm_store_columns(Cfg::block_n, element);
  static constexpr uint32_t row_bytes = columns * element;
  static constexpr uint32_t chunk_bytes = gemm_slab_rows * row_bytes;
  static constexpr uint32_t slab_chunks = Tile::columns / columns;
  static constexpr uint32_t buffers = Cfg::store_buffers;
  static constexpr bool holds_all = buffers == Tile::slabs * slab_chunks;

  uint32_t staging;       // shared address of this warpgroup's buffers
  uint32_t thread;        // within the warpgroup
  uint32_t barrier;       // named, of the warpgroup alone
  uint32_t first_column;  // of the warpgroup in the tile
  uint32_t next = 0;      // buffer, where there are fewer than chunks

  // Is what is sent added to d?
  static __device__ __forceinline__ bool adds(const GemmOutput& out) {
    return Cfg::with_c && out.c == out.d;
  }

  __device__ __forceinline__ void write_chunk(const float (&values)[Tile::accumulators],
                                              uint32_t chunk, uint32_t buffer) const {
    if constexpr (element == 4)
      write_floats(&values[chunk * columns / 2], staging + buffer * chunk_bytes);
    else
      write_halves(&values[chunk * columns / 2], staging + buffer * chunk_bytes);
  }

  __device__ __forceinline__ void write_floats(const float* values, uint32_t chunk) const {
    const uint32_t row = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t address = chunk + (row + half * 8) * row_bytes + thread % 2 * 8;
#pragma unroll
      for (uint32_t group = 0; group < columns / 8; ++group) {
        const float* v = &values[group * 4 + half * 2];
        ptx::store_shared_f32x2(address + swizzled<row_bytes>(row, group * 2 + thread % 4 / 2) * 16,
                                make_float2(v[0], v[1]));
      }
    }
  }

  __device__ __forceinline__ void write_halves(const float* values, uint32_t chunk) const {
    // stmatrix: lanes 0-7 and 16-23 address rows 0-7, the others rows 8-15; lanes 16-31 the next 8
    // columns.
    const uint32_t lane = thread % 32;
    const uint32_t row = thread / 32 * 16 + (lane & 15);
    const uint32_t address = chunk + row * row_bytes;
#pragma unroll
    for (uint32_t pair = 0; pair < columns / 16; ++pair) {
      const float* v = &values[pair * 8];
      ptx::stmatrix_x4(
          address + swizzled<row_bytes>(row, pair * 2 + (lane >> 4)) * 16,
          ptx::pack_half2<Cfg::dtype_d>(v[0], v[1]), ptx::pack_half2<Cfg::dtype_d>(v[2], v[3]),
          ptx::pack_half2<Cfg::dtype_d>(v[4], v[5]), ptx::pack_half2<Cfg::dtype_d>(v[6], v[7]));
    }
  }

  // `row`: of the warpgroup's first slab.
  template <class Walk>
  __device__ __forceinline__ void store(const float (&values)[Tile::slabs][Tile::accumulators],
                                        const TensorMap* d, const GemmOutput& out, const Walk& tile,
                                        uint32_t row) {
    if constexpr (holds_all) {
      if (thread == 0) ptx::tma_store_wait_read<0>();
      ptx::named_barrier_sync(barrier, 128);
    }
#pragma unroll
    for (uint32_t i = 0; i < Tile::slabs * slab_chunks; ++i) {
      const uint32_t buffer = holds_all ? i : next;
      if constexpr (!holds_all) {
        if (thread == 0) ptx::tma_store_wait_read<buffers - 1>();
        ptx::named_barrier_sync(barrier, 128);
      }
      write_chunk(values[i / slab_chunks], i % slab_chunks, buffer);
      if constexpr (!holds_all) {
        next = next + 1 == buffers ? 0 : next + 1;
        send(d, out, tile, i, buffer, row);
      }
    }
    if constexpr (holds_all) send(d, out, tile, 0, 0, row);
  }

  // Chunk `first`, or all of them; slabs that begin past the group's rows stay away.
  template <class Walk>
  __device__ __forceinline__ void send(const TensorMap* d, const GemmOutput& out, const Walk& tile,
                                       uint32_t first, uint32_t buffer, uint32_t row) const {
    ptx::fence_proxy_async();
    ptx::named_barrier_sync(barrier, 128);
    if constexpr (Walk::segmented) {
      if (tile.segments.any_copied) copy(tile, first, buffer, row);
    }
    if (thread != 0) return;
#pragma unroll
    for (uint32_t i = 0; i < (holds_all ? buffers : 1); ++i) {
      const uint32_t smem = staging + (buffer + i) * chunk_bytes;
      const uint32_t slab_row = row + (first + i) / slab_chunks * gemm_slab_rows;
      const uint32_t column =
          d_column<Cfg>(out, tile.n_start + first_column + (first + i) % slab_chunks * columns);
      if constexpr (Walk::segmented)
        send_to_segments<columns>(tile.segments, smem, column, slab_row);
      else if (!Walk::d_grouped || slab_row < tile.m_end)
        send_chunk<Walk::d_grouped>(d, smem, column, slab_row, tile.group, adds(out));
    }
    ptx::tma_store_commit();
  }

  template <bool grouped>
  static __device__ __forceinline__ void send_chunk(const TensorMap* d, uint32_t smem,
                                                    uint32_t column, uint32_t row, uint32_t group,
                                                    bool add) {
    if constexpr (grouped) {
      if (add)
        ptx::tma_reduce_add_3d(d, smem, column, row, group);
      else
        ptx::tma_store_3d(d, smem, column, row, group);
    } else {
      if (add)
        ptx::tma_reduce_add_2d(d, smem, column, row);
      else
        ptx::tma_store_2d(d, smem, column, row);
    }
  }

  // The same chunks' columns that TMA cannot store.
  template <class Walk>
  __device__ __forceinline__ void copy(const Walk& tile, uint32_t first, uint32_t buffer,
                                       uint32_t row) const {
#pragma unroll 1
    for (uint32_t i = 0; i < (holds_all ? buffers : 1); ++i) {
      const uint32_t smem = staging + (buffer + i) * chunk_bytes;
      copy_to_segments<columns, gemm_slab_rows, element>(
          tile.segments, tile.n_start + first_column + (first + i) % slab_chunks * columns,
          row + (first + i) / slab_chunks * gemm_slab_rows, tile.m_end, thread,
          [smem](uint32_t r, uint32_t n) {
            constexpr uint32_t part = 16 / element;
            return smem + r * row_bytes + swizzled<row_bytes>(r, n / part) * 16 +
                   n % part * element;
          });
    }
  }

  // Before the kernel ends: shared memory must outlive the copies out of it.
  __device__ __forceinline__ void finish() const {
    if (thread == 0) ptx::tma_store_wait_read<0>();
  }
};

}  // namespace dgrt
