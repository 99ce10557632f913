// Main loop of e4m3 products: per k block of 128, wgmma into fresh registers, then scale and add in
// fp32 (the tensor core's own sums are narrower than fp32).
//
// Roles     last warp (of the last warpgroup), one thread: TMA loads. Math warpgroups: products,
//           scaled adds, store.
// Pipeline  `stages` slots of a tile, b tile and their scales. full[s]: bytes landed. empty[s]:
//           every math warp of every CTA that the slot's data went to has left it.
#pragma once
#include "device/epilogue/prefetch_c.cuh"
#include "device/epilogue/store_tile.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/gemm_frame.cuh"
#include "device/pipeline/operands.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/wgmma_e4m3.gen.cuh"
#include "device/sched/group_maps.cuh"

namespace dgrt {

constexpr uint32_t fp8_block_k = 128;    // elements, one byte each
constexpr uint32_t scales_fetched = 32;  // b's scales of so many k blocks at once, one per lane

// What follows from a config of an e4m3 product.
template <class Cfg>
struct Fp8 {
  using Tile = GemmTile<Cfg>;
  static constexpr bool swap = Cfg::swap_ab;
  // scale_channel applies its scales to the finished sums.
  static constexpr bool scale_per_block = Cfg::scale_mode != scale_channel;
  static constexpr bool b_by_row = Cfg::scale_mode == scale_row;
  static constexpr GemmStore store = gemm_store(Tile::config, Cfg::direct_d);
  static constexpr uint32_t a_scale_bytes = gemm_scale_bytes(Tile::config, scale_per_block, false);
  static constexpr uint32_t scale_bytes = gemm_scale_bytes(Tile::config, scale_per_block, b_by_row);
  using Smem = GemmSmem<Cfg, store, scale_bytes>;

  // K blocks that one math warpgroup keeps in flight, for tiles whose accumulators leave room:
  // alone it would wait for each product. Tiles are made of whole groups; past k, TMA delivers
  // zeros.
  static constexpr uint32_t group_size = Tile::slabs > 1            ? 1
                                         : Tile::accumulators <= 16 ? 4
                                         : Tile::accumulators <= (Cfg::blocks_per_sm == 2 ? 32
                                                                  : swap || b_by_row      ? 48
                                                                                          : 64)
                                             ? 2
                                             : 1;
  // Copies of the loop's body: a second one makes tiles without groups up to 3 % faster, a third and
  // fourth nothing. Each costs compile time, so that scales by column, which gain nothing from it, and
  // the slower stores go without.
  static constexpr uint32_t unroll = group_size > 1 || store != GemmStore::tma || b_by_row ? 1 : 2;
  // Can a tile touch a second row of b's scales?
  static constexpr bool two_rows =
      128 % (swap ? Cfg::block_n / Cfg::math_warpgroups : Tile::columns) != 0;
};

// `built_maps`: of GroupMaps, instead of those in the parameters.
template <class Cfg, class Walk, bool built_maps>
__device__ void fp8_load(const GemmParams& p, const typename Fp8<Cfg>::Smem& smem,
                         const GroupMaps& maps) {
  using Tile = GemmTile<Cfg>;
  constexpr uint32_t bytes = Tile::a_bytes + Tile::b_bytes +
                             (Fp8<Cfg>::scale_per_block ? Cfg::block_m * 4 : 0) +
                             (Fp8<Cfg>::b_by_row ? Cfg::block_n * 4 : 0);
  Ring<Cfg::stages> ring(smem.barriers());
  Walk walk(p, Fp8<Cfg>::group_size);
  PrefetchC<Cfg> c{p.out};
  OperandMaps<built_maps> operands(maps);
  while (walk.next()) {
    if constexpr (Walk::prefetches_c) c.enter(walk);
    operands.enter(walk);
    for (uint32_t kb = walk.k_begin; kb < walk.k_end; ++kb) {
      ring.wait_empty();
      ptx::mbarrier_arrive_expect_tx(ring.full(), bytes);
      load_operands<Cfg>(operands.a, operands.b, smem.a(ring.slot), smem.b(ring.slot), ring.full(),
                         walk, kb * fp8_block_k);
      const uint32_t scales = smem.scales(ring.slot);
      if constexpr (Fp8<Cfg>::scale_per_block)
        load_box<Walk::a_grouped, false>(scales, &p.a_scale, ring.full(), walk.m_start,
                                         walk.scale_row(kb), walk.group, 0);
      if constexpr (Fp8<Cfg>::b_by_row)
        load_box<Walk::b_grouped, false>(scales + Fp8<Cfg>::a_scale_bytes, &p.b_scale, ring.full(),
                                         walk.n_start, walk.scale_row(kb), walk.group, 0);
      if constexpr (Walk::prefetches_c) c.advance();
      ring.advance();
    }
  }
}

// scale_block: b's scales of one tile, spread over the lanes of each warp: lane l holds the k blocks
// l, l + 32, ... counted from k_begin. A tile (or slab) touches at most two rows of them.
struct BlockScales {
  const float* row;  // first scale of the first row
  bool two_rows;     // the second row exists
  uint32_t num;      // k blocks from k_begin to the end of k
  float low, high;

