// What the GEMM kernels have in common around their main loops: shared memory, start, roles,
// end.
#pragma once
#include "device/common/gemm_params.cuh"
#include "device/common/gemm_tile.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/cluster.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// Where pieces of dynamic shared memory start. Laid out by offsets computed once here, because the
// number of scale and staging bytes may be zero, which an array member may not.
template <class Cfg, GemmStore store, uint32_t scale_bytes>
struct GemmSmem {
  using Tile = GemmTile<Cfg>;
  static constexpr uint32_t d_bytes = dtype_bytes<Cfg::dtype_d>;
  static constexpr uint32_t b_offset = Cfg::stages * Tile::a_bytes;
  static constexpr uint32_t staging_offset = b_offset + Cfg::stages * Tile::b_bytes;
  static constexpr uint32_t scale_offset =
      staging_offset + align_up(gemm_store_bytes(Tile::config, store, d_bytes), smem_alignment);
  static constexpr uint32_t barrier_offset = scale_offset + Cfg::stages * scale_bytes;
  static constexpr uint32_t bytes =
      align_up(barrier_offset + (2 * Cfg::stages + 2) * 8, smem_alignment);
  static_assert(bytes == gemm_smem_bytes(Tile::config, store, d_bytes, scale_bytes),
                "host and kernel must agree on shared memory");
  static_assert(bytes * Cfg::blocks_per_sm <= sm90_max_smem_bytes, "too much shared memory");

  uint32_t base;  // shared address

  __device__ uint32_t a(uint32_t slot) const { return base + slot * Tile::a_bytes; }
  __device__ uint32_t b(uint32_t slot) const { return base + b_offset + slot * Tile::b_bytes; }
  __device__ uint32_t staging() const { return base + staging_offset; }
  __device__ uint32_t scales(uint32_t slot) const {
    return base + scale_offset + slot * scale_bytes;
  }
  __device__ uint32_t barriers() const { return base + barrier_offset; }
  // Two more, for the split_k reduction.
  __device__ uint32_t reduction_barriers() const { return barriers() + 2 * Cfg::stages * 8; }
};

// One thread, that which loads: whoever makes the barriers need not wait for them.
template <class Cfg>
__device__ __forceinline__ void init_gemm_barriers(uint32_t barriers, uint32_t reduction) {
  using Tile = GemmTile<Cfg>;
  Ring<Cfg::stages>(barriers).init(Tile::num_math_threads / 32 * Tile::multicast_ctas);
  if constexpr (Cfg::split_k > 1) {
    ptx::mbarrier_init(reduction, Cfg::split_k);
    ptx::mbarrier_init(reduction + 8, Cfg::split_k);
  }
  ptx::fence_mbarrier_init();
}

// Barriers are ready when this returns, and in the cluster too if its CTAs write to each other from
// the start (multicast); otherwise cluster_ready() tells. Nothing global was touched before the
// grid dependency. `made_them`: this warp made the barriers.
template <class Cfg>
__device__ __forceinline__ void gemm_start(bool made_them) {
  using Tile = GemmTile<Cfg>;
  constexpr uint32_t start_barrier = 4;  // named; the stores have 1 to 3
  if (made_them)
    ptx::named_barrier_arrive(start_barrier, Tile::num_threads);
  else
    ptx::named_barrier_sync(start_barrier, Tile::num_threads);
  if constexpr (Tile::cluster_size > 1) ptx::cluster_arrive();
  if constexpr (Tile::multicast_ctas > 1) ptx::cluster_wait();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
}

// Waits until every CTA of the cluster has started. Each thread calls it once; a split_k kernel may
// load before it.
template <class Cfg>
__device__ __forceinline__ void cluster_ready() {
  if constexpr (GemmTile<Cfg>::cluster_size > 1 && GemmTile<Cfg>::multicast_ctas == 1)
    ptx::cluster_wait();
}

// No CTA leaves while others of its cluster may still write to its shared memory or read it.
template <class Cfg>
__device__ __forceinline__ void gemm_finish() {
  if constexpr (GemmTile<Cfg>::cluster_size > 1) {
    __syncwarp();
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}

struct NoAssist {
  __device__ void operator()() const {}
};

// The whole kernel: `prefetch` of tensor maps, barriers, then one branch per role. `load` runs in
// one thread of the last warpgroup, `assist` in the warp after that (with two math warpgroups), `math`
// in the others. The branch that stands last comes first in the machine code (NVRTC 13.0): loads, as everyone
// waits for the first of them and a cold kernel's instructions come from memory, too.
template <class Cfg, class Smem, class Prefetch, class Load, class Math, class Assist = NoAssist>
__device__ __forceinline__ void run_roles(const Smem& smem, const Prefetch& prefetch,
                                          const Load& load, const Math& math,
                                          const Assist& assist = {}) {
  // Two math warpgroups take the registers that the loads do not need: 2 * 128 * 232 + 128 * 40
  // stays under 65536.
  constexpr bool move_registers = Cfg::math_warpgroups == 2;
  constexpr uint32_t producer = GemmTile<Cfg>::num_math_threads / 32;
  const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp == producer) {
    if (ptx::elect_one()) {
      prefetch();
      init_gemm_barriers<Cfg>(smem.barriers(), smem.reduction_barriers());
    }
    __syncwarp();
  }
  gemm_start<Cfg>(warp == producer);
  if (warp < producer) {
    if constexpr (move_registers) ptx::setmaxnreg_inc<232>();
    math();
  } else {
    if constexpr (move_registers) ptx::setmaxnreg_dec<40>();
    if (warp == producer && ptx::elect_one()) load();
    if (warp == producer + 1) assist();
    __syncwarp();
    cluster_ready<Cfg>();
  }
  gemm_finish<Cfg>();
}

}  // namespace dgrt
