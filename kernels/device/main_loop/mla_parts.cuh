// Parts of a unit of MLA, which several CTAs leave: rows' sums of values and weights. The CTAs whose work ends with
// their part wait for the others, and each adds up a share of the columns and rows of all parts, in the parts' order.
//
// Layout    A part is as registers hold it: the four sums number i of all math threads, then those number i + 1, so
//           that whoever stores or loads them fills whole lines. Then of every pair of rows of a thread maxima (as powers
//           of two) and sums of weights.
// Waiting   A CTA waits only where its range ends, and not for ever: others may not have been started, and may wait for
//           this one's SM. A share whose CTA did not wait is left to the CTA that comes last, which waits for nobody.
//           So what is added up does not depend on who runs beside whom; nor do results.
#pragma once
#include "device/epilogue/attn_output.cuh"
#include "device/main_loop/attn_parts.cuh"
#include "device/main_loop/mla_math.cuh"
#include "device/ptx/grid.cuh"

namespace dgrt {

// Fewer parts are sooner added up by one CTA.
constexpr uint32_t mla_few_parts = 5;

// The word that CTAs of a unit meet at, zero before and after: who came, who will not look at it again, and whose
// shares were left by their CTAs.
struct MlaMeeting {
  static constexpr uint32_t max_shares = 32;
  static constexpr uint64_t arrival = uint64_t{1} << 32, departure = uint64_t{1} << 48;
  static constexpr uint32_t patience = 1 << 16;  // cycles

  uint64_t* word;
  uint32_t parts;

  __device__ MlaMeeting(const AttnPagedParams& p, const KeySegment& s)
      : word(reinterpret_cast<uint64_t*>(p.counters + 2 * s.first_slot)), parts(s.parts) {}

  __device__ static uint32_t count(uint64_t state) { return static_cast<uint32_t>(state / arrival) & 0xffff; }
  __device__ static uint32_t departed(uint64_t state) { return static_cast<uint32_t>(state / departure); }

  // One thread, after the CTA's part is stored. Which shares the CTA has to add up, a bit each; departs: whether it
  // must leave() then.
  __device__ __forceinline__ uint32_t arrive(uint32_t part, bool may_wait, bool& departs) const {
    const uint32_t own = part < max_shares ? 1u << part : 0;
    departs = may_wait && own != 0;
    const uint64_t before = ptx::atomic_add_u64(word, departs ? arrival : arrival | departure | own);
    if (count(before) + 1 == parts) {
      if (!departs) forget_if_last(before);
      return static_cast<uint32_t>(before) | own;
    }
    if (!departs) return 0;
    const uint32_t start = ptx::clock();
    while (count(ptx::load_acquire_u64(word)) != parts) {
      if (ptx::clock() - start < patience) continue;
      departs = false;
      const uint64_t now = ptx::atomic_add_u64(word, departure | own);
      if (count(now) != parts) return 0;  // the last one will see the bit
      forget_if_last(now);
      break;
    }
    return own;
  }
  // What forget_if_last() wants to know, later.
  __device__ __forceinline__ uint64_t leave() const { return ptx::atomic_add_relaxed_u64(word, departure); }
  __device__ __forceinline__ void forget_if_last(uint64_t before) const {
    if (departed(before) + 1 == parts) ptx::store_relaxed_u64(word, 0);
  }
};

// Of a math thread's sums four at a time, of two rows; of which a warp's are one piece.
struct MlaPieces {
  static constexpr uint32_t per_thread = MlaRows::columns / 8;
  static constexpr AttnParts layout{mla_rows, mla_head_dim_v};

  static __device__ float* of(const AttnPagedParams& p, uint32_t slot, uint32_t thread, uint32_t index) {
    return p.parts + slot * layout.slot_floats() + (index * mla_math_threads + thread) * 4;
  }
  // Maximum and sum of a row, then of the row 8 below.
  static __device__ float* statistics(const AttnPagedParams& p, uint32_t slot, uint32_t row) {
    return p.parts + slot * layout.slot_floats() + mla_rows * mla_head_dim_v + (row / 16 * 8 + row % 8) * 4;
  }
};

// The math threads whose warps have rows. row: a thread's first one; o: its sums.
__device__ __forceinline__ void store_mla_part(const AttnPagedParams& p, const KeySegment& s, uint32_t row,
                                               const float (&o)[MlaRows::columns / 2], const RowTotals& totals) {
  const uint32_t slot = s.slot_of(s.part);
  float* to = MlaPieces::of(p, slot, threadIdx.x, 0);
  const float scale = totals.value_scale;
#pragma unroll
  for (uint32_t i = 0; i < MlaPieces::per_thread; ++i)
    ptx::store_f32x4(to + i * mla_math_threads * 4, make_float4(o[i * 4] * scale, o[i * 4 + 1] * scale,
                                                                o[i * 4 + 2] * scale, o[i * 4 + 3] * scale));
  if (threadIdx.x < 128 && threadIdx.x % 4 == 0)
    ptx::store_f32x4(MlaPieces::statistics(p, slot, row),
                     make_float4(totals.most[0], totals.sum[0], totals.most[1], totals.sum[1]));
}

// Two rows' sums, of two columns each.
struct MlaMerged {
  float most[2] = {-ptx::infinity(), -ptx::infinity()}, sum[2] = {}, o[4] = {};

