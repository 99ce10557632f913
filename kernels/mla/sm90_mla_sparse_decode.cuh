// SM90 mla_sparse_decode: attention in a latent space over lists of slots of quantised, paged caches, in which a
// row is key and value of all heads: sparse decode of DeepSeek-V3.2 and V4.
//   s = scale q k^T; o = softmax(s) v, v the first 512 columns of k
//
// Rows      The query heads of one token, 64 to a tile: tokens' lists differ.
// Roles     warpgroups 0 and 1: math, as in mla_decode. Warpgroup 2 gathers rows, converts them, and fetches queries.
// Clusters  The two CTAs of a cluster have neighbouring row tiles of one token, and the same share of its list: each
//           gathers and converts half of the rows of a tile, and sends them on to the other's shared memory.
// Split     key_split.cuh says which entries of lists a CTA takes; attn_parts.cuh adds up what was split.
// Source    The division of labour, between roles and between two CTAs, is FlashMLA's (deepseek-ai/FlashMLA:
//           docs/20250929-hopper-fp8-sparse-deep-dive.md); the conversion, how loads are kept on their way, and that
//           rows are sent on by bulk copies are ours.
#pragma once
#include "mla/mla_sparse_tile.cuh"

namespace dgrt::sm90::mla_sparse_decode {

// ---- Interface: host and NVRTC ----
using Params = MlaSparseParams;

}  // namespace dgrt::sm90::mla_sparse_decode

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/ptx/grid.cuh"
#include "mla/mla_sparse_load.cuh"

namespace dgrt::sm90::mla_sparse_decode {

// Cfg: block_m, block_n, cluster, head_dim_qk, head_dim_v, format, dtype, q_bytes (2), invariant, new_keys, row_lanes.
template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_m == mla_rows && Cfg::block_n == mla_keys, "tiles are 64 rows and 64 keys");
  static_assert(Cfg::head_dim_v == mla_head_dim_v, "DeepSeek's latent rows");
  static_assert(Cfg::cluster == 1 || Cfg::cluster == 2, "a CTA sends its rows to one other");
  declare_mla_products();
  const MlaSparseSmem<Cfg> smem{ptx::dynamic_shared_address()};
  if (threadIdx.x == 0) {
    smem.init_barriers();
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(&p.q_map);
  }
  if constexpr (Cfg::cluster > 1) ptx::cluster_arrive_relaxed();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const EvenShare range =
      find_range<Cfg, mla_num_threads, ListSequence<Cfg>, mla_range_slack>(p, smem.scratch());
  if constexpr (Cfg::cluster > 1) ptx::cluster_wait();  // its barriers are there
  const uint32_t warp = ptx::redux_max_u32(threadIdx.x / 32);
  if (warp >= mla_math_threads / 32) {
    ptx::setmaxnreg_dec<88>();  // 2 * 128 * 208 + 128 * 88 are the 384 * 168 of the start: with more, none would begin
    LatentGather<Cfg>(p, smem, range).run();
  } else {
    ptx::setmaxnreg_inc<208>();
    mla_compute<Cfg, MlaListedMask<Cfg>, 208, true>(p, smem, warp / 4);
  }
}

}  // namespace dgrt::sm90::mla_sparse_decode
#endif
