// SM90 gemm_fp8: d[m, n] = sum over blocks of 128 k of a_scale[m, kb] * b_scale[n / 128, kb] * (a . b),
// a and b e4m3, scales fp32, d bf16.
//
// Roles     last warp (of the last warpgroup), one thread: TMA loads. Math warpgroups: wgmma into
//           fresh registers for each 128 of k, then scale and add in fp32 (the tensor core's own
//           sums are narrower than fp32), then the store.
// Pipeline  `stages` slots of a tile, b tile and a's scales. full[s]: bytes landed. empty[s]: every
//           math warp of every CTA that the slot's data went to has left it.
// Needs     e4m3 operands K-major; a_scale MN-major.
// Source    PTX ISA: wgmma.mma_async, cp.async.bulk.tensor. The promotion every 128 of k is
//           DeepSeek-V3's (arXiv 2412.19437, 3.3.2).
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"

namespace dgrt::sm90::gemm_fp8 {

// ---- Interface: host and NVRTC ----
struct Params {
  TensorMap a, b;     // [m, k], [n, k]; boxes of 128 bytes of k
  TensorMap a_scale;  // [k blocks, m]; boxes of one k block
  TensorMap d;        // [m, n]; GemmStore::tma only
  GemmOutput out;
  const float* b_scale;  // [n blocks, k blocks]
  uint64_t b_scale_n_stride, b_scale_k_stride;
  uint32_t num_k_blocks;  // of 128
  uint32_t band;          // see TileWalk
};

constexpr uint32_t block_k = 128;  // elements, one byte each

DGRT_HD constexpr uint32_t smem_bytes(const GemmConfig& c, bool ragged_n) {
  return gemm_smem_bytes(c, gemm_store(c, ragged_n), gemm_a_scale_bytes(c));
}

}  // namespace dgrt::sm90::gemm_fp8

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/store_tile.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/gemm_frame.cuh"
#include "device/pipeline/operands.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/wgmma_e4m3.gen.cuh"
#include "device/sched/persistent.cuh"

namespace dgrt::sm90::gemm_fp8 {

template <class Cfg>
constexpr GemmStore store_of = gemm_store(GemmTile<Cfg>::config, Cfg::ragged_n);
template <class Cfg>
using Smem = GemmSmem<Cfg, store_of<Cfg>, gemm_a_scale_bytes(GemmTile<Cfg>::config)>;

// K blocks that one math warpgroup keeps in flight, for tiles whose accumulators leave room: alone
// it would wait for each product. Tiles are made of whole groups; past k, TMA delivers zeros.
template <class Cfg>
constexpr uint32_t group_size = GemmTile<Cfg>::slabs > 1            ? 1
                                : GemmTile<Cfg>::accumulators <= 16 ? 4
                                : GemmTile<Cfg>::accumulators <= (Cfg::blocks_per_sm == 2 ? 32
                                                                  : Cfg::swap_ab          ? 48
                                                                                          : 64)
                                    ? 2
                                    : 1;

template <class Cfg>
__device__ __forceinline__ TileWalk<Cfg> walk_tiles(const Params& p) {
  return TileWalk<Cfg>(p.out.m, p.out.n, p.num_k_blocks, group_size<Cfg>, p.band);
}

template <class Cfg>
__device__ void load(const Params& p, const Smem<Cfg>& smem) {
  constexpr uint32_t bytes = GemmTile<Cfg>::a_bytes + GemmTile<Cfg>::b_bytes + Cfg::block_m * 4;
  Ring<Cfg::stages> ring(smem.barriers());
  TileWalk<Cfg> walk = walk_tiles<Cfg>(p);
  while (walk.next()) {
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_empty();
      ptx::mbarrier_arrive_expect_tx(ring.full(), bytes);
      load_operands<Cfg>(&p.a, &p.b, smem.a(ring.slot), smem.b(ring.slot), ring.full(), walk,
                         kb * block_k);
      ptx::tma_load_2d(smem.a_scale(ring.slot), &p.a_scale, ring.full(), walk.m_start, kb);
      ring.advance();
    }
  }
}

// b's scales of one tile, spread over the lanes of each warp: lane l holds the k blocks l, l + 32,
// ... counted from k_begin. A tile (or slab) touches at most two rows of them.
struct BlockScales {
  const float* row;  // first scale of the first row
  bool two_rows;     // the second row exists
  uint32_t num;      // k blocks from k_begin to the end of k
  float low, high;