  template <uint32_t count>
  __device__ __forceinline__ void add(const float4 (&statistics)[count], const float4 (&values)[count]) {
#pragma unroll
    for (uint32_t row = 0; row < 2; ++row) {
      float top = most[row];
#pragma unroll
      for (const float4& x : statistics) top = fmaxf(top, row == 0 ? x.x : x.z);
      const float shift = top == -ptx::infinity() ? 0.0f : top, rescale = ptx::ex2_approx_f32(most[row] - shift);
      most[row] = top;
      sum[row] *= rescale, o[row * 2] *= rescale, o[row * 2 + 1] *= rescale;
#pragma unroll
      for (uint32_t i = 0; i < count; ++i) {
        const float part = row == 0 ? statistics[i].y : statistics[i].w;
        if (part == 0.0f) continue;  // no keys; those of a small weight may be NaN, and count
        const float weight = ptx::ex2_approx_f32((row == 0 ? statistics[i].x : statistics[i].z) - shift);
        sum[row] += weight * part;
        o[row * 2] += weight * (row == 0 ? values[i].x : values[i].z);
        o[row * 2 + 1] += weight * (row == 0 ? values[i].y : values[i].w);
      }
    }
  }
};

// A warp: adds up a piece of all parts, closes its rows, and stores them.
template <class Cfg>
__device__ __forceinline__ void merge_mla_piece(const AttnPagedParams& p, const KeySegment& s, uint32_t thread,
                                                uint32_t index) {
  constexpr uint32_t batch = 12;
  const uint32_t first_row = thread % 128 / 32 * 16 + thread % 32 / 4;
  MlaMerged merged;
#pragma unroll 1
  for (uint32_t done = 0; done < s.parts; done += batch) {
    float4 statistics[batch], values[batch];
#pragma unroll
    for (uint32_t i = 0; i < batch; ++i) {
      statistics[i] = make_float4(-ptx::infinity(), 0.0f, -ptx::infinity(), 0.0f);
      values[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (done + i >= s.parts) continue;
      const uint32_t slot = s.slot_of(done + i);
      statistics[i] = ptx::load_relaxed_f32x4(MlaPieces::statistics(p, slot, first_row));
      values[i] = ptx::load_relaxed_f32x4(MlaPieces::of(p, slot, thread, index));
    }
    merged.add(statistics, values);
  }
  const uint32_t column = thread / 128 * MlaRows::columns + index * 8 + thread % 4 * 2;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const AttnRow to(p, s, first_row + i * 8);
    if (!to.exists) continue;
    const float scale = close_row(p, to.token, to.head, merged.sum[i], merged.most[i], column == 0);
    if (column < p.v_columns)
      ptx::store_b32(static_cast<uint16_t*>(p.o) + to.token * p.o_token + to.head * p.o_head + column,
                     ptx::pack_half2<Cfg::dtype>(merged.o[i * 2] * scale, merged.o[i * 2 + 1] * scale));
  }
}

// All math threads, after they stored their part. flag: shared address of a word of this call alone.
template <class Cfg>
__device__ __forceinline__ void merge_mla_parts(const AttnPagedParams& p, const KeySegment& s, uint32_t flag) {
  const MlaMeeting meeting(p, s);
  bool departs = false;
  ptx::named_barrier_sync(MlaBarrier::all, mla_math_threads);
  if (threadIdx.x == 0) ptx::store_shared_u32(flag, meeting.arrive(s.part, s.ends_range, departs));
  ptx::named_barrier_sync(MlaBarrier::all, mla_math_threads);
  uint64_t left_at = 0;
  if (departs) left_at = meeting.leave();
  const uint32_t row_groups = ceil_div(s.tokens(p) * p.tile_heads, 16), shares = min(s.parts, MlaMeeting::max_shares);
  const uint32_t pieces = row_groups * 2 * MlaPieces::per_thread, lane = threadIdx.x % 32;
#pragma unroll 1
  for (uint32_t left = ptx::load_shared_u32(flag); left != 0; left &= left - 1) {
    const uint32_t share = __ffs(static_cast<int>(left)) - 1;
#pragma unroll 1
    for (uint32_t i = share * (mla_math_threads / 32) + threadIdx.x / 32; i < pieces; i += shares * (mla_math_threads / 32)) {
      const uint32_t warp = i / MlaPieces::per_thread;  // 2 for each group of rows
      merge_mla_piece<Cfg>(p, s, warp % 2 * 128 + warp / 2 * 32 + lane, i % MlaPieces::per_thread);
    }
  }
  if (departs) meeting.forget_if_last(left_at);
}

}  // namespace dgrt
