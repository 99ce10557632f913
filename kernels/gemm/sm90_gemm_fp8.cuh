// SM90 gemm_fp8: d[m, n] = sum over blocks of 128 k of a_scale[m, kb] * b_scale[n / 128, kb] * (a . b),
// a and b e4m3, scales fp32, d bf16.
// Roles     last warp (of the last warpgroup), one thread: TMA loads. Math warpgroups: wgmma into fresh
//           registers for each 128 of k, then scale and add in fp32 (the tensor core's own sums are
//           narrower than fp32), then the store.
// Pipeline  `stages` slots of a tile, b tile and a's scales. full[s]: bytes landed. empty[s]: every math warp
//           of every CTA that the slot's data went to has left it.
// Needs     e4m3 operands K-major; a_scale MN-major.
// Source    PTX ISA: wgmma.mma_async, cp.async.bulk.tensor. The promotion every 128 of k is DeepSeek-V3's
//           (arXiv 2412.19437, 3.3.2).
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"

namespace dgrt::sm90::gemm_fp8 {

// ---- Interface: host and NVRTC ----
struct Params {
  TensorMap a, b;                           // [m, k], [n, k]; boxes of 128 bytes of k
  TensorMap a_scale;                        // [k blocks, m]; boxes of one k block
  TensorMap d;                              // [m, n]; GemmStore::tma only
  GemmOutput out;
  const float* b_scale;                     // [n blocks, k blocks]
  uint64_t b_scale_n_stride, b_scale_k_stride;
  uint32_t num_k_blocks;                    // of 128
  uint32_t band;                            // see TileWalk
};

constexpr uint32_t block_k = 128;           // elements, one byte each

DGRT_HD constexpr uint32_t smem_bytes(const GemmConfig& c) {
  return gemm_smem_bytes(c, gemm_store(c, false, false), gemm_a_scale_bytes(c));
}

}  // namespace dgrt::sm90::gemm_fp8

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/store_staged.cuh"
#include "device/epilogue/store_tma.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/gemm_frame.cuh"
#include "device/pipeline/operands.cuh"
#include "device/ptx/wgmma_e4m3.gen.cuh"
#include "device/sched/persistent.cuh"

namespace dgrt::sm90::gemm_fp8 {

template <class Cfg>
using Smem = GemmSmem<Cfg, gemm_store(GemmTile<Cfg>::config, false, false),
                      gemm_a_scale_bytes(GemmTile<Cfg>::config)>;

template <class Cfg>
__device__ void load(const Params& p, const Smem<Cfg>& smem) {
  constexpr uint32_t bytes = GemmTile<Cfg>::a_bytes + GemmTile<Cfg>::b_bytes + Cfg::block_m * 4;
  Ring<Cfg::stages> ring(smem.barriers());
  TileWalk<Cfg> walk(p.out.m, p.out.n, p.num_k_blocks, p.band);
  while (walk.next()) {
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_empty();
      ptx::mbarrier_arrive_expect_tx(ring.full(), bytes);
      load_operands<Cfg>(&p.a, &p.b, smem.a(ring.slot), smem.b(ring.slot), ring.full(), walk,
                         kb * block_k);
      ptx::tma_load_2d(ptx::shared_address(smem.a_scale(ring.slot)), &p.a_scale, ring.full(),
                       walk.m_start, kb);
      ring.advance();
    }
  }
}

// b's scales of one tile, spread over the lanes of each warp: lane l holds the k blocks l, l + 32, ...
// counted from k_begin. A tile (or slab) touches at most two rows of them.
template <class Cfg>
struct BlockScales {
  const float* row;  // of the first block of n
  bool two_rows;     // the second exists
  uint32_t k_begin, num;
  float low, high;

  __device__ BlockScales(const Params& p, uint32_t n_first, uint32_t k_begin, uint32_t k_end)
      : row(p.b_scale + n_first / 128 * p.b_scale_n_stride),
        two_rows((n_first / 128 + 1) * 128 < p.out.n),
        k_begin(k_begin),
        num(k_end - k_begin) {}

  __device__ __forceinline__ void fetch(const Params& p, uint32_t idx) {
    const uint32_t mine = idx + threadIdx.x % 32;
    const float* at = row + (k_begin + mine) * p.b_scale_k_stride;
    low = mine < num ? __ldg(at) : 0.0f;
    high = mine < num && two_rows ? __ldg(at + p.b_scale_n_stride) : 0.0f;
  }
};