  __device__ BlockScales(const GemmParams& p, uint32_t group, uint32_t n_first, uint32_t k_begin)
      : row(p.scales.b + group * p.scales.b_group_stride + n_first / 128 * p.scales.b_n_stride +
            k_begin * p.scales.b_k_stride),
        two_rows((n_first / 128 + 1) * 128 < p.out.n),
        num(p.num_k_blocks > k_begin && n_first < p.out.n ? p.num_k_blocks - k_begin : 0) {}

  // Requires: idx is a multiple of scales_fetched.
  __device__ __forceinline__ void fetch(const GemmParams& p, uint32_t idx, uint32_t lane) {
    const float* at = row + (idx + lane) * p.scales.b_k_stride;
    low = idx + lane < num ? __ldg(at) : 0.0f;
    high = idx + lane < num && two_rows ? __ldg(at + p.scales.b_n_stride) : 0.0f;
  }
};

// What one math warpgroup does to the k blocks of one tile.
template <class Cfg, class Walk>
struct Fp8TileMath {
  using Tile = GemmTile<Cfg>;
  using Wgmma = ptx::WgmmaE4m3<Tile::columns>;
  using Smem = typename Fp8<Cfg>::Smem;
  static constexpr bool swap = Cfg::swap_ab;
  static constexpr uint32_t count = Tile::accumulators;
  // Columns of y that share one scale of b: all of them, or half a scale block.
  static constexpr uint32_t chunk = swap ? Tile::columns : gemm_store_columns(Cfg::block_n, 2);

  const GemmParams& p;
  const Smem& smem;
  const Walk& walk;
  uint32_t first_slab, first_column, lane, fragment_row;
  uint64_t x, y;  // descriptors of the warpgroup's part of slot 0

  __device__ __forceinline__ Fp8TileMath(const GemmParams& p, const Smem& smem, const Walk& walk,
                                         uint32_t warpgroup)
      : p(p),
        smem(smem),
        walk(walk),
        first_slab(Tile::first_slab(warpgroup)),
        first_column(Tile::first_column(warpgroup)),
        lane(threadIdx.x % 32),
        fragment_row(threadIdx.x % 128 / 32 * 16 + lane / 4),
        x(operand_descriptor<false>((swap ? smem.b(0) : smem.a(0)) +
                                    first_slab * gemm_slab_rows * gemm_block_k_bytes)),
        y(operand_descriptor<false>((swap ? smem.a(0) : smem.b(0)) +
                                    first_column * gemm_block_k_bytes)) {}

  __device__ __forceinline__ void issue(float (&part)[count], uint32_t slot, uint32_t slab) const {
    // Descriptors count 16 bytes.
    constexpr uint32_t x_bytes = swap ? Tile::b_bytes : Tile::a_bytes;
    constexpr uint32_t y_bytes = swap ? Tile::a_bytes : Tile::b_bytes;
    constexpr uint32_t slab_bytes = gemm_slab_rows * gemm_block_k_bytes;
    keep_all(part);
    ptx::wgmma_fence();
    issue_described_product<Wgmma>(part, x + slot * (x_bytes / 16) + slab * (slab_bytes / 16),
                                   y + slot * (y_bytes / 16), false);
    ptx::wgmma_commit();
  }

  // Scales of one k block: read before the wait for its products, used after.
  struct Scales {
    float2 x, y[Tile::columns / 8];  // of the thread's two rows of x, and of its columns of y
    float low, high;                 // scale_block: of b
  };
  __device__ __forceinline__ Scales read_scales(const BlockScales& b, uint32_t slot, uint32_t idx,
                                                uint32_t slab) const {
    if constexpr (!Fp8<Cfg>::scale_per_block) return Scales{};
    Scales scales;
    const uint32_t of_a = smem.scales(slot), of_b = of_a + Fp8<Cfg>::a_scale_bytes;
    if constexpr (Fp8<Cfg>::b_by_row || swap) {
#pragma unroll
      for (uint32_t group = 0; group < Tile::columns / 8; ++group)
        scales.y[group] = ptx::load_shared_f32x2((swap ? of_a : of_b) +
                                                 (first_column + group * 8 + lane % 4 * 2) * 4);
    }
    if constexpr (Fp8<Cfg>::b_by_row || !swap) {
      const uint32_t row =
          (swap ? of_b : of_a) + ((first_slab + slab) * gemm_slab_rows + fragment_row) * 4;
      scales.x = make_float2(ptx::load_shared_f32(row), ptx::load_shared_f32(row + 32));
    }
    if constexpr (Cfg::scale_mode == scale_block) {
      scales.low = __shfl_sync(0xffffffff, b.low, idx);
      if constexpr (Fp8<Cfg>::two_rows) scales.high = __shfl_sync(0xffffffff, b.high, idx);
    }
    return scales;
  }

