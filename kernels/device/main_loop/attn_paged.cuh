// Attention of a few queries over a paged cache: o = softmax(q k^T) v for a tile of 64 rows, key tile by key
// tile. Bound by memory. Up to 16 rows: attn_paged_teams.cuh.
//
// Roles     all threads gather the next tiles by cp.async, then compute; two CTAs on an SM, where shared
//           memory allows, take turns by themselves. With split_v, two warpgroups compute the same scores
//           and hold half of o's columns each (head sizes whose o would not fit in registers).
// Pipeline  `stages` slots of keys and values; tiles of the next unit are on their way while a unit ends.
// 8 bits    a thread makes 16 bits of what it loaded itself: values while the scores are computed, the next
//           tile's keys while the output is. One tile of 16 bits is enough then.
// Split     key_split.cuh says which keys; attn_parts.cuh adds up what was split. With Cfg::cluster nothing is:
//           key_cluster.cuh, clusters of one CTA.
#pragma once
#include "device/main_loop/attn_parts.cuh"
#include "device/main_loop/paged_load.cuh"
#include "device/main_loop/paged_rows.cuh"
#include "device/mma/attn_product.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"
#include "device/sched/key_cluster.cuh"

namespace dgrt {

template <class Cfg>
struct AttnPagedSmem {
  static constexpr AttnPagedConfig config{Cfg::block_m, Cfg::block_n,  Cfg::head_dim_qk, Cfg::head_dim_v, Cfg::stages,
                                          Cfg::split_v, Cfg::kv_bytes, Cfg::ctas_per_sm, Cfg::cluster};
  static constexpr uint32_t q_bytes = attn_paged_q_bytes(config);
  static constexpr uint32_t k_tile_bytes = attn_tile_bytes(Cfg::block_n, Cfg::head_dim_qk);
  static constexpr uint32_t k_bytes = Cfg::kv_bytes == 1 ? Cfg::block_n * Cfg::head_dim_qk : k_tile_bytes;
  static constexpr uint32_t stage_bytes = attn_paged_stage_bytes(config);
  static constexpr uint32_t slots_offset = q_bytes + attn_paged_upcast_bytes(config);
  static constexpr uint32_t scratch_offset = slots_offset + Cfg::stages * stage_bytes;
  static constexpr uint32_t q_box = Cfg::block_m * attn_row_bytes;
  static constexpr uint32_t k_box = Cfg::block_n * attn_row_bytes;
  static constexpr uint32_t columns = Cfg::head_dim_v / Cfg::split_v;  // of o, per warpgroup
  static constexpr uint32_t num_threads = 128 * Cfg::split_v;

  uint32_t base;

  __device__ uint32_t q() const { return base; }
  __device__ uint32_t upcast_k() const { return base + q_bytes; }
  __device__ uint32_t upcast_v() const { return upcast_k() + k_tile_bytes; }
  __device__ uint32_t k(uint32_t slot) const { return base + slots_offset + slot * stage_bytes; }
  __device__ uint32_t v(uint32_t slot) const { return k(slot) + k_bytes; }
  __device__ uint32_t scratch() const { return base + scratch_offset; }
};

template <class Cfg>
struct AttnPaged {
  using Smem = AttnPagedSmem<Cfg>;
  using Wgmma = typename AttnWgmma<Cfg::dtype, Cfg::block_n>::Scores;
  using OutputWgmma = typename AttnWgmma<Cfg::dtype, Smem::columns>::Output;

  const AttnPagedParams& p;
  const Smem smem;
  uint32_t warpgroup, row;  // row: this thread's first of the tile; the other is 8 below
  uint32_t slot = 0, load_slot = Cfg::stages - 1;  // the loader's first call loads nothing
  float s[Cfg::block_n / 2];
  float o[Smem::columns / 2];
  uint32_t weights[Cfg::block_n / 4] = {};

  __device__ AttnPaged(const AttnPagedParams& p, const Smem& smem)
      : p(p),
        smem(smem),
        warpgroup(__shfl_sync(0xffffffff, threadIdx.x / 128, 0)),
        row(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4) {}

