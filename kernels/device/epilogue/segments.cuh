// Output of a product whose columns belong to several matrices. A chunk of columns that crosses a
// boundary goes out once for each matrix that it touches: by TMA, which clips it on the right, to the
// first one; by ordinary stores to those that begin inside it (a TMA store from a negative coordinate is an
// illegal instruction on an H200).
#pragma once
#include "device/common/gemm_segments.cuh"
#include "device/epilogue/output.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tma.cuh"

namespace dgrt {

// Where column n of the product goes in a row of its segment. `bytes`: of an element.
template <uint32_t bytes>
__device__ __forceinline__ char* segment_address(const GemmSegment& segment, uint32_t row,
                                                 uint32_t n) {
  return static_cast<char*>(segment.d) + (row * segment.ldd + n - segment.begin) * bytes;
}

// Part of one row of the product, from a column on: RowCursor over segments.
template <class Cfg>
struct SegmentCursor {
  static constexpr int dtype = Cfg::dtype_d;
  static constexpr uint32_t bytes = dtype_bytes<dtype>;
  const GemmSegmentParams& p;
  uint32_t row, column;

  // `count` values, `offset` columns further on. Offsets must not fall.
  template <uint32_t count>
  __device__ __forceinline__ void store(uint32_t offset, float (&v)[count]) const {
    const uint32_t first = column + offset;
    uint32_t idx = 0;
    while (idx < p.num_segments && p.segments[idx].end <= first) ++idx;
    if (idx == p.num_segments) return;
    if (!p.segments[idx].unaligned && first + count <= p.segments[idx].end) {
      store_group<dtype>(at(idx, first), v);
      return;
    }
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) {
      while (p.segments[idx].end <= first + i)
        if (++idx == p.num_segments) return;
      store_value<dtype>(at(idx, first + i), v[i]);
    }
  }

 private:
  __device__ __forceinline__ char* at(uint32_t idx, uint32_t n) const {
    return segment_address<bytes>(p.segments[idx], row, n);
  }
};

// Where the tile's values from (row, column) on go.
template <class Cfg, class Walk>
__device__ __forceinline__ auto cursor_at(const GemmOutput& out, const Walk& tile, uint32_t row,
                                          uint32_t column) {
  if constexpr (Walk::segmented)
    return SegmentCursor<Cfg>{tile.segments, row, column};
  else
    return RowCursor<Cfg>(out, Walk::d_grouped ? tile.group : 0, row, column);
}

// One thread: the TMA stores of a chunk in shared memory whose first element is (row, first).
template <uint32_t columns>
__device__ __forceinline__ void send_to_segments(const GemmSegmentParams& p, uint32_t smem,
                                                 uint32_t first, uint32_t row) {
#pragma unroll 1  // code size
  for (uint32_t idx = 0; idx < p.num_segments; ++idx) {
    const GemmSegment& segment = p.segments[idx];
    if (segment.begin >= first + columns) break;
    if (segment.end > first && segment.begin <= first && !segment.unaligned)
      ptx::tma_store_2d(&p.d_maps[idx], smem, first - segment.begin, row);
  }
}

// One element, from shared memory.
template <uint32_t bytes>
__device__ __forceinline__ void copy_element(char* to, uint32_t smem) {
  if constexpr (bytes == 4)
    *reinterpret_cast<float*>(to) = ptx::load_shared_f32(smem);
  else
    *reinterpret_cast<uint16_t*>(to) = ptx::load_shared_u16(smem);
}

// All 128 threads of a warpgroup: the columns of the chunk that TMA cannot store. `bytes`: of an element.
// `address_of`: shared address of a chunk's element by row and column.
template <uint32_t columns, uint32_t rows, uint32_t bytes, class AddressOf>
__device__ __forceinline__ void copy_to_segments(const GemmSegmentParams& p, uint32_t first,
                                                 uint32_t row, uint32_t m_end, uint32_t thread,
                                                 const AddressOf& address_of) {
  constexpr uint32_t vector = 16 / bytes;  // elements
#pragma unroll 1
  for (uint32_t idx = 0; idx < p.num_segments; ++idx) {
    const GemmSegment& segment = p.segments[idx];
    if (segment.begin >= first + columns) break;
    if (segment.end <= first || (segment.begin <= first && !segment.unaligned)) continue;
    const uint32_t low = segment.begin > first ? segment.begin : first;
    const uint32_t high = segment.end < first + columns ? segment.end : first + columns;
    if (!segment.unaligned) {
      const uint32_t width = (high - low) / vector;
#pragma unroll 1
      for (uint32_t i = thread; i < rows * width; i += 128) {
        const uint32_t r = i / width, n = low + i % width * vector;
        if (row + r >= m_end) break;
        ptx::store_b32x4(segment_address<bytes>(segment, row + r, n),
                         ptx::load_shared_b32x4(address_of(r, n - first)));
      }
      continue;
    }
    const uint32_t width = high - low;
#pragma unroll 1
    for (uint32_t i = thread; i < rows * width; i += 128) {
      const uint32_t r = i / width, n = low + i % width;
      if (row + r >= m_end) break;
      copy_element<bytes>(segment_address<bytes>(segment, row + r, n), address_of(r, n - first));
    }
  }
}

}  // namespace dgrt
