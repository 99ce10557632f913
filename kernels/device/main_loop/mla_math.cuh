// The math half of MLA over tiles of 64 keys: two warpgroups share 64 rows and hold half of o's columns each.
//
// Order     Warpgroup w computes scores and weights of the tiles in slot w. Both multiply every tile's weights by
//           their half of its values: their own tile's from registers, the other's from the box that held its
//           rotary columns, or, where those are values, from one of their own. So one's softmax hides behind the
//           other's products: warpgroup 1 issues its scores before it waits for weights, warpgroup 0 after it. The
//           running maximum goes with the weights, tile by tile; each keeps the sum of its own tiles' weights.
// Source    The division of o's columns and the alternating tiles are DeepSeek's for FlashMLA
//           (deepseek-ai/FlashMLA: docs/20250422-new-kernel-deep-dive.md); where weights lie and the order of
//           products are ours.
#pragma once
#include "device/main_loop/online_softmax.cuh"
#include "device/mma/descriptor.cuh"
#include "device/mma/pack_scores.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"
#include "device/ptx/wgmma.cuh"
#include "device/ptx/wgmma_named.gen.cuh"
#include "device/pipeline/mla_smem.cuh"

namespace dgrt {

// Named barriers. weights + w: the weights of a tile of warpgroup w are there. scores + w: nobody of warpgroup w
// reads its tile's rotary columns any more.
struct MlaBarrier {
  static constexpr uint32_t all = 1, weights = 2, scores = 4;
};

// All threads, once, in front of all branches: what a thread has of a tile's scores, and of o its rows' columns of the
// warpgroup.
using MlaOutput = ptx::NamedSums;
__device__ __forceinline__ void declare_mla_products() {
  ptx::NamedScores::declare();
  ptx::NamedSums::declare();
}

// What a thread has of a work item, beside its part of o.
struct MlaRows {
  static constexpr uint32_t columns = mla_head_dim_v / 2;

  uint32_t row;  // the first of two; the other is 8 below
  OnlineSoftmax softmax;
};

// Smem: MlaSmem, or what has the same members. Mask: which keys rows see, and, where a tile may be cut short, how many
// keys of it were loaded. registers: that a thread has. copies: in the code, of a product with the other warpgroup's
// values that is awaited next.
template <class Cfg, class Smem, class Mask, uint32_t registers, uint32_t copies = 1>
struct MlaMath {
  static constexpr uint32_t columns = MlaRows::columns;
  using Scores = ptx::NamedScores;
  using Output = ptx::NamedSums;
  static constexpr uint32_t v_step = 16 * attn_row_bytes >> 4;  // 16 rows of v, of a descriptor
  static_assert(columns / 2 == Output::count, "a thread has two rows' every fourth pair of columns");

  Smem smem;
  const float logit_scale;   // to a power of two
  const uint32_t own, other;  // warpgroups, and their slots
  uint32_t& phase;            // of the own slot
  MlaRows& rows;
  uint32_t row = rows.row;
  OnlineSoftmax& softmax = rows.softmax;
  uint32_t weights[mla_keys / 4] = {};

  __device__ MlaMath(const Smem& smem, float logit_scale, uint32_t warpgroup, uint32_t& phase, MlaRows& rows)
      : smem(smem), logit_scale(logit_scale), own(warpgroup), other(1 - warpgroup), phase(phase), rows(rows) {}

  __device__ __forceinline__ void release_queries() const {
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(smem.q_ring().empty());
  }
  __device__ __forceinline__ void release(uint32_t slot, uint32_t half) const {
    if (threadIdx.x % 32 == 0) smem.release(slot, half);
  }

  // Rows of the own tile from `keys` on are of keys that nobody sees: what lies there may be NaN.
  __device__ __forceinline__ void clear_tail(uint32_t keys) const {
#pragma unroll 1
    for (uint32_t box = 0; box < mla_boxes; ++box) {
      smem.wait_box(own, box, 0, phase);
#pragma unroll 1
      for (uint32_t i = keys * 8 + threadIdx.x % 128; i < mla_keys * 8; i += 128)
        ptx::store_shared_b32x4(smem.box(own, box) + i * 16, make_uint4(0, 0, 0, 0));
    }
    ptx::fence_proxy_async();
    ptx::named_barrier_sync(MlaBarrier::scores + own, 128);
  }

  __device__ __forceinline__ static void issue_box(uint64_t q, uint64_t k, bool accumulate) {
#pragma unroll
    for (uint32_t step = 0; step < 4; ++step)  // 32 bytes: 2 in the descriptor's 16-byte units
      Scores::product<mla_dtype<Cfg>>(q + step * 2, k + step * 2, step != 0 || accumulate);
  }

