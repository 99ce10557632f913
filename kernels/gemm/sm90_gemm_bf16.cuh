// SM90 gemm_bf16: d[m, n] = sum_k a[m, k] * b[n, k] (+ c[m, n]), bf16 in, fp32 accumulate, bf16 or
// fp32 out.
//
// Roles     last warp (of the last warpgroup), one thread: TMA loads. Math warpgroups: wgmma, one k
//           block in flight while the next is issued, then the store.
// Pipeline  `stages` slots of an a tile and a b tile. full[s]: bytes landed. empty[s]: every math
//           warp of every CTA that the slot's data went to has left it.
// Needs     both operands K-major.
// Source    PTX ISA: wgmma.mma_async, cp.async.bulk.tensor.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"

namespace dgrt::sm90::gemm_bf16 {

// ---- Interface: host and NVRTC ----
struct Params {
  TensorMap a, b;  // [m, k], [n, k]; boxes of 128 bytes of k
  TensorMap d;     // [m, n]; GemmStore::tma only
  GemmOutput out;
  uint32_t num_k_blocks;  // of 64
  uint32_t band;          // see TileWalk
};

constexpr uint32_t block_k = 64;  // elements, two bytes each

// `direct`: see gemm_store.
DGRT_HD constexpr uint32_t smem_bytes(const GemmConfig& c, bool direct) {
  return gemm_smem_bytes(c, gemm_store(c, direct), 0);
}

}  // namespace dgrt::sm90::gemm_bf16

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/store_tile.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/gemm_frame.cuh"
#include "device/pipeline/operands.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/wgmma_bf16.gen.cuh"
#include "device/sched/persistent.cuh"

namespace dgrt::sm90::gemm_bf16 {

template <class Cfg>
constexpr GemmStore store_of = gemm_store(GemmTile<Cfg>::config,
                                          Cfg::d_fp32 || Cfg::with_c || Cfg::ragged_n);
template <class Cfg>
using Smem = GemmSmem<Cfg, store_of<Cfg>, 0>;

template <class Cfg>
__device__ void load(const Params& p, const Smem<Cfg>& smem) {
  constexpr uint32_t bytes = GemmTile<Cfg>::a_bytes + GemmTile<Cfg>::b_bytes;
  Ring<Cfg::stages> ring(smem.barriers());
  TileWalk<Cfg> walk(p.out.m, p.out.n, p.num_k_blocks, 1, p.band);
  while (walk.next()) {
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_empty();
      ptx::mbarrier_arrive_expect_tx(ring.full(), bytes);
      load_operands<Cfg>(&p.a, &p.b, smem.a(ring.slot), smem.b(ring.slot), ring.full(), walk,
                         kb * block_k);
      ring.advance();
    }
  }
}

template <class Cfg>
__device__ void math(const Params& p, const Smem<Cfg>& smem) {
  using Tile = GemmTile<Cfg>;
  using Wgmma = ptx::WgmmaBf16<Tile::y_rows>;
  constexpr bool swap = Cfg::swap_ab;
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t first_slab = warpgroup * Tile::slabs;

  Ring<Cfg::stages> ring(smem.barriers());
  TileWalk<Cfg> walk(p.out.m, p.out.n, p.num_k_blocks, 1, p.band);
  TileStore<Cfg, store_of<Cfg>, Cfg::d_fp32, Cfg::with_c> store(
      &p.d, p.out, smem.staging(), smem.reduction_barriers(), warpgroup);

  bool more = walk.next();
  while (more) {
    float sum[Tile::slabs][Tile::accumulators] = {};
    uint32_t previous = 0;  // empty barrier of the slot whose products may still be running
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_full();
      const uint32_t x = (swap ? smem.b(ring.slot) : smem.a(ring.slot)) +
                         first_slab * gemm_slab_rows * gemm_block_k_bytes;
      const uint32_t y = swap ? smem.a(ring.slot) : smem.b(ring.slot);
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab) keep_all(sum[slab]);
      ptx::wgmma_fence();
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        issue_slab_product<Wgmma>(sum[slab], x + slab * gemm_slab_rows * gemm_block_k_bytes, y,
                                  true);
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
    const TileWalk<Cfg> finished = walk;
    more = walk.next();
    store.store(sum, finished);
  }
  store.finish();
}

template <class Cfg>
__device__ void run(const Params& p) {
  const Smem<Cfg> smem{ptx::dynamic_shared_address()};
  const auto prefetch = [&] {
    ptx::prefetch_tensor_map(&p.a);
    ptx::prefetch_tensor_map(&p.b);
  };
  run_roles<Cfg>(
      smem, prefetch, [&] { load<Cfg>(p, smem); }, [&] { math<Cfg>(p, smem); });
}

}  // namespace dgrt::sm90::gemm_bf16
#endif
