// SM90 attn_merge: partial results of attention over disjoint sets of keys, into the result over all of
// them. For each token and head, with M = max lse_i over the parts:
//   w_i = exp(lse_i - M), o = sum w_i o_i / (sum w_i + exp(sink - M)), lse = M + log(sum w_i)
// Bound by memory: each part is read once, what an empty part holds is not read at all.
//
// Roles     A thread block takes `block_rows` rows, a row being a head of a token. First all threads
//           turn lse of these rows into weights in shared memory: `lse_lanes` threads share a row. Then
//           each takes 16 bytes of a row and adds up the parts, the loads of `unroll` parts in flight at
//           a time; with Cfg::split as many threads share the parts of these 16 bytes, and the first of
//           them adds their sums. The order of sums is that of the parts, within each share of them.
// Needs     rows of part_o and o 16-byte aligned.
// Source    PTX ISA: ex2.approx, lg2.approx, griddepcontrol.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/gemm_params.cuh"  // dtype_bytes
#ifdef __CUDACC_RTC__
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::attn_merge {

// ---- Interface: host and NVRTC ----

// Elements between neighbours.
struct Strides {
  uint64_t part, token, head;
};

struct Params {
  const void* part_o;     // [parts, tokens, heads, columns]
  const float* part_lse;  // [parts, tokens, heads]
  void* o;                // [tokens, heads, columns]
  float* lse;             // [tokens, heads], or null
  const float* sinks;     // [heads], or null
  Strides part_o_strides, part_lse_strides, o_strides, lse_strides;
  uint32_t num_parts, num_heads;
  uint32_t num_rows;     // tokens * heads
  uint32_t row_vectors;  // of 16 bytes, in a row of part_o
  uint32_t block_rows, lse_lanes;
  uint32_t lse_form;
};

constexpr uint32_t num_threads = 256;
constexpr uint32_t max_parts = 64;
constexpr uint32_t max_block_rows = 32;
constexpr uint32_t unroll = 4;

DGRT_HD constexpr uint32_t block_rows(uint32_t row_vectors, uint32_t split) {
  const uint32_t rows = num_threads / split / row_vectors;
  return rows < 1 ? 1 : rows > max_block_rows ? max_block_rows : rows;
}

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

struct Row {
  uint32_t token, head;
  __device__ __forceinline__ uint64_t offset(const Strides& s) const {
    return token * s.token + head * s.head;
  }
};
__device__ __forceinline__ Row row_of(const Params& p, uint32_t row) {
  const uint32_t token = row / p.num_heads;
  return {token, row - token * p.num_heads};
}

// Of the `lanes` threads that share a row; NaN if there is one.
__device__ __forceinline__ float max_over_lanes(float v, uint32_t lanes) {
  for (uint32_t step = lanes / 2; step > 0; step /= 2)
    v = ptx::max_nan_f32(v, __shfl_xor_sync(0xffffffffu, v, step));
  return v;
}
__device__ __forceinline__ float sum_over_lanes(float v, uint32_t lanes) {
  for (uint32_t step = lanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// What the weights of a row add up to, and what they are multiplied by so that o comes out right.
struct Total {
  float lse, factor;
};
// most: the largest lse; sum: of exp(lse_i - most).
__device__ __forceinline__ Total make_total(const Params& p, uint32_t head, float most, float sum) {
  constexpr float log2e = 1.4426950408889634f, ln2 = 0.6931471805599453f;
  const float infinity = __int_as_float(0x7f800000);
  const bool base2 = (p.lse_form & attn_lse_base2) != 0;
  const float to_log2 = base2 ? 1.0f : log2e, from_log2 = base2 ? 1.0f : ln2;
  const bool empty = most == -infinity;
  Total total = {empty ? -infinity : most + ptx::lg2_approx_f32(sum) * from_log2,
                 empty ? 0.0f : 1.0f / sum};
  if (p.sinks == nullptr) return total;
  const float sink = p.sinks[head] * (base2 ? log2e : 1.0f);  // sinks are natural
  const float top = ptx::max_nan_f32(most, sink);
  if (top == -infinity) return total;
  const float shrink = empty ? 0.0f : ptx::ex2_approx_f32((most - top) * to_log2);
  const float with_sink = sum * shrink + ptx::ex2_approx_f32((sink - top) * to_log2);
  total.factor = shrink / with_sink;
  if ((p.lse_form & attn_lse_with_sink) != 0)
    total.lse = top + ptx::lg2_approx_f32(with_sink) * from_log2;
  return total;
}

// weights[row * num_parts + part] of rows [first_row, first_row + rows), and their lse. Called by all threads.
__device__ __forceinline__ void make_weights(const Params& p, uint32_t first_row, uint32_t rows,
                                             float* weights) {
  const float infinity = __int_as_float(0x7f800000);
  const float to_log2 = (p.lse_form & attn_lse_base2) != 0 ? 1.0f : 1.4426950408889634f;
  const uint32_t lanes = p.lse_lanes, lane = threadIdx.x % lanes;
  for (uint32_t first = 0; first < rows; first += num_threads / lanes) {
    const uint32_t row = first + threadIdx.x / lanes;
    const bool active = row < rows;
    const Row place = row_of(p, first_row + (active ? row : 0));
    const float* from = p.part_lse + place.offset(p.part_lse_strides);
    float x[2] = {-infinity, -infinity};  // 32 lanes share up to 64 parts
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t part = lane + i * 32;
      if (active && part < p.num_parts)
        x[i] = ptx::load_stream_f32(from + part * p.part_lse_strides.part);
    }
    const float most = max_over_lanes(ptx::max_nan_f32(x[0], x[1]), lanes);
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i)
      x[i] = most == -infinity ? 0.0f : ptx::ex2_approx_f32((x[i] - most) * to_log2);
    const float sum = sum_over_lanes(x[0] + x[1], lanes);
    if (!active) continue;  // comes back only where `first` ends for all
    const Total total = make_total(p, place.head, most, sum);
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t part = lane + i * 32;
      if (part < p.num_parts) weights[row * p.num_parts + part] = x[i] * total.factor;
    }
    if (lane == 0 && p.lse != nullptr)
      ptx::store_f32(p.lse + place.offset(p.lse_strides), total.lse);
  }
}

