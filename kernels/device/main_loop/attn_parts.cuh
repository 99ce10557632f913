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

// Parts of one row, some columns of it, added up.
template <uint32_t columns>
struct MergedColumns {
  float most = -ptx::infinity(), sum = 0.0f;
  float o[columns] = {};

  template <uint32_t count>
  __device__ __forceinline__ void add(const float2 (&statistics)[count], const float4 (&values)[count][columns / 4]) {
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
      if (statistics[i].y == 0.0f) continue;  // no keys; those of a small weight may be NaN, and count
      const float weight = ptx::ex2_approx_f32(statistics[i].x - shift);
      sum += weight * statistics[i].y;
#pragma unroll
      for (uint32_t j = 0; j < columns / 4; ++j) {
        const float4& part = values[i][j];
        o[j * 4] += weight * part.x, o[j * 4 + 1] += weight * part.y;
        o[j * 4 + 2] += weight * part.z, o[j * 4 + 3] += weight * part.w;
      }
    }
  }
};

// Parts first, first + step, ...: count of them.
struct PartRange {
  uint32_t first, step, count;
};

// What a thread adds up side by side: chunks of four columns of a row, as far apart as they can be, of so many parts.
// Neighbouring threads have neighbouring chunks: relaxed loads pass by the L1 cache, so that what a load does not use of
// a sector is read from L2 once more.
template <uint32_t chunks_, uint32_t parts_>
struct MergeShape {
  static constexpr uint32_t chunks = chunks_, parts = parts_;
};

template <class Cfg, class Shape>
__device__ __forceinline__ MergedColumns<Shape::chunks * 4> add_parts(const AttnPagedParams& p, const KeySegment& s,
                                                                      const PartRange& range, uint32_t row,
                                                                      uint32_t column) {
  constexpr uint32_t batch = Shape::parts, apart = Cfg::head_dim_v / Shape::chunks;
  const bool grouped = range.step > 1;
  MergedColumns<Shape::chunks * 4> merged;
#pragma unroll 1
  for (uint32_t done = 0; done < range.count; done += batch) {
    float2 statistics[batch];
    float4 values[batch][Shape::chunks];
#pragma unroll
    for (uint32_t j = 0; j < batch; ++j) {
      statistics[j] = make_float2(-ptx::infinity(), 0.0f);
#pragma unroll
      for (float4& x : values[j]) x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (done + j >= range.count) continue;
      const uint32_t slot = s.slot_of(range.first + (done + j) * range.step);
      statistics[j] = ptx::load_relaxed_f32x2(PartSlots<Cfg>::statistics(p, slot, row, grouped));
      const float* from = PartSlots<Cfg>::values(p, slot) + row * Cfg::head_dim_v + column;
#pragma unroll
      for (uint32_t i = 0; i < Shape::chunks; ++i) values[j][i] = ptx::load_relaxed_f32x4(from + i * apart);
    }
    merged.add(statistics, values);
  }
  return merged;
}

// All threads of the CTA: adds up parts of a unit. `last`: they are all of it; closes and stores its rows.
// Else leaves the sum in the place of the first of them.
template <class Cfg, uint32_t num_threads, class Shape>
__device__ __forceinline__ void merge_parts(const AttnPagedParams& p, const KeySegment& s,
                                            const PartRange& range, bool last) {
  constexpr uint32_t groups = Cfg::head_dim_v / 4 / Shape::chunks, apart = groups * 4;
  const uint32_t rows = s.tokens(p) * p.tile_heads;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < rows * groups; i += num_threads) {
    const uint32_t row = i / groups, column = i % groups * 4;
    const AttnRow to(p, s, row);
    if (!to.exists) continue;
    const auto merged = add_parts<Cfg, Shape>(p, s, range, row, column);
    if (!last) {
      const uint32_t slot = s.slot_of(range.first);
      float* sums = PartSlots<Cfg>::values(p, slot) + row * Cfg::head_dim_v + column;
#pragma unroll
      for (uint32_t j = 0; j < Shape::chunks; ++j) {
        const float* o = merged.o + j * 4;
        ptx::store_f32x4(sums + j * apart, make_float4(o[0], o[1], o[2], o[3]));
      }
      if (column == 0)
        ptx::store_f32x2(PartSlots<Cfg>::statistics(p, slot, row, true), make_float2(merged.most, merged.sum));
      continue;
    }
    const float scale = close_row(p, to.token, to.head, merged.sum, merged.most, column == 0);
#pragma unroll
    for (uint32_t j = 0; j < Shape::chunks; ++j) {
      const float* o = merged.o + j * 4;
      if (column + j * apart < p.v_columns)
        ptx::store_b32x2(static_cast<uint16_t*>(p.o) + to.token * p.o_token + to.head * p.o_head + column + j * apart,
                         make_uint2(ptx::pack_half2<Cfg::dtype>(o[0] * scale, o[1] * scale),
                                    ptx::pack_half2<Cfg::dtype>(o[2] * scale, o[3] * scale)));
    }
  }
}