  __device__ static uint32_t after(uint32_t slot) { return slot + 1 == Cfg::stages ? 0 : slot + 1; }

  template <class Loader>
  __device__ __forceinline__ void issue_load(Loader& loader) {
    loader.issue(smem.k(load_slot), smem.v(load_slot));
    load_slot = after(load_slot);
  }

  __device__ __forceinline__ void begin_scores(uint32_t k) {
    keep_all(s);
    ptx::wgmma_fence();
    issue_scores<Wgmma, Cfg::head_dim_qk>(s, smem.q(), Smem::q_box, k, Smem::k_box);
    ptx::wgmma_commit();
    keep_all(s);
  }

  // Waits for the scores of a tile, whose first key is `first`, and makes weights of them.
  __device__ __forceinline__ void weigh(int32_t first, bool has_rows, const PagedMask& mask,
                                        const MaskReader<Cfg>& given, const PagedScales& scales,
                                        OnlineSoftmax& softmax) {
    ptx::wgmma_wait<0>();
    keep_all(s);
    if (has_rows) {
      float rescale[2];
      if constexpr (Cfg::softcap)
#pragma unroll
        for (float& x : s) x = tanh_f32(x * scales.cap);
      mask.apply(p, s, row, first);
      given.apply(s, first);
      softmax.update(s, scales.logit, rescale);
#pragma unroll
      for (uint32_t i = 0; i < Smem::columns / 2; ++i) o[i] *= rescale[i / 2 % 2];
      pack_scores<Cfg::dtype>(weights, s);
    }
  }

  __device__ __forceinline__ void begin_output(uint32_t v) {
    keep_all(o);
    ptx::wgmma_fence();
    issue_output<OutputWgmma, Cfg::block_n>(
        o, weights, v + warpgroup * (Smem::columns / attn_box_columns) * Smem::k_box);
    ptx::wgmma_commit();
    keep_all(o);
  }

  __device__ __forceinline__ void wait_output() {
    ptx::wgmma_wait<0>();
    keep_all(o);
  }

  // The tile in `slot`.
  template <class Loader>
  __device__ __forceinline__ void attend(Loader& loader, int32_t first, bool has_rows, const PagedMask& mask,
                                         const MaskReader<Cfg>& given, const PagedScales& scales,
                                         OnlineSoftmax& softmax) {
    ptx::copy_async_wait<Cfg::stages - 2>();
    ptx::fence_proxy_async();
    __syncthreads();
    issue_load(loader);
    begin_scores(smem.k(slot));
    weigh(first, has_rows, mask, given, scales, softmax);
    begin_output(smem.v(slot));
    wait_output();
    slot = after(slot);
  }

  // The same with 8 bits, where upcast_next_keys() has dealt with the tile's keys.
  template <class Loader>
  __device__ __forceinline__ void attend_upcast(Loader& loader, int32_t first, bool has_rows,
                                                const PagedMask& mask, const MaskReader<Cfg>& given,
                                                const PagedScales& scales, OnlineSoftmax& softmax) {
    ptx::fence_proxy_async();
    __syncthreads();  // all threads' keys are there, and all warps are done with the values before
    issue_load(loader);
    begin_scores(smem.upcast_k());
    upcast_tile<Cfg, Smem::num_threads, Cfg::head_dim_v>(smem.v(slot), smem.upcast_v());
    slot = after(slot);
    weigh(first, has_rows, mask, given, scales, softmax);
    ptx::fence_proxy_async();
    __syncthreads();
    begin_output(smem.upcast_v());
    upcast_next_keys();
    wait_output();
  }

  __device__ __forceinline__ void upcast_next_keys() {
    ptx::copy_async_wait<Cfg::stages - 2>();
    upcast_tile<Cfg, Smem::num_threads, Cfg::head_dim_qk>(smem.k(slot), smem.upcast_k());
  }

