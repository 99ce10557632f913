// SM90 combine_topk_swa_indices: for each query token the workspace rows that it attends to: the compressed rows
// that were selected for it, then those of its sliding window, then -1 to the end of the row.
//
// Roles     A warp makes a token's row, 4 indices a lane at a time.
// Needs     rows of indices in and out 16-byte aligned, the width a multiple of 4.
// Source    PTX ISA: griddepcontrol.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::combine_topk_swa_indices {

// ---- Interface: host and NVRTC ----

struct Params {
  const int32_t* topk_indices;     // [tokens, top_k], or null: 0, 1, 2, ...
  const int32_t* query_start_loc;  // [batch + 1]
  const int32_t *seq_lens, *gather_lens, *compressed_base, *swa_base;  // [batch]
  const int32_t* query_pos;        // [tokens], or null: a request's tokens are its last ones
  int32_t *indices, *lengths;      // [tokens, width], [tokens]
  uint64_t topk_row, index_row;    // elements
  uint32_t num_tokens, batch, window, ratio, top_k, width;
};

constexpr uint32_t block_tokens = 8;
constexpr uint32_t num_threads = block_tokens * 32;

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// What a row is made of.
struct Row {
  uint32_t topk, end;          // indices that were selected, and with the window's
  uint32_t num_compressed;     // rows that the query sees
  int32_t first_in_window, gathered;
  int64_t compressed_base, swa_base;
};

// The last request that begins at or before `token`; all lanes of a warp, 32 places at once.
__device__ __forceinline__ uint32_t find_request(const Params& p, uint32_t lane, int64_t token) {
  uint32_t first = 0, num = p.batch;
#pragma unroll 1
  while (num > 1) {
    const uint32_t step = ceil_div(num, 32), at = lane * step;
    const bool is_before = at < num && p.query_start_loc[first + at] <= token;
    const uint32_t before = __popc(__ballot_sync(0xffffffffu, is_before));
    const uint32_t skipped = (max(before, 1u) - 1) * step;
    first += skipped, num = min(step, num - skipped);
  }
  return first;
}

__device__ __forceinline__ Row row_of(const Params& p, uint32_t lane, uint32_t index) {
  Row row = {};
  if (p.batch == 0) return row;
  const int64_t token = int64_t{p.query_start_loc[0]} + index;
  const uint32_t request = find_request(p, lane, token);
  const int32_t begin = p.query_start_loc[request], end = p.query_start_loc[request + 1];
  if (token < begin || token >= end) return row;
  const int32_t length = p.seq_lens[request];
  const int32_t position =
      p.query_pos != nullptr ? p.query_pos[index] : length - (end - static_cast<int32_t>(token));
  if (position < 0) return row;
  const uint32_t seen = static_cast<uint32_t>(position) + 1, in_window = min(seen, p.window);
  row.num_compressed = seen / p.ratio;
  row.topk = min(row.num_compressed, p.top_k);
  row.end = row.topk + in_window;
  row.gathered = p.gather_lens[request];
  row.first_in_window = static_cast<int32_t>(seen - in_window) - (length - row.gathered);
  row.compressed_base = p.compressed_base[request];
  row.swa_base = p.swa_base[request];
  return row;
}

__device__ __forceinline__ int32_t to_index(int64_t index) {
  return index < 0 || index > 0x7fffffff ? -1 : static_cast<int32_t>(index);
}

// `selected`: what topk_indices has in this column, if it is one of theirs.
__device__ __forceinline__ int32_t index_at(const Row& row, uint32_t column, int32_t selected) {
  if (column < row.topk)
    return static_cast<uint32_t>(selected) < row.num_compressed ? to_index(row.compressed_base + selected) : -1;
  if (column >= row.end) return -1;
  const int32_t place = row.first_in_window + static_cast<int32_t>(column - row.topk);
  return place >= 0 && place < row.gathered ? to_index(row.swa_base + place) : -1;
}

template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  constexpr uint32_t at_once = Cfg::vectors;  // of a lane
  const uint32_t lane = threadIdx.x % 32, token = blockIdx.x * block_tokens + threadIdx.x / 32;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  if (token >= p.num_tokens) return;

  const Row row = row_of(p, lane, token);
  const int32_t* const topk = p.topk_indices + token * p.topk_row;
  int32_t* const indices = p.indices + token * p.index_row;
#pragma unroll 1
  for (uint32_t base = lane * 4; base < p.width; base += at_once * 128) {
    int4 selected[at_once];
#pragma unroll
    for (uint32_t i = 0; i < at_once; ++i) {
      const uint32_t column = base + i * 128;
      selected[i] = make_int4(column, column + 1, column + 2, column + 3);
      if (p.topk_indices == nullptr || column >= row.topk) continue;
      if (column + 4 <= row.topk) {
        selected[i] = ptx::load_stream_s32x4(topk + column);
      } else {
        selected[i].x = topk[column];
        if (column + 1 < row.topk) selected[i].y = topk[column + 1];
        if (column + 2 < row.topk) selected[i].z = topk[column + 2];
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < at_once; ++i) {
      const uint32_t column = base + i * 128;
      if (column >= p.width) continue;
      ptx::store_b32x4(indices + column, make_uint4(index_at(row, column, selected[i].x),
                                                    index_at(row, column + 1, selected[i].y),
                                                    index_at(row, column + 2, selected[i].z),
                                                    index_at(row, column + 3, selected[i].w)));
    }
  }
  if (lane == 0) p.lengths[token] = row.end;
}
#endif

}  // namespace dgrt::sm90::combine_topk_swa_indices
