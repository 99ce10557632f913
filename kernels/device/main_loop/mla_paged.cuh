// The math half of MLA over segments of sequences, and what it knows of those in pages, whose tiles end where the
// keys do.
#pragma once
#include "device/main_loop/mla_parts.cuh"
#include "device/main_loop/paged_rows.cuh"
#include "device/main_loop/mla_math.cuh"

namespace dgrt {

struct MlaPagedMask {
  static constexpr bool may_cut_tiles = true;

  const MlaParams& p;
  PagedMask mask;
  int32_t key_end;

  __device__ MlaPagedMask(const MlaParams& p, const KeySegment& s, const MlaSmem&)
      : p(p), mask(p, s), key_end(s.key_end(p)) {}

  __device__ __forceinline__ uint32_t loaded_keys(int32_t tile) const {
    return static_cast<uint32_t>(max(key_end - tile * static_cast<int32_t>(mla_keys), 0));
  }
  __device__ __forceinline__ void apply(float (&s)[mla_keys / 2], uint32_t row, int32_t tile, uint32_t) const {
    mask.apply(p, s, row, tile * static_cast<int32_t>(mla_keys));
  }
};

// What logits and sums of values are multiplied by.
template <class Cfg>
__device__ __forceinline__ PagedScales mla_scales(const MlaParams& p) {
  PagedScales scales(p);
  if constexpr (Cfg::kv_bytes == 1) scales.add_head<false>(p, 0);
  if constexpr (Cfg::q_bytes == 1)
    if (p.q_scale != nullptr) scales.logit *= *p.q_scale;
  return scales;
}

// Parts that are added up at once. A second round costs a little more than reading a part of 64 rows: from 8 parts on,
// both rounds have as few of them as they can.
__device__ __forceinline__ uint32_t mla_merge_group(uint32_t parts) {
  constexpr uint32_t one_round = 7;
  if (parts <= one_round) return one_round;
  uint32_t group = 3;
#pragma unroll 1
  while (group * group < parts) ++group;
  return group;
}

// Stores the rows of segment number `index`, or their part. has_rows: this warp's. together: many parts are added up by
// all of their CTAs; not where a CTA may have several parts of a unit.
template <class Cfg, bool together>
__device__ __forceinline__ void mla_finish(const AttnPagedParams& p, const MlaSmem& smem, const PagedScales& scales,
                                           const MlaRows& rows, bool has_rows, uint32_t warpgroup, uint32_t index) {
  float sum[2], most[2];
  mla_add_sums(smem, rows, warpgroup, index, sum);
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) most[i] = rows.softmax.max[i] * scales.logit;
  KeySegment segment;
  segment.load(smem.segment(index));
  const RowTotals totals = {sum, most, scales.value};
  float o[MlaOutput::count];
  MlaOutput::read(o);
  if (together && !Cfg::invariant && ptx::redux_max_u32(segment.parts) > mla_few_parts) {
    if (has_rows) store_mla_part(p, segment, rows.row, o, totals);
    merge_mla_parts<Cfg>(p, segment, smem.scratch());
    return;
  }
  store_tile_or_part<Cfg>(p, segment, rows.row, warpgroup * MlaRows::columns, o, totals);
  if (segment.parts > 1)
    gather_parts<Cfg, mla_math_threads, MergeShape<4, 6>>(p, segment, smem.scratch(), mla_merge_group(segment.parts));
}

// Both math warpgroups. Mask, registers: see MlaMath; a mask is made of a segment. together: see mla_finish().
// mla_scales() is that of the parameters.
template <class Cfg, class Mask, uint32_t registers = 208, bool together = false, class Params, class Smem>
__device__ __forceinline__ void mla_compute(const Params& p, const Smem& smem, uint32_t warpgroup) {
  const PagedScales scales = mla_scales<Cfg>(p);
  for_mla_items<KeySegment>(smem, [&](const KeySegment& segment, MlaRows& rows, uint32_t& phase, uint32_t index) {
    const bool has_rows = has_mla_rows(rows, segment.tokens(p) * p.tile_heads);
    MlaMath<Cfg, Smem, Mask, registers>(smem, scales.logit, warpgroup, phase, rows)
        .run(segment.begin, segment.end, has_rows, Mask(p, segment, smem));
    mla_finish<Cfg, together>(p, smem, scales, rows, has_rows, warpgroup, index);
  });
}

}  // namespace dgrt