  __device__ __forceinline__ void finish(const KeySegment& segment, const PagedScales& scales,
                                         const OnlineSoftmax& softmax) const {
    float sum[2], most[2];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      sum[i] = row_sum(softmax.sum[i]);
      most[i] = softmax.max[i] * scales.logit;
    }
    if constexpr (Cfg::cluster > 0) {
      store_tile<Cfg>(p, segment, row, warpgroup * Smem::columns, o, {sum, most, scales.value});
    } else {
      store_tile_or_part<Cfg>(p, segment, row, warpgroup * Smem::columns, o, {sum, most, scales.value});
      if (segment.parts > 1) gather_parts<Cfg, Smem::num_threads>(p, segment, smem.scratch());
    }
  }

  __device__ __forceinline__ void run() {
    if constexpr (Cfg::cluster == 0)
      run(KeyWalk<Cfg>(p, find_range<Cfg, Smem::num_threads>(p, smem.scratch())));
    else
      run(ClusterWalk<Cfg>(p));
  }

  template <class Walk>
  __device__ __forceinline__ void run(const Walk& walk) {
    PagedLoader<Cfg, Smem::num_threads, Walk> loader(p, walk, smem.scratch() + attn_paged_scratch_bytes);
#pragma unroll 1
    for (uint32_t i = 0; i < Cfg::stages; ++i) issue_load(loader);
    if constexpr (Cfg::kv_bytes == 1) upcast_next_keys();
#pragma unroll 1
    for (uint32_t index = 0; index < loader.num_segments(); ++index) {
      __syncthreads();  // the segment is there; nobody reads the queries of the one before
      KeySegment segment;
      segment.load(loader.segment_at(index));
      const PagedMask mask(p, segment);
      MaskReader<Cfg> given = given_mask<Cfg>(p, segment, row);
      PagedScales scales(p);
      if constexpr (Cfg::kv_bytes == 1) scales.template add_head<Cfg::softcap>(p, segment.kv_head);
      // Here and in finish() the compiler must know that the warp stays together: else every shuffle that
      // follows exists a second time, for when it does not.
      const bool has_rows = ptx::redux_max_u32(row / 16 * 16 < segment.tokens(p) * p.tile_heads ? 1 : 0) != 0;
      OnlineSoftmax softmax;
#pragma unroll
      for (float& x : o) x = 0.0f;
      load_queries<Cfg, Smem::num_threads>(p, segment, smem.q());
#pragma unroll 1
      for (int32_t tile = segment.begin; tile < segment.end; ++tile) {
        const int32_t first = tile * static_cast<int32_t>(Cfg::block_n);
        if (has_rows) given.load(first);  // while the tile's keys are still on their way
        if constexpr (Cfg::kv_bytes == 1)
          attend_upcast(loader, first, has_rows, mask, given, scales, softmax);
        else
          attend(loader, first, has_rows, mask, given, scales, softmax);
      }
      segment.load(loader.segment_at(index));  // again: no registers for it meanwhile
      finish(segment, scales, softmax);
    }
  }
};

// The whole kernel. Cfg: block_m, block_n, head_dim_qk, head_dim_v, stages, split_v, dtype, kv_bytes,
// softcap, invariant, mask, mask_skip_prefix, check_pages, new_keys, row_lanes, cluster.
template <class Cfg>
__device__ void run_attn_paged(const AttnPagedParams& p) {
  using Smem = AttnPagedSmem<Cfg>;
  static_assert(Cfg::block_m == 64, "rows of one product");
  static_assert(Cfg::cluster <= 1, "parts do not meet in shared memory");
  static_assert(Cfg::block_n % 16 == 0 && Cfg::stages >= 2, "whole steps; a tile is loaded while one is used");
  static_assert(Cfg::head_dim_qk % 16 == 0 && Smem::columns % 32 == 0, "whole steps, whole stores");
  static_assert(Cfg::split_v == 1 || Smem::columns % attn_box_columns == 0, "parts of v are whole boxes");
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  check_table<Cfg>(p);
  AttnPaged<Cfg>(p, Smem{ptx::dynamic_shared_address()}).run();
}

}  // namespace dgrt