  __device__ BlockScales(const Params& p, uint32_t n_first, uint32_t k_begin)
      : row(p.b_scale + n_first / 128 * p.b_scale_n_stride + k_begin * p.b_scale_k_stride),
        two_rows((n_first / 128 + 1) * 128 < p.out.n),
        num(p.num_k_blocks > k_begin ? p.num_k_blocks - k_begin : 0) {}

  // Requires: idx is a multiple of 32.
  __device__ __forceinline__ void fetch(const Params& p, uint32_t idx, uint32_t lane) {
    const float* at = row + (idx + lane) * p.b_scale_k_stride;
    low = idx + lane < num ? __ldg(at) : 0.0f;
    high = idx + lane < num && two_rows ? __ldg(at + p.b_scale_n_stride) : 0.0f;
  }
};

// What one math warpgroup does to the k blocks of one tile.
template <class Cfg>
struct TileMath {
  using Tile = GemmTile<Cfg>;
  using Wgmma = ptx::WgmmaE4m3<Tile::y_rows>;
  static constexpr bool swap = Cfg::swap_ab;
  static constexpr uint32_t count = Tile::accumulators;
  // Columns of y that share one scale of b: all of them, or half a scale block.
  static constexpr uint32_t chunk = swap ? Tile::y_rows : gemm_store_columns(Cfg::block_n);

  const Params& p;
  const Smem<Cfg>& smem;
  const TileWalk<Cfg>& walk;
  uint32_t first_slab, lane, fragment_row;

  __device__ __forceinline__ void issue(float (&part)[count], uint32_t slot, uint32_t slab) const {
    const uint32_t x_row = (first_slab + slab) * gemm_slab_rows;
    const uint32_t x = (swap ? smem.b(slot) : smem.a(slot)) + x_row * gemm_block_k_bytes;
    keep_all(part);
    ptx::wgmma_fence();
    issue_slab_product<Wgmma>(part, x, swap ? smem.a(slot) : smem.b(slot), false);
    ptx::wgmma_commit();
  }

  // Scales of one k block: read before the wait for its products, used after.
  struct Scales {
    float2 a[swap ? Tile::y_rows / 8 : 1];  // by column of y, or of the thread's two rows
    float low, high;
  };
  __device__ __forceinline__ Scales read_scales(const BlockScales& b, uint32_t slot, uint32_t idx,
                                                uint32_t slab) const {
    Scales scales;
    const uint32_t a_scale = smem.a_scale(slot);
    if constexpr (swap) {
#pragma unroll
      for (uint32_t group = 0; group < Tile::y_rows / 8; ++group)
        scales.a[group] = ptx::load_shared_f32x2(a_scale + (group * 8 + lane % 4 * 2) * 4);
    } else {
      const uint32_t row = a_scale + ((first_slab + slab) * gemm_slab_rows + fragment_row) * 4;
      scales.a[0] = make_float2(ptx::load_shared_f32(row), ptx::load_shared_f32(row + 32));
    }
    scales.low = __shfl_sync(0xffffffff, b.low, idx % 32);
    scales.high = __shfl_sync(0xffffffff, b.high, idx % 32);
    return scales;
  }

  // sum += scales * part.
  __device__ __forceinline__ void add(float (&sum)[count], float (&part)[count],
                                      const Scales& scales, uint32_t slab) const {
    keep_all(part);
    const uint32_t n_block = (walk.n_start + (swap ? first_slab * gemm_slab_rows : 0)) / 128;
    if constexpr (swap) {
      // Rows of the slab are columns of d: one scale of b; a's go by column.
      const bool second = (walk.n_start + (first_slab + slab) * gemm_slab_rows) / 128 != n_block;
      const float b_scale = second ? scales.high : scales.low;
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        sum[i] += (i % 2 ? scales.a[i / 4].y : scales.a[i / 4].x) * b_scale * part[i];
    } else {
#pragma unroll
      for (uint32_t c = 0; c < Tile::y_rows / chunk; ++c) {
        const bool second = (walk.n_start + c * chunk) / 128 != n_block;
        const float b_scale = second ? scales.high : scales.low;
        const float by_row[2] = {scales.a[0].x * b_scale, scales.a[0].y * b_scale};
#pragma unroll
        for (uint32_t i = c * chunk / 2; i < (c + 1) * chunk / 2; ++i)
          sum[i] += by_row[i / 2 % 2] * part[i];
      }
    }
  }