  // Box by box as they come. Descriptors of a half's boxes are one and a constant, so that the boxes' products follow
  // each other sooner than they run.
  __device__ __forceinline__ void begin_scores() {
    ptx::wgmma_fence();
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t first = (own ^ half) * mla_half_boxes;
      const uint64_t q_first = operand_descriptor<false>(smem.q() + first * mla_box_bytes);
      const uint64_t k_first = operand_descriptor<false>(smem.box(own, first));
#pragma unroll
      for (uint32_t i = 0; i < mla_half_boxes; ++i) {
        smem.wait_box(own, first + i, half * mla_half_boxes + i, phase);
        issue_box(q_first + i * (mla_box_bytes >> 4), k_first + i * (mla_box_bytes >> 4), half + i != 0);
      }
    }
    if constexpr (Cfg::head_dim_qk > mla_head_dim_v) {
      constexpr uint32_t rotary = mla_boxes - 1;
      smem.wait_box(own, rotary, rotary, phase);
      issue_box(operand_descriptor<false>(smem.q() + rotary * mla_box_bytes),
                operand_descriptor<false>(smem.box(own, rotary)), true);
    }
    ptx::wgmma_commit();
    phase ^= 1;
  }

  // Makes weights of the scores of the own tile, and tells the other warpgroup. rescale: what o must be multiplied by.
  __device__ __forceinline__ void weigh(int32_t tile, bool has_rows, const Mask& mask, float (&rescale)[2]) {
    rescale[0] = rescale[1] = 1.0f;
    // Weights that a warp without rows keeps from tile to tile would be spilled.
    if constexpr (registers < 224)
#pragma unroll
      for (uint32_t& x : weights) x = 0;
    if (has_rows) {
      float s[Scores::count];
      Scores::read(s);
      mask.apply(s, row, tile, own);
      softmax.update(s, logit_scale, rescale);
      pack_scores<mla_dtype<Cfg>>(weights, s);
    }
    ptx::named_barrier_sync(MlaBarrier::scores + own, 128);
    if (has_rows) {
      const uint32_t lane = threadIdx.x % 32, at = threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
      for (uint32_t i = 0; i < mla_keys / 16; ++i)
        ptx::stmatrix_x4(smem.box(own, mla_boxes - 1) + attn_chunk_offset(mla_rows, at, i * 2 + lane / 16),
                         weights[i * 4], weights[i * 4 + 1], weights[i * 4 + 2], weights[i * 4 + 3]);
      if (lane % 4 == 0)
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) ptx::store_shared_f32(smem.most(own, row + i * 8), softmax.max[i]);
      ptx::fence_proxy_async();
    }
    ptx::named_barrier_arrive(MlaBarrier::weights + own, mla_math_threads);
  }

  // Mostly the maximum stays: then there is nothing to do for a whole warp.
  __device__ __forceinline__ void scale_output(const float (&rescale)[2]) {
    if (!__any_sync(0xffffffff, rescale[0] != 1.0f || rescale[1] != 1.0f)) return;
    Output::scale(rescale);
  }

  __device__ __forceinline__ void begin_own_output() {
    ptx::wgmma_fence();
    const uint64_t v = mn_descriptor(smem.box(own, own * mla_half_boxes), mla_box_bytes);
#pragma unroll
    for (uint32_t step = 0; step < mla_keys / 16; ++step)
      Output::add<mla_dtype<Cfg>>(weights + step * 4, v + step * v_step);
    ptx::wgmma_commit();
  }

  // Waits for the weights of the other warpgroup's tile. unrolled: copies of the product. One is enough, in a loop, where all
  // are awaited next: a product keeps the tensor cores busy for longer than a round takes to issue. But each round is a
  // group of its own, of which a wait for the scores before would let only the last one be.
  template <uint32_t unrolled>
  __device__ __forceinline__ void begin_other_output(bool has_rows) {
    ptx::named_barrier_sync(MlaBarrier::weights + other, mla_math_threads);
    if (has_rows) {
      float most[2], rescale[2];
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) most[i] = ptx::load_shared_f32(smem.most(other, row + i * 8));
      softmax.raise(most, logit_scale, rescale);
      scale_output(rescale);
    }
    ptx::wgmma_fence();
    const uint64_t p = operand_descriptor<false>(smem.box(other, mla_boxes - 1));
    const uint64_t v = mn_descriptor(smem.box(other, own * mla_half_boxes), mla_box_bytes);
