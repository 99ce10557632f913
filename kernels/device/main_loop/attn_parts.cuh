// What becomes of a row of attention: stored at once if its keys were all in one place, or left as a part
// until the last part of its unit is there, whose CTA adds them up in their order.
#pragma once
#include "device/epilogue/attn_output.cuh"
#include "device/sched/key_split.cuh"
#include "device/epilogue/last_arriver.cuh"

namespace dgrt {

// Where a row of a tile goes. Null: the row does not exist.
struct AttnRow {
  uint64_t token;
  uint32_t head;
  bool exists;

  __device__ AttnRow(const AttnPagedParams& p, const KeySegment& s, uint32_t row) {
    const uint32_t in_tile = token_of_row(row, p.row_scale), head_in_tile = row - in_tile * p.tile_heads;
    token = static_cast<uint64_t>(s.q_begin + s.first_token) + in_tile;
    head = s.first_head + head_in_tile;
    exists = in_tile < s.tokens(p) && head_in_tile < s.heads;
  }
};

template <class Cfg>
struct PartSlots {
  static constexpr AttnParts layout{Cfg::block_m, Cfg::head_dim_v};

  static __device__ float* values(const AttnPagedParams& p, uint32_t slot) {
    return p.parts + slot * layout.slot_floats();
  }
  // Maximum and sum of a row, of the part alone or of the group of parts that it is the first of.
  static __device__ float* statistics(const AttnPagedParams& p, uint32_t slot, uint32_t row, bool grouped) {
    return values(p, slot) + Cfg::block_m * Cfg::head_dim_v + row * 4 + (grouped ? 2 : 0);
  }
};

// Parts of one row, eight columns of it, added up.
struct MergedColumns {
  float most = -ptx::infinity(), sum = 0.0f;
  float o[8] = {};

  template <uint32_t count>
  __device__ __forceinline__ void add(const float2 (&statistics)[count], const float4 (&values)[count][2]) {
    float top = most;
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) top = fmaxf(top, statistics[i].x);
    const float shift = top == -ptx::infinity() ? 0.0f : top;
    const float rescale = ptx::ex2_approx_f32(most - shift);
    most = top;
    sum *= rescale;
#pragma unroll
    for (float& x : o) x *= rescale;
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) {
      const float weight = ptx::ex2_approx_f32(statistics[i].x - shift);
      if (weight == 0.0f) continue;
      sum += weight * statistics[i].y;
      const float part[8] = {values[i][0].x, values[i][0].y, values[i][0].z, values[i][0].w,
                             values[i][1].x, values[i][1].y, values[i][1].z, values[i][1].w};
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) o[j] += weight * part[j];
    }
  }
};

// Parts first, first + step, ...: count of them.
struct PartRange {
  uint32_t first, step, count;
};

template <class Cfg>
__device__ __forceinline__ MergedColumns add_parts(const AttnPagedParams& p, const KeySegment& s,
                                                   const PartRange& range, uint32_t row, uint32_t column) {
  constexpr uint32_t batch = 8;
  const bool grouped = range.step > 1;
  MergedColumns merged;
#pragma unroll 1
  for (uint32_t done = 0; done < range.count; done += batch) {
    float2 statistics[batch];
    float4 values[batch][2];
#pragma unroll
    for (uint32_t j = 0; j < batch; ++j) {
      statistics[j] = make_float2(-ptx::infinity(), 0.0f);
      values[j][0] = values[j][1] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (done + j >= range.count) continue;
      const uint32_t slot = s.slot_of(range.first + (done + j) * range.step);
      statistics[j] = ptx::load_relaxed_f32x2(PartSlots<Cfg>::statistics(p, slot, row, grouped));
      const float* from = PartSlots<Cfg>::values(p, slot) + row * Cfg::head_dim_v + column;
      values[j][0] = ptx::load_relaxed_f32x4(from);
      values[j][1] = ptx::load_relaxed_f32x4(from + 4);
    }
    merged.add(statistics, values);
  }
  return merged;
}

__device__ __forceinline__ void store_group(float* values, float* statistics, const MergedColumns& merged,
                                            bool store_statistics) {
  const auto& o = merged.o;
  ptx::store_f32x4(values, make_float4(o[0], o[1], o[2], o[3]));
  ptx::store_f32x4(values + 4, make_float4(o[4], o[5], o[6], o[7]));
  if (store_statistics) ptx::store_f32x2(statistics, make_float2(merged.most, merged.sum));
}

// All threads of the CTA: adds up parts of a unit. `last`: they are all of it; closes and stores its rows.
// Else leaves the sum in the place of the first of them.
template <class Cfg, uint32_t num_threads>
__device__ __forceinline__ void merge_parts(const AttnPagedParams& p, const KeySegment& s,
                                            const PartRange& range, bool last) {
  constexpr uint32_t groups = Cfg::head_dim_v / 8;
  const uint32_t rows = s.tokens(p) * p.tile_heads;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < rows * groups; i += num_threads) {
    const uint32_t row = i / groups, column = i % groups * 8;
    const AttnRow to(p, s, row);
    if (!to.exists) continue;
    const MergedColumns merged = add_parts<Cfg>(p, s, range, row, column);
    if (!last) {
      const uint32_t slot = s.slot_of(range.first);
      store_group(PartSlots<Cfg>::values(p, slot) + row * Cfg::head_dim_v + column,
                  PartSlots<Cfg>::statistics(p, slot, row, true), merged, column == 0);
      continue;
    }
    const float scale = close_row(p, to.token, to.head, merged.sum, merged.most, column == 0);
    uint32_t packed[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j)
      packed[j] = ptx::pack_half2<Cfg::dtype>(merged.o[2 * j] * scale, merged.o[2 * j + 1] * scale);
    if (column < p.v_columns)
      ptx::store_b32x4(static_cast<uint16_t*>(p.o) + to.token * p.o_token + to.head * p.o_head + column,
                       make_uint4(packed[0], packed[1], packed[2], packed[3]));
  }
}

// All threads of the CTA, after they stored their part. Many parts are added up in groups first, each by
// the last CTA of its group: one CTA alone would read for too long.
template <class Cfg, uint32_t num_threads>
__device__ __forceinline__ void gather_parts(const AttnPagedParams& p, const KeySegment& s, uint32_t flag) {
  const bool two_rounds = s.parts > attn_merge_parts;
  const uint32_t first = two_rounds ? s.part / attn_merge_parts * attn_merge_parts : 0;
  PartRange range = {first, 1, min(s.parts - first, two_rounds ? attn_merge_parts : s.parts)};
  uint32_t* counter = p.counters + 2 * s.slot_of(first) + 1;
#pragma unroll 1
  for (bool last = !two_rounds;; last = true) {
    if (!arrives_last(counter, range.count, flag, 1, num_threads)) return;
    merge_parts<Cfg, num_threads>(p, s, range, last);
    if (last) return;
    range = {0, attn_merge_parts, ceil_div(s.parts, attn_merge_parts)};
    counter = p.counters + 2 * s.first_slot;
  }
}

}  // namespace dgrt
