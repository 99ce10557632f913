// Main loop of bf16 and fp16 products: one k block always in flight while the next is issued.
//
// Roles     last warp (of the last warpgroup), one thread: TMA loads. Math warpgroups: products,
//           then the store.
// Pipeline  `stages` slots of an a tile and a b tile. full[s]: bytes landed. empty[s]: every math
//           warp of every CTA that the slot's data went to has left it.
#pragma once
#include "device/epilogue/prefetch_c.cuh"
#include "device/epilogue/store_tile.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/gemm_frame.cuh"
#include "device/pipeline/operands.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/wgmma_bf16.gen.cuh"
#include "device/ptx/wgmma_fp16.gen.cuh"
#include "device/sched/group_maps.cuh"

namespace dgrt {

constexpr uint32_t half_block_k = 64;  // elements, two bytes each

template <int dtype, uint32_t n>
struct HalfWgmma {
  using type = ptx::WgmmaBf16<n>;
};
template <uint32_t n>
struct HalfWgmma<dtype_fp16, n> {
  using type = ptx::WgmmaFp16<n>;
};

// What follows from a config of a 16-bit product.
template <class Cfg>
struct Half {
  using Tile = GemmTile<Cfg>;
  static constexpr GemmStore store = gemm_store(Tile::config, Cfg::direct_d);
  using Smem = GemmSmem<Cfg, store, 0>;
  using Wgmma = typename HalfWgmma<Cfg::dtype_ab, Tile::columns>::type;
  static_assert(Cfg::warpgroups_n == 1, "sums of whole rows need no second slab");
  static constexpr bool x_mn = Cfg::swap_ab ? Cfg::b_mn_major : Cfg::a_mn_major;
  static constexpr bool y_mn = Cfg::swap_ab ? Cfg::a_mn_major : Cfg::b_mn_major;
};

// `built_maps`: of GroupMaps, instead of those in the parameters.
template <class Cfg, class Walk, bool built_maps>
__device__ void half_load(const GemmParams& p, const typename Half<Cfg>::Smem& smem,
                          const GroupMaps& maps) {
  constexpr uint32_t bytes = GemmTile<Cfg>::a_bytes + GemmTile<Cfg>::b_bytes;
  Ring<Cfg::stages> ring(smem.barriers());
  Walk walk(p, 1);
  PrefetchC<Cfg> c{p.out};
  OperandMaps<built_maps> operands(maps);
  while (walk.next()) {
    if constexpr (Walk::prefetches_c) c.enter(walk);
    operands.enter(walk);
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_empty();
      ptx::mbarrier_arrive_expect_tx(ring.full(), bytes);
      load_operands<Cfg>(operands.a, operands.b, smem.a(ring.slot), smem.b(ring.slot), ring.full(),
                         walk, walk.k_block(kb) * half_block_k);
      if constexpr (Walk::prefetches_c) c.advance();
      ring.advance();
    }
  }
}

template <class Cfg, class Walk>
__device__ void half_math(const GemmParams& p, const typename Half<Cfg>::Smem& smem) {
  using Tile = GemmTile<Cfg>;
  using Wgmma = typename Half<Cfg>::Wgmma;
  constexpr bool swap = Cfg::swap_ab;
  // Slabs lie one behind the other in both layouts.
  constexpr uint32_t slab_bytes = gemm_slab_rows * gemm_block_k_bytes;
  static_assert(slab_bytes == mn_block_bytes, "a slab is one block of an MN-major operand");
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t first_slab = Tile::first_slab(warpgroup);

  Ring<Cfg::stages> ring(smem.barriers());
  Walk walk(p, 1);
  TileStore<Cfg, Half<Cfg>::store> store(p, smem.staging(), smem.reduction_barriers(), warpgroup);

  bool more = walk.next();
  while (more) {
    float sum[Tile::slabs][Tile::accumulators] = {};
    uint32_t previous = 0;  // empty barrier of the slot whose products may still be running
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_full();
      const uint32_t x = (swap ? smem.b(ring.slot) : smem.a(ring.slot)) + first_slab * slab_bytes;
      const uint32_t y = swap ? smem.a(ring.slot) : smem.b(ring.slot);
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab) keep_all(sum[slab]);
      ptx::wgmma_fence();
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        issue_slab_product<Wgmma, Half<Cfg>::x_mn, Half<Cfg>::y_mn>(sum[slab],
                                                                    x + slab * slab_bytes, y, true);
      ptx::wgmma_commit();
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab) keep_all(sum[slab]);
      ptx::wgmma_wait<1>();
      if (kb != walk.k_begin) release_slot<Cfg>(previous, walk, lane);
      previous = ring.empty();
      ring.advance();
    }
    ptx::wgmma_wait<0>();
#pragma unroll
    for (uint32_t slab = 0; slab < Tile::slabs; ++slab) keep_all(sum[slab]);
    if (walk.k_begin != walk.k_end) release_slot<Cfg>(previous, walk, lane);

    // The next tile is looked up before the store, which hides it.
    const Walk finished = walk;
    more = walk.next();
    store.store(sum, finished);
  }
  store.finish();
}

// The whole kernel.
template <class Cfg, class Walk, bool built_maps = false>
__device__ void run_half_gemm(const GemmParams& p) {
  static_assert(!built_maps || Cfg::math_warpgroups == 2, "no second warp beside the math");
  using Smem = typename Half<Cfg>::Smem;
  const Smem smem{ptx::dynamic_shared_address()};
  const GroupMaps maps{p, smem.base + Smem::bytes};
  const auto prefetch = [&] {
    if constexpr (built_maps) maps.init();
    ptx::prefetch_tensor_map(&p.a);
    ptx::prefetch_tensor_map(&p.b);
  };
  run_roles<Cfg>(
      smem, prefetch, [&] { half_load<Cfg, Walk, built_maps>(p, smem, maps); },
      [&] { half_math<Cfg, Walk>(p, smem); },
      [&] {
        if constexpr (built_maps) maps.template build<Walk, true>(1);
      });
}

}  // namespace dgrt