template <class Cfg>
__device__ void math(const Params& p, const Smem<Cfg>& smem) {
  using Tile = GemmTile<Cfg>;
  using Wgmma = ptx::WgmmaE4m3<Tile::y_rows>;
  constexpr bool swap = Cfg::swap_ab;
  // Columns of y that share one scale of b: all of them, or half a scale block.
  constexpr uint32_t chunk = swap ? Tile::y_rows : gemm_store_columns(Cfg::block_n);
  constexpr uint32_t num_chunks = Tile::y_rows / chunk;
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t thread = threadIdx.x % 128, lane = threadIdx.x % 32;
  const uint32_t first_slab = warpgroup * Tile::slabs;
  const uint32_t fragment_row = thread / 32 * 16 + lane / 4;

  Ring<Cfg::stages> ring(smem.barriers());
  TileWalk<Cfg> walk(p.out.m, p.out.n, p.num_k_blocks, p.band);
  StagedStore<Cfg> staged(smem.staging(), smem.reduction_barriers());
  uint32_t store_buffer = 0;

  while (walk.next()) {
    float sum[Tile::slabs][Tile::accumulators] = {};
    const uint32_t n_first = walk.n_start + (swap ? first_slab * gemm_slab_rows : 0);
    BlockScales<Cfg> scales(p, n_first, walk.k_begin, walk.k_end);
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      const uint32_t idx = kb - walk.k_begin;
      if (idx % 32 == 0) scales.fetch(p, idx);
      ring.wait_full();
      const float* a_scale = smem.a_scale(ring.slot);
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab) {
        const uint32_t x_row = (first_slab + slab) * gemm_slab_rows;
        const uint32_t x = (swap ? smem.b(ring.slot) : smem.a(ring.slot)) + x_row * gemm_block_k_bytes;
        const uint32_t y = swap ? smem.a(ring.slot) : smem.b(ring.slot);
        float part[Tile::accumulators];
        keep_all(part);
        ptx::wgmma_fence();
        issue_slab_product<Wgmma>(part, x, y, false);
        ptx::wgmma_commit();

        const float low = __shfl_sync(0xffffffff, scales.low, idx % 32);
        const float high = __shfl_sync(0xffffffff, scales.high, idx % 32);
        if constexpr (swap) {
          // Rows of the slab are columns of d: one scale of b; a's scale goes by column.
          const bool second = (walk.n_start + x_row) / 128 != n_first / 128;
          const float b_scale = second ? high : low;
          float2 by_column[Tile::y_rows / 8];
#pragma unroll
          for (uint32_t group = 0; group < Tile::y_rows / 8; ++group)
            by_column[group] =
                *reinterpret_cast<const float2*>(a_scale + group * 8 + lane % 4 * 2);
          ptx::wgmma_wait<0>();
          keep_all(part);
          if (slab + 1 == Tile::slabs) release_slot<Cfg>(ring.empty(), walk, lane);
#pragma unroll
          for (uint32_t i = 0; i < Tile::accumulators; ++i)
            sum[slab][i] += (i % 2 ? by_column[i / 4].y : by_column[i / 4].x) * b_scale * part[i];
        } else {
          const float top = a_scale[x_row + fragment_row];
          const float bottom = a_scale[x_row + fragment_row + 8];
          ptx::wgmma_wait<0>();
          keep_all(part);
          if (slab + 1 == Tile::slabs) release_slot<Cfg>(ring.empty(), walk, lane);
#pragma unroll
          for (uint32_t c = 0; c < num_chunks; ++c) {
            const bool second = (walk.n_start + c * chunk) / 128 != n_first / 128;
            const float b_scale = second ? high : low;
            const float scale[2] = {top * b_scale, bottom * b_scale};
#pragma unroll
            for (uint32_t i = c * chunk / 2; i < (c + 1) * chunk / 2; ++i)
              sum[slab][i] += scale[i / 2 % 2] * part[i];
          }
        }
      }
      ring.advance();
    }
    if constexpr (swap) {
      staged.wait_free();
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        staged.write_slab(sum[slab], (first_slab + slab) * gemm_slab_rows, thread);
      staged.template store<false, false>(p.out, walk, threadIdx.x);
    } else {
      constexpr uint32_t buffers_bytes = 2 * gemm_slab_rows * gemm_store_columns(Cfg::block_n) * 2;
#pragma unroll
      for (uint32_t slab = 0; slab < Tile::slabs; ++slab)
        store_slab_tma<Cfg>(sum[slab], &p.d,
                            ptx::shared_address(smem.staging()) + warpgroup * buffers_bytes,
                            store_buffer, walk.m_start + (first_slab + slab) * gemm_slab_rows,
                            walk.n_start, thread, 1 + warpgroup);
    }
  }
  if (!swap && thread == 0) ptx::tma_store_wait_read<0>();
}

template <class Cfg>
__device__ void run(const Params& p) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const Smem<Cfg> smem{shared};
  gemm_start<Cfg>(smem.barriers(), smem.reduction_barriers());
  const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp >= GemmTile<Cfg>::num_math_threads / 32) {
    give_registers<Cfg>();
    if (warp == GemmTile<Cfg>::num_math_threads / 32 && ptx::elect_one()) load<Cfg>(p, smem);
  } else {
    take_registers<Cfg>();
    math<Cfg>(p, smem);
  }
  gemm_finish<Cfg>();
}

}  // namespace dgrt::sm90::gemm_fp8
#endif
