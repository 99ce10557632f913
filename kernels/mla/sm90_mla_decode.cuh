// SM90 mla_decode: attention in a latent space over a paged cache of bf16, fp16 or e4m3, in which a row is key and
// value of all heads that share it: decode and speculative verify.
//   s = scale q k^T; o = softmax(s) v, v the first 512 columns of k
//
// Rows      (token, query head) pairs of a sequence, 64 to a tile, as in attn_decode.
// Roles     warpgroups 0 and 1: math. One warp loads keys, one queries; of an e4m3 cache four do both, and make it
//           16 bits.
// Split     key_split.cuh says which keys a CTA takes; attn_parts.cuh adds up what was split.
#pragma once
#include "device/common/mla_tile.cuh"

namespace dgrt::sm90::mla_decode {

// ---- Interface: host and NVRTC ----
using Params = MlaParams;

}  // namespace dgrt::sm90::mla_decode

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/ptx/grid.cuh"
#include "mla/mla_load.cuh"
#include "device/main_loop/mla_paged.cuh"
#include "mla/mla_upcast.cuh"

namespace dgrt::sm90::mla_decode {

// Cfg: block_m, block_n, head_dim_qk, head_dim_v, dtype, q_bytes, kv_bytes, invariant, new_keys, row_lanes.
template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_m == mla_rows && Cfg::block_n == mla_keys, "tiles are 64 rows and 64 keys");
  static_assert(Cfg::head_dim_qk == mla_head_dim_qk && Cfg::head_dim_v == mla_head_dim_v, "DeepSeek's latent rows");
  static_assert(Cfg::q_bytes == 2 || Cfg::kv_bytes == 1, "e4m3 queries are for an e4m3 cache");
  constexpr bool upcasts = Cfg::kv_bytes == 1;
  declare_mla_products();
  const MlaSmem smem{ptx::dynamic_shared_address()};
  if (threadIdx.x == 0) {
    if constexpr (upcasts)
      smem.init_barriers(MlaUpcastLoader<Cfg>::num_threads, MlaUpcastLoader<Cfg>::box_fills);
    else
      smem.init_barriers(1, MlaKeyLoader<Cfg>::box_fills);
    ptx::fence_mbarrier_init();
  }
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const EvenShare range = find_range<Cfg, mla_num_threads, PagedSequence<Cfg>, mla_range_slack>(
      p, smem.scratch(), mla_least_range(p.tile_heads));
  const uint32_t warp = ptx::redux_max_u32(threadIdx.x / 32);
  if (warp >= mla_math_threads / 32) {
    ptx::setmaxnreg_dec<upcasts ? 88 : 56>();
    if constexpr (upcasts)
      MlaUpcastLoader<Cfg>(p, smem, range, warp - mla_math_threads / 32).run();
    else if (warp == mla_math_threads / 32)
      MlaKeyLoader<Cfg>(p, smem, range).run();
    else if (warp == mla_math_threads / 32 + 1)
      MlaQueryLoader<Cfg>(p, smem, range).run();
  } else {
    constexpr uint32_t registers = upcasts ? 208 : 224;
    ptx::setmaxnreg_inc<registers>();
    mla_compute<Cfg, MlaPagedMask, registers>(p, smem, warp / 4);
  }
}

}  // namespace dgrt::sm90::mla_decode
#endif
