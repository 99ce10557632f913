// What is left of a row of attention once its keys are through: the sink, lse, o.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

__device__ __forceinline__ void exchange(uint32_t& mine, uint32_t& other, uint32_t distance,
                                         bool upper) {
  const uint32_t sent = upper ? mine : other;
  const uint32_t received = __shfl_xor_sync(0xffffffff, sent, distance);
  (upper ? mine : other) = received;
}

// In: thread t of four has pair t of groups 0 to 3. Out: pairs 0 to 3 of group t.
__device__ __forceinline__ uint4 transpose_pairs(uint32_t g0, uint32_t g1, uint32_t g2,
                                                 uint32_t g3) {
  const bool odd = threadIdx.x % 2 != 0, high = threadIdx.x % 4 / 2 != 0;
  exchange(g0, g1, 1, odd);
  exchange(g2, g3, 1, odd);
  exchange(g0, g2, 2, high);
  exchange(g1, g3, 2, high);
  return make_uint4(g0, g1, g2, g3);
}

// Closes a row: the sink, counted once, and lse. `most`: the maximum as a power of two. Returns what o,
// the weighted sum, must be multiplied by. P: AttnParams, AttnPagedParams.
template <class P>
__device__ __forceinline__ float close_row(const P& p, uint64_t token, uint32_t head, float sum, float most,
                                           bool store_lse) {
  constexpr float log2e = 1.4426950408889634f, ln2 = 0.6931471805599453f;
  float total = sum, weight = 1.0f, lse = most + ptx::lg2_approx_f32(sum);
  if (p.sinks != nullptr) {
    const float sink = p.sinks[head] * log2e, top = fmaxf(sink, most);
    const float shift = top == -ptx::infinity() ? 0.0f : top;  // neither keys nor a sink
    weight = ptx::ex2_approx_f32(most - shift);
    total = sum * weight + (sink == top ? 1.0f : ptx::ex2_approx_f32(sink - shift));  // infinity takes all
    if ((p.lse_form & attn_lse_with_sink) != 0) lse = top + ptx::lg2_approx_f32(total);
  }
  if ((p.lse_form & attn_lse_empty_inf) != 0 && lse == -ptx::infinity()) lse = ptx::infinity();
  if (p.lse != nullptr && store_lse)
    ptx::store_f32(p.lse + token * p.lse_token + head * p.lse_head,
                   (p.lse_form & attn_lse_base2) != 0 ? lse : lse * ln2);
  return sum > 0.0f ? weight / total : sum;  // no visible key: o is 0; NaN stays NaN
}

// Stores a slab's rows, 16 bytes a thread. A fragment holds two columns of each group of eight; four
// threads of a row exchange until each has all eight columns of every fourth group. o: columns from
// first_column on. rows[i], scale[i]: of the thread's two rows; null rows are not stored.
template <int dtype, uint32_t count>
__device__ __forceinline__ void store_rows(const float (&o)[count], uint16_t* const (&rows)[2],
                                           const float (&scale)[2], uint32_t first_column,
                                           uint32_t columns) {
  static_assert(count % 16 == 0, "four groups of eight columns at a time");
#pragma unroll
  for (uint32_t row = 0; row < 2; ++row)
#pragma unroll
    for (uint32_t i = 0; i < count; i += 16) {
      uint32_t pairs[4];
#pragma unroll
      for (uint32_t group = 0; group < 4; ++group) {
        const uint32_t at = i + group * 4 + row * 2;
        pairs[group] = ptx::pack_half2<dtype>(o[at] * scale[row], o[at + 1] * scale[row]);
      }
      const uint4 v = transpose_pairs(pairs[0], pairs[1], pairs[2], pairs[3]);
      const uint32_t column = first_column + i * 2 + threadIdx.x % 4 * 8;
      ptx::store_b32x4_if(rows[row] != nullptr && column < columns, rows[row] + column, v);
    }
}

// One warp: `tokens` tokens that see no key, `heads` heads of them.
template <uint32_t heads>
__device__ __forceinline__ void store_unseeing_rows(const AttnParams& p, uint64_t first_token, uint32_t tokens,
                                                    uint32_t first_head) {
  const uint32_t groups = p.v_columns / 8;
#pragma unroll 1
  for (uint32_t i = threadIdx.x % 32; i < tokens * heads * groups; i += 32) {
    const uint32_t row = i / groups, column = i % groups * 8;
    const uint64_t token = first_token + row / heads;
    const uint32_t head = first_head + row % heads;
    if (column == 0) close_row(p, token, head, 0.0f, -ptx::infinity(), true);
    ptx::store_b32x4(static_cast<uint16_t*>(p.o) + token * p.o_token + head * p.o_head + column,
                     make_uint4(0, 0, 0, 0));
  }
  __syncwarp();
}

}  // namespace dgrt