// Of the two rows of a thread.
struct RowTotals {
  const float (&sum)[2];   // of weights
  const float (&most)[2];  // the largest logit, as a power of two
  float value_scale;       // of o
};

// o: columns from first_column on of the thread's rows, `row` and row + 8 of the tile.
template <class Cfg, uint32_t count>
__device__ __forceinline__ void store_tile(const AttnPagedParams& p, const KeySegment& s, uint32_t row,
                                           uint32_t first_column, const float (&o)[count], const RowTotals& totals) {
  uint16_t* rows[2];
  float scale[2];
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const AttnRow to(p, s, row + i * 8);
    rows[i] = nullptr, scale[i] = 0.0f;
    if (!to.exists) continue;
    rows[i] = static_cast<uint16_t*>(p.o) + to.token * p.o_token + to.head * p.o_head;
    scale[i] = totals.value_scale * close_row(p, to.token, to.head, totals.sum[i], totals.most[i],
                                              first_column == 0 && threadIdx.x % 4 == 0);
  }
  store_rows<Cfg::dtype>(o, rows, scale, first_column, p.v_columns);
}

template <class Cfg, uint32_t count>
__device__ __forceinline__ void store_part(const AttnPagedParams& p, const KeySegment& s, uint32_t row,
                                           uint32_t first_column, const float (&o)[count], const RowTotals& totals) {
  const uint32_t slot = s.slot_of(s.part);
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t at = row + i * 8;
    if (!AttnRow(p, s, at).exists) continue;
    float* to = PartSlots<Cfg>::values(p, slot) + at * Cfg::head_dim_v + first_column + threadIdx.x % 4 * 2;
#pragma unroll
    for (uint32_t j = 0; j < count / 4; ++j)
      ptx::store_f32x2(to + j * 8, make_float2(o[j * 4 + i * 2] * totals.value_scale,
                                               o[j * 4 + i * 2 + 1] * totals.value_scale));
    if (first_column == 0 && threadIdx.x % 4 == 0)
      ptx::store_f32x2(PartSlots<Cfg>::statistics(p, slot, at, false), make_float2(totals.most[i], totals.sum[i]));
  }
}

// The rows, if all their keys were here. Else gather_parts() must follow.
template <class Cfg, uint32_t count>
__device__ __forceinline__ void store_tile_or_part(const AttnPagedParams& p, const KeySegment& s, uint32_t row,
                                                   uint32_t first_column, const float (&o)[count],
                                                   const RowTotals& totals) {
  if (ptx::redux_max_u32(s.parts) == 1)
    store_tile<Cfg>(p, s, row, first_column, o, totals);
  else
    store_part<Cfg>(p, s, row, first_column, o, totals);
}

// All threads of the CTA, after they stored their part. Many parts are added up in groups of `group` first, each by
// the last CTA of its group: one CTA alone would read for too long.
template <class Cfg, uint32_t num_threads, class Shape = MergeShape<2, 8>>
__device__ __forceinline__ void gather_parts(const AttnPagedParams& p, const KeySegment& s, uint32_t flag,
                                             uint32_t group = attn_merge_parts) {
  const bool two_rounds = s.parts > group;
  const uint32_t first = two_rounds ? s.part / group * group : 0;
  PartRange range = {first, 1, min(s.parts - first, two_rounds ? group : s.parts)};
  uint32_t* counter = p.counters + 2 * s.slot_of(first) + 1;
#pragma unroll 1
  for (bool last = !two_rounds;; last = true) {
    if (!arrives_last(counter, range.count, flag, 1, num_threads)) return;
    merge_parts<Cfg, num_threads, Shape>(p, s, range, last);
    if (last) return;
    range = {0, group, ceil_div(s.parts, group)};
    counter = p.counters + 2 * s.first_slot;
  }
}

}  // namespace dgrt
