// Geometry of one output tile of a GEMM d = a * transpose(b), derived from the config alone;
// read by host (shared memory, grid) and kernel.
//
// wgmma multiplies X (64 rows per instruction, "slab") by Y (8 to 256 rows). X is a and Y is b, or
// with swap_ab the other way round: then a tile of d may be as narrow as 8 rows of m, which is what
// decode needs. Operand tiles are 128 bytes of k wide, one 128-byte swizzle row.
//
// Cluster ranks: n fastest, then m, then k. CTAs that differ in n share their a tile, CTAs that
// differ in m their b tile; each loads its part and multicasts it. CTAs that differ in k hold
// partial sums of one tile of d (swap_ab only).
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

constexpr uint32_t gemm_block_k_bytes = 128;
constexpr uint32_t gemm_slab_rows = 64;
// MN-major operands (16-bit types) come in blocks: a 128-byte row is one k of 64 rows of the operand;
// the next 64 rows' block follows 64 k later.
constexpr uint32_t mn_block_bytes = 64 * 128;
// fp32 words that pad a row of the staging tile: writes of a fragment then hit 32 different banks.
constexpr uint32_t staging_pad = 4;

// Values of a config, in the order in which tables name them.
struct GemmConfig {
  uint32_t block_m, block_n, stages;
  uint32_t swap_ab;
  uint32_t math_warpgroups;  // 1 or 2
  uint32_t cluster_m, cluster_n, split_k;
  uint32_t blocks_per_sm;
  uint32_t store_buffers;  // GemmStore::tma: column chunks that each math warpgroup has room for
  uint32_t warpgroups_n;   // 2: the math warpgroups share the columns of a tile, not its rows
};

enum class GemmStore : uint32_t {
  tma,        // through swizzled shared memory and TMA, which adds fp32 to a c that is d
  fragments,  // straight from the accumulators
  staged      // swap_ab: through an fp32 tile in shared memory, where split_k is summed too
};

// `direct`: something that a TMA store cannot do: c of a 16-bit type, rows that are not 16-byte aligned,
// or an n whose rows are no multiple of 16 bytes (a TMA store then writes beyond the last column: seen on
// an H200, driver 580, with odd n).
DGRT_HD constexpr GemmStore gemm_store(const GemmConfig& c, bool direct) {
  return c.swap_ab ? GemmStore::staged : direct ? GemmStore::fragments : GemmStore::tma;
}

// Columns that one TMA store moves ("chunk"): a swizzle row of 128, 64 or 32 bytes.
DGRT_HD constexpr uint32_t gemm_store_columns(uint32_t block_n, uint32_t d_bytes) {
  const uint32_t most = 128 / d_bytes;
  return block_n % most == 0 ? most : block_n % (most / 2) == 0 ? most / 2 : most / 4;
}

// Chunks of one math warpgroup's part of the tile.
DGRT_HD constexpr uint32_t gemm_store_chunks(const GemmConfig& c, uint32_t d_bytes) {
  return c.block_m / gemm_slab_rows / c.math_warpgroups *
         (c.block_n / gemm_store_columns(c.block_n, d_bytes));
}

DGRT_HD constexpr uint32_t gemm_chunk_bytes(const GemmConfig& c, uint32_t d_bytes) {
  return gemm_slab_rows * gemm_store_columns(c.block_n, d_bytes) * d_bytes;
}

// Slabs that hold so many rows of x. A swapped tile of 32 columns is half a slab: wgmma reads on into what lies
// behind it in shared memory, and nobody looks at the sums of those rows.
DGRT_HD constexpr uint32_t gemm_slabs(uint32_t x_rows) { return ceil_div(x_rows, gemm_slab_rows); }

// The fp32 tile, and what wgmma reads behind the last slot of half slabs.
DGRT_HD constexpr uint32_t gemm_staged_bytes(const GemmConfig& c) {
  const uint32_t tile = c.block_m * (c.block_n + staging_pad) * 4;
  const uint32_t behind = (gemm_slabs(c.block_n) * gemm_slab_rows - c.block_n) * gemm_block_k_bytes;
  return tile > behind ? tile : behind;
}

DGRT_HD constexpr uint32_t gemm_store_bytes(const GemmConfig& c, GemmStore store,
                                            uint32_t d_bytes) {
  switch (store) {
    case GemmStore::tma:
      return c.math_warpgroups * c.store_buffers * gemm_chunk_bytes(c, d_bytes);
    case GemmStore::staged:
      return gemm_staged_bytes(c);
    default:
      return 0;
  }
}

DGRT_HD constexpr uint32_t gemm_cluster_size(const GemmConfig& c) {
  return c.cluster_m * c.cluster_n * c.split_k;
}