  // sum += scales * part.
  __device__ __forceinline__ void add(float (&sum)[count], float (&part)[count],
                                      const Scales& scales, uint32_t slab) const {
    keep_all(part);
    if constexpr (!Fp8<Cfg>::scale_per_block) {
#pragma unroll
      for (uint32_t i = 0; i < count; ++i) sum[i] += part[i];
    } else if constexpr (Fp8<Cfg>::b_by_row) {
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        sum[i] += (i / 2 % 2 ? scales.x.y : scales.x.x) *
                  (i % 2 ? scales.y[i / 4].y : scales.y[i / 4].x) * part[i];
    } else if constexpr (swap) {
      // Rows of the slab are columns of d: one scale of b; a's go by column.
      const uint32_t n_block = (walk.n_start + first_slab * gemm_slab_rows) / 128;
      const bool second = Fp8<Cfg>::two_rows &&
                          (walk.n_start + (first_slab + slab) * gemm_slab_rows) / 128 != n_block;
      const float b_scale = second ? scales.high : scales.low;
#pragma unroll
      for (uint32_t i = 0; i < count; ++i)
        sum[i] += (i % 2 ? scales.y[i / 4].y : scales.y[i / 4].x) * b_scale * part[i];
    } else {
      const uint32_t n_first = walk.n_start + first_column, n_block = n_first / 128;
#pragma unroll
      for (uint32_t c = 0; c < Tile::columns / chunk; ++c) {
        const bool second = Fp8<Cfg>::two_rows && (n_first + c * chunk) / 128 != n_block;
        const float b_scale = second ? scales.high : scales.low;
        const float by_row[2] = {scales.x.x * b_scale, scales.x.y * b_scale};
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
    constexpr uint32_t group = Fp8<Cfg>::group_size;
    static_assert(scales_fetched % group == 0, "a group must not straddle a fetch of b's scales");
    const uint32_t num = walk.k_end - walk.k_begin;
    bool is_full = false;
    for (uint32_t first = 0; first < num; first += scales_fetched) {
      if constexpr (Cfg::scale_mode == scale_block)
        if (first != 0) b.fetch(p, first, lane);
      const uint32_t left = num - first;
      const uint32_t end = left < scales_fetched ? left : scales_fetched;
#pragma unroll Fp8 < Cfg> ::unroll
      for (uint32_t idx = 0; idx < end; idx += group) {
        if constexpr (group == 1) {
          run_one(sum, b, idx, ring, is_full);
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
  }

  // Has the slab a row of d? Groups end anywhere in a tile; what lies past m in other walks is not
  // worth asking for.
  __device__ __forceinline__ bool is_live(uint32_t slab) const {
    return !Walk::ends_within || swap ||
           walk.m_start + (first_slab + slab) * gemm_slab_rows < walk.m_end;
  }

  // One k block. A slab's scales are read before its products are issued: what is read later delays
  // the other warpgroup's turn. `is_full`: of its slot, as far as is known; whether the next one is
  // gets asked before the scaled add, whose many instructions hide how long the answer takes.
  __device__ __forceinline__ void run_one(float (&sum)[Tile::slabs][count], const BlockScales& b,
                                          uint32_t idx, Ring<Cfg::stages>& ring,
                                          bool& is_full) const {
    if (!is_full) ring.wait_full();
#pragma unroll
    for (uint32_t slab = 0; slab < Tile::slabs; ++slab) {
      if (slab > 0 && !is_live(slab)) break;
      const Scales scales = read_scales(b, ring.slot, idx, slab);
      float part[count];
      issue(part, ring.slot, slab);
      ptx::wgmma_wait<0>();
      if (slab + 1 == Tile::slabs || !is_live(slab + 1)) {
        release_slot<Cfg>(ring.empty(), walk, lane);
        ring.advance();
        is_full = ring.is_full();
      }
      add(sum[slab], part, scales, slab);
    }
  }

  // Waits for the products of one k block of a group, with `left` - 1 younger ones running, and adds
  // them.
  template <uint32_t left, uint32_t group>
  __device__ __forceinline__ void finish_group(float (&sum)[count], float (&part)[group][count],
                                               const BlockScales& b, uint32_t idx,
                                               Ring<Cfg::stages>& at) const {
    const Scales scales = read_scales(b, at.slot, idx + group - left, 0);
    ptx::wgmma_wait<left - 1>();
    release_slot<Cfg>(at.empty(), walk, lane);
    add(sum, part[group - left], scales, 0);
    at.advance();
    if constexpr (left > 1) finish_group<left - 1>(sum, part, b, idx, at);
  }

  // scale_channel: the finished sums by a's and b's scales.
  __device__ __forceinline__ void scale_sums(float (&sum)[Tile::slabs][count]) const {
    const auto of_a = [&](uint32_t row) {
      return row < walk.m_end ? ptx::load_stream_f32(p.scales.a + row * p.scales.a_stride) : 0.0f;
    };
    const auto of_b = [&](uint32_t row) {
      return row < p.out.n ? ptx::load_stream_f32(p.scales.b + row * p.scales.b_n_stride) : 0.0f;
    };
#pragma unroll
    for (uint32_t slab = 0; slab < Tile::slabs; ++slab) {
      const uint32_t x_row = (first_slab + slab) * gemm_slab_rows + fragment_row;
      const float x[2] = {swap ? of_b(walk.n_start + x_row) : of_a(walk.m_start + x_row),
                          swap ? of_b(walk.n_start + x_row + 8) : of_a(walk.m_start + x_row + 8)};
#pragma unroll
      for (uint32_t i = 0; i < count; ++i) {
        const uint32_t y_row = first_column + i / 4 * 8 + lane % 4 * 2 + i % 2;
        const float y = swap ? of_a(walk.m_start + y_row) : of_b(walk.n_start + y_row);
        sum[slab][i] *= x[i / 2 % 2] * y;
      }
    }
  }
};

template <class Cfg, class Walk>
__device__ void fp8_math(const GemmParams& p, const typename Fp8<Cfg>::Smem& smem) {
  using Tile = GemmTile<Cfg>;
  constexpr bool swap = Cfg::swap_ab;
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);

  Ring<Cfg::stages> ring(smem.barriers());
  Walk walk(p, Fp8<Cfg>::group_size);
  const Fp8TileMath<Cfg, Walk> tile(p, smem, walk, warpgroup);
  TileStore<Cfg, Fp8<Cfg>::store> store(p, smem.staging(), smem.reduction_barriers(), warpgroup);
  // The next tile and its first scales are looked up before the store, which hides them.
  // A CTA without a tile must not read: its walk stands behind the last group.
  const auto scales_of_tile = [&](bool exists) {
    BlockScales scales(p, Walk::b_grouped ? walk.group : 0,
                       walk.n_start + (swap ? tile.first_slab * gemm_slab_rows : tile.first_column),
                       walk.k_begin);
    if constexpr (Cfg::scale_mode == scale_block)
      if (exists) scales.fetch(p, 0, tile.lane);
    return scales;
  };

  bool more = walk.next();
  BlockScales scales = scales_of_tile(more);
  while (more) {
    float sum[Tile::slabs][Tile::accumulators] = {};
    tile.run(sum, scales, ring);
    if constexpr (Cfg::scale_mode == scale_channel) tile.scale_sums(sum);
    const Walk finished = walk;
    more = walk.next();
    if (more) scales = scales_of_tile(true);
    store.store(sum, finished);
  }
  store.finish();
}

// The whole kernel.
template <class Cfg, class Walk, bool built_maps = false>
__device__ void run_fp8_gemm(const GemmParams& p) {
  static_assert(!built_maps || Cfg::math_warpgroups == 2, "no second warp beside the math");
  using Smem = typename Fp8<Cfg>::Smem;
  const Smem smem{ptx::dynamic_shared_address()};
  const GroupMaps maps{p, smem.base + Smem::bytes};
  const auto prefetch = [&] {
    if constexpr (built_maps) maps.init();
    ptx::prefetch_tensor_map(&p.a);
    ptx::prefetch_tensor_map(&p.b);
    if constexpr (Fp8<Cfg>::scale_per_block) ptx::prefetch_tensor_map(&p.a_scale);
    if constexpr (Fp8<Cfg>::b_by_row) ptx::prefetch_tensor_map(&p.b_scale);
  };
  run_roles<Cfg>(
      smem, prefetch, [&] { fp8_load<Cfg, Walk, built_maps>(p, smem, maps); },
      [&] { fp8_math<Cfg, Walk>(p, smem); },
      [&] {
        if constexpr (built_maps) maps.template build<Walk, false>(Fp8<Cfg>::group_size);
      });
}

}  // namespace dgrt