  // sum += the tile's products, a group of k blocks at a time: the products of a group hide each
  // other's latency and all but the last scaled add. Groups of one leave the gaps to the other
  // warpgroup.
  __device__ __forceinline__ void run(float (&sum)[Tile::slabs][count], BlockScales& b,
                                      Ring<Cfg::stages>& ring) const {
    constexpr uint32_t group = group_size<Cfg>;
    static_assert(32 % group == 0, "a group must not straddle a fetch of b's scales");
    for (uint32_t idx = 0; idx < walk.k_end - walk.k_begin; idx += group) {
      if (idx % 32 == 0 && idx != 0) b.fetch(p, idx, lane);
      if constexpr (group == 1) {
        ring.wait_full();
#pragma unroll
        for (uint32_t slab = 0; slab < Tile::slabs; ++slab) {
          float part[count];
          issue(part, ring.slot, slab);
          finish<0>(sum[slab], part, b, idx, slab, ring);
        }
        ring.advance();
      } else {
        float part[group][count];
        Ring<Cfg::stages> done = ring;
#pragma unroll
        for (uint32_t i = 0; i < group; ++i) {
          ring.wait_full();
          issue(part[i], ring.slot, 0);
          ring.advance();
        }
        finish_group<group>(sum[0], part, b, idx, done);
      }
    }
  }

  // Waits for the products of one slab (with `pending` younger ones running) and adds them.
  template <uint32_t pending>
  __device__ __forceinline__ void finish(float (&sum)[count], float (&part)[count],
                                         const BlockScales& b, uint32_t idx, uint32_t slab,
                                         const Ring<Cfg::stages>& at) const {
    const Scales scales = read_scales(b, at.slot, idx, slab);
    ptx::wgmma_wait<pending>();
    if (slab + 1 == Tile::slabs) release_slot<Cfg>(at.empty(), walk, lane);
    add(sum, part, scales, slab);
  }

  template <uint32_t left, uint32_t group>
  __device__ __forceinline__ void finish_group(float (&sum)[count], float (&part)[group][count],
                                               const BlockScales& b, uint32_t idx,
                                               Ring<Cfg::stages>& at) const {
    finish<left - 1>(sum, part[group - left], b, idx + group - left, 0, at);
    at.advance();
    if constexpr (left > 1) finish_group<left - 1>(sum, part, b, idx, at);
  }
};

template <class Cfg>
__device__ void math(const Params& p, const Smem<Cfg>& smem) {
  using Tile = GemmTile<Cfg>;
  constexpr bool swap = Cfg::swap_ab;
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t thread = threadIdx.x % 128, lane = threadIdx.x % 32;
  const uint32_t first_slab = warpgroup * Tile::slabs;

  Ring<Cfg::stages> ring(smem.barriers());
  TileWalk<Cfg> walk = walk_tiles<Cfg>(p);
  const TileMath<Cfg> tile{p, smem, walk, first_slab, lane, thread / 32 * 16 + lane / 4};
  TileStore<Cfg, store_of<Cfg>, false, false> store(&p.d, p.out, smem.staging(),
                                                    smem.reduction_barriers(), warpgroup);
  // The next tile and its first scales are looked up before the store, which hides them.
  const auto scales_of_tile = [&] {
    BlockScales scales(p, walk.n_start + (swap ? first_slab * gemm_slab_rows : 0), walk.k_begin);
    scales.fetch(p, 0, lane);
    return scales;
  };

  bool more = walk.next();
  BlockScales scales = scales_of_tile();
  while (more) {
    float sum[Tile::slabs][Tile::accumulators] = {};
    tile.run(sum, scales, ring);
    const TileWalk<Cfg> finished = walk;
    more = walk.next();
    if (more) scales = scales_of_tile();
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
    ptx::prefetch_tensor_map(&p.a_scale);
  };
  run_roles<Cfg>(
      smem, prefetch, [&] { load<Cfg>(p, smem); }, [&] { math<Cfg>(p, smem); });
}

}  // namespace dgrt::sm90::gemm_fp8
#endif