#pragma unroll unrolled
    for (uint32_t step = 0; step < mla_keys / 16; ++step)
      Output::add<mla_dtype<Cfg>>(p + step * 2, v + step * v_step);
    ptx::wgmma_commit();
  }

  // The own tile. Warpgroup 1 has issued its scores when it waits for the other's weights.
  __device__ __forceinline__ void attend_own(int32_t tile, int32_t end, bool has_rows, const Mask& mask) {
    if constexpr (Mask::may_cut_tiles)
      if (const uint32_t keys = mask.loaded_keys(tile); keys < mla_keys) clear_tail(keys);
    begin_scores();
    if (own == 1) {
      begin_other_output<mla_keys / 16>(has_rows);
      ptx::wgmma_wait<1>();
    } else {
      ptx::wgmma_wait<0>();
    }
    if (tile + 2 >= end) release_queries();
    float rescale[2];
    weigh(tile, has_rows, mask, rescale);
    ptx::wgmma_wait<0>();
    if (own == 1) release(other, 1);
    scale_output(rescale);
    begin_own_output();
    ptx::wgmma_wait<0>();
    release(own, 0);
  }

  __device__ __forceinline__ void attend_other(bool has_rows) {
    begin_other_output<copies>(has_rows);
    ptx::wgmma_wait<0>();
    release(other, 1);
  }

  // Tiles [begin, end): warpgroup 0 takes its own and the other's in turn, warpgroup 1 both at once while there are
  // two. has_rows: this warp's, as the compiler must know that the warp stays together: see redux_max_u32().
  __device__ __forceinline__ void run(int32_t begin, int32_t end, bool has_rows, const Mask& mask) {
    if (own == 1 && begin + 1 == end) release_queries();
#pragma unroll 1
    for (int32_t tile = begin; tile < end; ++tile) {
      smem.base = ptx::redux_max_u32(smem.base);
      if (own == 0 ? (tile - begin) % 2 == 0 : tile + 1 < end) {
        attend_own(tile + static_cast<int32_t>(own), end, has_rows, mask);
        if (own == 1) ++tile;
      } else {
        attend_other(has_rows);
      }
    }
  }
};

// The work items of the loading warps, one after the other, by both math warpgroups: work(item, rows, phase, index),
// with rows of zeros. Item: load(), is_end(). See MlaSmem::segment().
template <class Item, class Smem, class Work>
__device__ __forceinline__ void for_mla_items(const Smem& smem, const Work& work) {
  Ring<1> ring = smem.q_ring();
  uint32_t phase = 0;
#pragma unroll 1
  for (uint32_t index = 0;; ++index) {
    ring.wait_full();
    Item item;
    item.load(smem.segment(index));
    if (item.is_end()) return;
    MlaRows rows{threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4};
    MlaOutput::clear();
    work(item, rows, phase, index);
    ring.advance();
  }
}

// Whether this warp has any of `count` rows.
__device__ __forceinline__ bool has_mla_rows(const MlaRows& rows, uint32_t count) {
  return ptx::redux_max_u32(rows.row / 16 * 16 < count ? 1 : 0) != 0;
}

// Which keys of a tile there are, one bit each: scores of the others do not count.
__device__ __forceinline__ void mask_absent(float (&s)[mla_keys / 2], uint64_t present) {
  if (present == ~uint64_t{0}) return;
  const uint32_t shift = threadIdx.x % 4 * 2;
#pragma unroll
  for (uint32_t i = 0; i < mla_keys / 2; i += 4) {
    const uint32_t bits = static_cast<uint32_t>(present >> i / 16 * 32) >> shift >> i * 2 % 32;
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j)
      if ((bits >> j % 2 & 1) == 0) s[i + j] = -ptx::infinity();
  }
}

// The sums of both warpgroups' weights, of the work item number `index`.
template <class Smem>
__device__ __forceinline__ void mla_add_sums(const Smem& smem, const MlaRows& rows, uint32_t warpgroup, uint32_t index,
                                             float (&sum)[2]) {
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const float part = row_sum(rows.softmax.sum[i]);
    if (threadIdx.x % 4 == 0) ptx::store_shared_f32(smem.sum(index, warpgroup, rows.row + i * 8), part);
  }
  ptx::named_barrier_sync(MlaBarrier::all, mla_math_threads);
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i)
    sum[i] = ptx::load_shared_f32(smem.sum(index, 0, rows.row + i * 8)) +
             ptx::load_shared_f32(smem.sum(index, 1, rows.row + i * 8));
}

}  // namespace dgrt
