// Minus infinity where no logit is: columns outside a range of every row, by warps that have nothing else to
// do, while others compute. Pieces of rows, so that few long rows are shared out too.
#pragma once
#include "device/ptx/convert.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

// Columns [begin, end) of a row have logits.
struct ColumnRange {
  uint32_t begin, end;
};

// A warp. `count` elements from `to` on.
template <int dtype>
__device__ __forceinline__ void fill_minus_infinity(void* to, uint32_t count) {
  constexpr uint32_t bytes = dtype_bytes<dtype>, vector = 16 / bytes;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t word = dtype == dtype_fp32 ? 0xff800000u : 0xff80ff80u;
  auto* start = static_cast<uint8_t*>(to);
  const auto misaligned = static_cast<uint32_t>(reinterpret_cast<uint64_t>(to) % 16);
  const uint32_t head = min(misaligned == 0 ? 0 : (16 - misaligned) / bytes, count);
  const uint32_t vectors = (count - head) / vector, tail = head + vectors * vector;
  const auto store_one = [&](uint32_t i) {
    if constexpr (dtype == dtype_fp32)
      ptx::store_f32(start + i * uint64_t{bytes}, -ptx::infinity());
    else
      ptx::store_b16(start + i * uint64_t{bytes}, static_cast<uint16_t>(word));
  };
  if (lane < head) store_one(lane);
  if (tail + lane < count) store_one(tail + lane);
  for (uint32_t i = lane; i < vectors; i += 32)
    ptx::store_b32x4(start + (head + i * uint64_t{vector}) * bytes, make_uint4(word, word, word, word));
}

// The warp `warp` of `num_warps` of its CTA. logits_of(row): a ColumnRange, anything where it is empty.
template <int dtype, class LogitsOf>
__device__ __forceinline__ void fill_masked(void* out, uint64_t row_stride, uint32_t rows, uint32_t columns,
                                            uint32_t warp, uint32_t num_warps, const LogitsOf& logits_of) {
  constexpr uint32_t piece_columns = 8192;
  const uint32_t pieces = ceil_div(columns, piece_columns);
  const uint64_t count = uint64_t{rows} * pieces;
  for (uint64_t i = uint64_t{blockIdx.x} * num_warps + warp; i < count; i += uint64_t{gridDim.x} * num_warps) {
    const auto row = static_cast<uint32_t>(i / pieces), piece = static_cast<uint32_t>(i % pieces);
    const uint32_t first = piece * piece_columns, end = min(first + piece_columns, columns);
    const ColumnRange logits = logits_of(row);
    const bool none = logits.begin >= logits.end;
    const uint32_t from = none ? end : min(max(logits.begin, first), end);
    const uint32_t to = none ? end : min(max(logits.end, first), end);
    auto* start = static_cast<uint8_t*>(out) + row * row_stride * dtype_bytes<dtype>;
    fill_minus_infinity<dtype>(start + uint64_t{first} * dtype_bytes<dtype>, from - first);
    fill_minus_infinity<dtype>(start + uint64_t{to} * dtype_bytes<dtype>, end - to);
  }
}

}  // namespace dgrt