// One math warpgroup is fed by one extra warp; two by a whole warpgroup, whose registers setmaxnreg
// hands over.
DGRT_HD constexpr uint32_t gemm_num_threads(const GemmConfig& c) {
  return c.math_warpgroups == 1 ? 160 : 384;
}

// Operands in one stage.
DGRT_HD constexpr uint32_t gemm_stage_bytes(const GemmConfig& c) {
  return (c.block_m + c.block_n) * gemm_block_k_bytes;
}

// Dynamic shared memory. `scale_bytes`: of the scales in one stage.
DGRT_HD constexpr uint32_t gemm_smem_bytes(const GemmConfig& c, GemmStore store, uint32_t d_bytes,
                                           uint32_t scale_bytes) {
  const uint32_t operands = c.stages * gemm_stage_bytes(c);
  const uint32_t output = align_up(gemm_store_bytes(c, store, d_bytes), smem_alignment);
  const uint32_t barriers = (2 * c.stages + 2) * 8;
  return align_up(operands + output + c.stages * scale_bytes + barriers, smem_alignment);
}

// Bytes of the scales in one stage: fp32, one per row of a, and of b if that has them too; TMA wants
// destinations aligned to 128 bytes.
DGRT_HD constexpr uint32_t gemm_scale_bytes(const GemmConfig& c, bool of_a, bool of_b) {
  return (of_a ? align_up(c.block_m * 4, 128) : 0) + (of_b ? align_up(c.block_n * 4, 128) : 0);
}

// Shared memory behind all that, where a kernel builds tensor maps: see GroupMaps.
constexpr uint32_t gemm_group_maps_bytes = smem_alignment;

// The same as compile-time constants of a kernel.
template <class Cfg>
struct GemmTile {
  static constexpr GemmConfig config = {
      Cfg::block_m,         Cfg::block_n,       Cfg::stages,      Cfg::swap_ab,
      Cfg::math_warpgroups, Cfg::cluster_m,     Cfg::cluster_n,   Cfg::split_k,
      Cfg::blocks_per_sm,   Cfg::store_buffers, Cfg::warpgroups_n};
  static constexpr uint32_t x_rows = Cfg::swap_ab ? Cfg::block_n : Cfg::block_m;
  static constexpr uint32_t y_rows = Cfg::swap_ab ? Cfg::block_m : Cfg::block_n;
  // Of one math warpgroup:
  static constexpr uint32_t slabs = gemm_slabs(x_rows) / (Cfg::math_warpgroups / Cfg::warpgroups_n);
  static constexpr uint32_t columns = y_rows / Cfg::warpgroups_n;  // rows of y
  static constexpr uint32_t accumulators = columns / 2;            // per thread and slab
  static constexpr uint32_t num_math_threads = Cfg::math_warpgroups * 128;
  static constexpr uint32_t num_threads = gemm_num_threads(config);
  static constexpr uint32_t multicast_ctas = Cfg::cluster_m * Cfg::cluster_n;
  static constexpr uint32_t cluster_size = gemm_cluster_size(config);
  static constexpr uint32_t a_bytes = Cfg::block_m * gemm_block_k_bytes;
  static constexpr uint32_t b_bytes = Cfg::block_n * gemm_block_k_bytes;

  static_assert(Cfg::math_warpgroups == 1 || Cfg::math_warpgroups == 2,
                "one or two math warpgroups");
  static_assert(Cfg::warpgroups_n == 1 || (Cfg::math_warpgroups == 2 && !Cfg::swap_ab),
                "only two warpgroups of an unswapped tile can share its columns");
  static_assert(slabs >= 1 &&
                    slabs * Cfg::math_warpgroups == gemm_slabs(x_rows) * Cfg::warpgroups_n &&
                    (x_rows % gemm_slab_rows == 0 || (Cfg::swap_ab && x_rows == 32)),
                "each math warpgroup must own whole slabs of 64 rows, or half of one");
  static_assert(columns % 8 == 0 && columns <= 256, "wgmma's N is a multiple of 8 up to 256");

  // Where the part of a math warpgroup begins in the tile.
  static DGRT_HD constexpr uint32_t first_slab(uint32_t warpgroup) {
    return warpgroup / Cfg::warpgroups_n * slabs;
  }
  static DGRT_HD constexpr uint32_t first_column(uint32_t warpgroup) {
    return warpgroup % Cfg::warpgroups_n * columns;
  }
  static_assert(Cfg::split_k == 1 || Cfg::swap_ab, "only the staged store can sum a split k");
  static_assert(cluster_size <= 8, "clusters beyond 8 CTAs are not portable");
  static_assert(Cfg::block_m / Cfg::cluster_n % 8 == 0 && Cfg::block_n / Cfg::cluster_m % 8 == 0,
                "each CTA multicasts whole swizzle atoms of 8 rows");
};

}  // namespace dgrt