// Columns that 16 bytes of a type hold.
template <int dtype>
constexpr uint32_t vector_columns = 16 / dtype_bytes<dtype>;

template <int dtype>
__device__ __forceinline__ void add_weighted(uint4 v, float weight, float* sum) {
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    if constexpr (dtype == dtype_fp32) {
      sum[i] = ptx::fma_rn_f32(__uint_as_float(words[i]), weight, sum[i]);
    } else {
      sum[2 * i] = ptx::fma_rn_f32(ptx::half_low<dtype>(words[i]), weight, sum[2 * i]);
      sum[2 * i + 1] = ptx::fma_rn_f32(ptx::half_high<dtype>(words[i]), weight, sum[2 * i + 1]);
    }
  }
}

// Parts first, first + split, ... of one vector.
template <class Cfg>
__device__ __forceinline__ void add_parts(const Params& p, const uint8_t* from,
                                          const float* weights, uint32_t first, float* sum) {
  const uint64_t part_bytes = p.part_o_strides.part * dtype_bytes<Cfg::dtype_part>;
  for (uint32_t part = first; part < p.num_parts; part += Cfg::split * unroll) {
    float weight[unroll];
    uint4 v[unroll];
#pragma unroll
    for (uint32_t i = 0; i < unroll; ++i) {
      const uint32_t index = part + i * Cfg::split;
      weight[i] = index < p.num_parts ? weights[index] : 0.0f;
      v[i] = make_uint4(0, 0, 0, 0);
      if (weight[i] != 0.0f) v[i] = ptx::load_stream_b32x4(from + index * part_bytes);
    }
#pragma unroll
    for (uint32_t i = 0; i < unroll; ++i) add_weighted<Cfg::dtype_part>(v[i], weight[i], sum);
  }
}

template <int dtype, uint32_t columns>
__device__ __forceinline__ void store_columns(uint8_t* to, const float* v) {
  if constexpr (dtype == dtype_fp32) {
#pragma unroll
    for (uint32_t i = 0; i < columns; i += 4)
      ptx::store_f32x4(to + i * 4, make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]));
  } else {
    uint32_t words[columns / 2];
#pragma unroll
    for (uint32_t i = 0; i < columns / 2; ++i)
      words[i] = ptx::pack_half2<dtype>(v[2 * i], v[2 * i + 1]);
    if constexpr (columns == 8)
      ptx::store_b32x4(to, make_uint4(words[0], words[1], words[2], words[3]));
    else  // 8 bytes
      ptx::store_f32x2(to, make_float2(__uint_as_float(words[0]), __uint_as_float(words[1])));
  }
}

// Cfg: dtype_part, dtype_o, split (threads that share the parts of 16 bytes: 1, 2, 4 or 8).
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  constexpr uint32_t columns = vector_columns<Cfg::dtype_part>,
                     share_threads = num_threads / Cfg::split;
  static_assert(num_threads % Cfg::split == 0 && share_threads >= 32,
                "shares of the parts are whole warps");
  __shared__ float weights[max_block_rows * max_parts];
  __shared__ float sums[Cfg::split > 1 ? num_threads * columns : 1];  // [column][thread]
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  const uint32_t first_row = blockIdx.x * p.block_rows;
  const uint32_t rows = min(p.block_rows, p.num_rows - first_row);
  make_weights(p, first_row, rows, weights);
  __syncthreads();

  const uint32_t share = threadIdx.x / share_threads, num_vectors = rows * p.row_vectors;
  for (uint32_t first = 0; first < num_vectors; first += share_threads) {
    const uint32_t vector = first + threadIdx.x % share_threads;
    const bool active = vector < num_vectors;
    const uint32_t row = active ? vector / p.row_vectors : 0;
    const uint32_t column = (vector - row * p.row_vectors) * columns;
    const Row place = row_of(p, first_row + row);
    float sum[columns] = {};
    if (active) {
      const uint64_t offset =
          (place.offset(p.part_o_strides) + column) * dtype_bytes<Cfg::dtype_part>;
      add_parts<Cfg>(p, static_cast<const uint8_t*>(p.part_o) + offset, weights + row * p.num_parts,
                     share, sum);
    }
    if constexpr (Cfg::split > 1) {
#pragma unroll
      for (uint32_t i = 0; i < columns; ++i) sums[i * num_threads + threadIdx.x] = sum[i];
      __syncthreads();
      if (share == 0) {
#pragma unroll
        for (uint32_t i = 0; i < columns; ++i)
#pragma unroll
          for (uint32_t other = 1; other < Cfg::split; ++other)
            sum[i] += sums[i * num_threads + other * share_threads + threadIdx.x];
      }
      __syncthreads();  // before the next vectors' sums
    }
    if (active && share == 0)
      store_columns<Cfg::dtype_o, columns>(
          static_cast<uint8_t*>(p.o) +
              (place.offset(p.o_strides) + column) * dtype_bytes<Cfg::dtype_o>,
          sum);
  }
}
#endif

}  // namespace dgrt::sm90::attn_merge
