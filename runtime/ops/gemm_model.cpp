// The cost model of GEMM tiles on SM90: time of a launch as the longest of three streams (memory, the
// latency of one CTA's ring, the fullest SM's tensor cores), plus what cannot overlap. Integer
// arithmetic only. Constants are in SM clock cycles or bytes per cycle at 1.755 GHz, fitted to 169
// calls (dense e4m3 and bf16 of six (n, k), masked of six) on an NVIDIA H200, 2026-11-20; those of
// clusters, split_k, L2 and latency to 260 calls of 20 other (n, k) on an NVIDIA H100, 2026-11-26. On
// these the picks take 1.7 % (e4m3) and 2.6 % (bf16) longer than the best config in the geometric mean,
// 12 % and 33 % at worst.
#include <algorithm>

#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

namespace {

__extension__ typedef __int128 Wide;

constexpr int64_t ps_per_cycle = 570;
constexpr int64_t cluster_cycles = 2000;    // each pair of CTAs: scheduling all at once, barriers
constexpr int64_t reduction_cycles = 2500;  // split_k: a tile's exchange of partial sums
constexpr int64_t dram_bytes_per_cycle = 1546;  // whole device, cold: what a short kernel reaches
constexpr int64_t l2_bytes_per_cycle = 7400;    // whole device, into shared memory
constexpr int64_t smem_bytes_per_cycle = 128;   // of one SM, TMA writes and wgmma reads together
constexpr int64_t latency_cycles = 3400;        // from a slot's release to its data, loaded machine
constexpr int64_t chain_cycles = 385;           // latency of one product and its wait
constexpr int64_t grouped_chain_cycles = 245;   // ... shared by the k blocks of a group
constexpr int64_t slab_chain_cycles = 270;      // ... of one of several slabs
constexpr int64_t second_scale_cycles = 15;     // per chunk of columns, where two scales of b meet
constexpr int64_t store_cycles = 1809;          // a tile's last wait, hand-over and store
constexpr int64_t least_half_n = 43;            // products with fewer rows of y are no quicker
constexpr int64_t parts_cycles = 3500;        // parts of a tile: to global memory and their counter
constexpr int64_t parts_round_cycles = 1050;  // and back: each thread waits for up to 16 at once

int64_t ceil_of(int64_t x, int64_t y) { return (x + y - 1) / y; }

// One slab's products for one k block.
int64_t product_cycles(int64_t y_rows) {
  return std::max<int64_t>(y_rows / 2, least_half_n) * 3491 / 1000;
}

// Tensor cores and scaled adds for one k block of one CTA that has its SM for itself.
int64_t math_cycles(const Traits& traits, const GemmConfig& c) {
  const int64_t y = (c.swap_ab ? c.block_m : c.block_n) / c.warpgroups_n;
  const int64_t slabs = (c.swap_ab ? c.block_n : c.block_m) / gemm_slab_rows * c.warpgroups_n;
  const int64_t slabs_each = slabs / c.math_warpgroups;
  const int64_t tensor = slabs * product_cycles(y);
  if (!traits.spec.is_fp8()) return std::max(tensor, slabs_each * product_cycles(y) + 60);
  // One warpgroup's chain: product, its latency (shared by a group of k blocks, see the main loop's
  // group_size), then the scaled add.
  // A scale of b for each column doubles the work and takes registers.
  const bool by_column = c.swap_ab || traits.spec.scale_mode == DGRT_SCALE_ROW;
  const int64_t most_grouped = c.blocks_per_sm == 2 ? 64 : by_column ? 96 : 128;
  const int64_t depth = slabs_each > 1 || y > most_grouped ? 1 : y <= 32 ? 4 : 2;
  int64_t add = y * (by_column ? 110 : 13) / 100;
  if (!c.swap_ab && 128 % y != 0) add += y / gemm_store_columns(c.block_n, 2) * second_scale_cycles;
  const int64_t chain = slabs_each > 1 ? slab_chain_cycles
                        : depth == 1   ? chain_cycles
                                       : grouped_chain_cycles / depth;
  return std::max(tensor * 126 / 100, slabs_each * (product_cycles(y) + chain + add));
}

// How many tiles along m, and what is read and written, over all groups.
struct Work {
  int64_t num_m;       // tiles along m, whole clusters
  int64_t rows;        // of a and d
  int64_t b_matrices;  // that are read
};

Work work_of(const Spec& spec, int64_t m, const GemmConfig& c) {
  const auto tiles = [&](int64_t rows) {
    return ceil_of(rows, int64_t{c.block_m} * c.cluster_m) * c.cluster_m;
  };
  const int64_t groups = spec.num_groups;
  switch (spec.grouping) {
    case Grouping::none:
    case Grouping::segments:
    case Grouping::batch_sum:
      return {tiles(m), m, 1};
    case Grouping::contiguous:
      return {tiles(m), m, std::min(groups, ceil_of(m, spec.alignment))};
    case Grouping::batched:
    case Grouping::k:
      return {tiles(m) * groups, m * groups, groups};
    case Grouping::masked:
      // Groups vary by 30 % about the expected rows.
      return {(tiles(m - m * 3 / 10) + tiles(m) + tiles(m + m * 3 / 10)) * groups / 3, m * groups,
              groups};
  }
  return {};
}

// What the traffic of a sum of batches grows by when CTAs that want the same rows read them at different
// times.
struct Drift {
  int64_t dram_percent = 100, l2_percent = 100;

  Drift(const Spec& spec, const GemmConfig& c) {
    if (spec.grouping != Grouping::batch_sum || !c.swap_ab) return;
    const bool is_clustered = gemm_cluster_size(c) > 1;
    if (is_clustered || c.stages * gemm_stage_bytes(c) * c.blocks_per_sm > calm_ring_bytes)
      dram_percent = 130;
    // 1024 x 1024, 64 batches of 512: 101 us became 181 in clusters of 4 (H100, 2026-11-26).
    if (is_clustered) l2_percent = 200;
  }
};

// Of one launch: who comes last adds up its share of all parts.
int64_t parts_exchange_cycles(const GemmConfig& c, int64_t parts) {
  if (parts == 1) return 0;
  const int64_t threads = int64_t{c.math_warpgroups} * 128 * c.split_k;
  const int64_t groups = ceil_of(int64_t{c.block_m} * c.block_n / 4, threads);
  return parts_cycles + groups * ceil_of(parts, 16) * parts_round_cycles;
}

}  // namespace

// GPCs hold 16 or 18 SMs, so that clusters of 4 and 8 leave some SMs idle.
int64_t cluster_slots(const Traits& traits, const GemmConfig& c) {
  const int64_t size = gemm_cluster_size(c);
  const int64_t sms = size <= 2 ? traits.max_sms : traits.max_sms / 16 * 16;
  return std::max<int64_t>(1, sms * c.blocks_per_sm / size);
}

int64_t cost_ps(const Traits& traits, int64_t m, const GemmConfig& c) {
  const Spec& spec = traits.spec;
  const int64_t n = spec.n, k = spec.k * spec.summed_batches();
  const Work work = work_of(spec, std::clamp<int64_t>(m, 1, 1 << 22), c);
  const int64_t element = spec.ab_bytes();
  const int64_t k_blocks = spec.num_k_blocks();
  const int64_t num_n = ceil_of(n, c.block_n * c.cluster_n) * c.cluster_n;
  const Wide tiles = Wide{work.num_m} * num_n;
  const int64_t slots = cluster_slots(traits, c), parts = num_parts(spec, m, c, slots);
  const int64_t clusters = static_cast<int64_t>(tiles / (c.cluster_m * c.cluster_n)) * parts;
  const int64_t waves = ceil_of(clusters, slots);
  // CTAs that share an SM share its tensor cores.
  const int64_t ctas = std::min(clusters, slots) * gemm_cluster_size(c);
  const int64_t per_sm = ceil_of(ctas, traits.max_sms);
  const int64_t tile_k_blocks = ceil_of(k_blocks, c.split_k * parts);
  const int64_t steps = waves * tile_k_blocks;  // k blocks of the fullest CTA

  // A slot is refilled one latency after its release.
  const Wide load = Wide{steps} * latency_cycles / c.stages;
  const int64_t y = (c.swap_ab ? c.block_m : c.block_n) / c.warpgroups_n;
  const int64_t slabs = (c.swap_ab ? c.block_n : c.block_m) / gemm_slab_rows * c.warpgroups_n;
  // Each slab reads itself and y from shared memory, for every 32 bytes of k anew.
  const int64_t smem = (slabs * (gemm_slab_rows + y) + c.block_m + c.block_n) * gemm_block_k_bytes /
                       smem_bytes_per_cycle;
  Wide math = Wide{steps} *
              std::max(math_cycles(traits, c), std::max(slabs * product_cycles(y), smem) * per_sm);
  // CTAs that share loads wait for each other.
  if (!c.swap_ab && gemm_cluster_size(c) > 1) math += math * 23 / 1000;

  const int64_t d_bytes = spec.d_bytes();
  const Wide d_traffic = Wide{work.rows} * n * d_bytes;
  const Wide dram_bytes = (Wide{work.rows} + Wide{work.b_matrices} * n) * k * element +
                          d_traffic * (spec.has(DGRT_GEMM_WITH_C) ? 2 : 1);
  const Wide l2_bytes =
      tiles * k_blocks * gemm_block_k_bytes * (c.block_m / c.cluster_n + c.block_n / c.cluster_m) +
      d_traffic;
  const Drift drift(spec, c);
  const Wide memory = std::max(dram_bytes / dram_bytes_per_cycle * drift.dram_percent / 100,
                               l2_bytes / l2_bytes_per_cycle * drift.l2_percent / 100);

  // The tensor cores wait while a tile's accumulators leave.
  const int64_t store =
      store_cycles + int64_t{c.block_m} * c.block_n * (spec.dtype_d == DGRT_FP32 ? 2 : 1) / 17;
  const int64_t reduction =
      c.split_k > 1 ? reduction_cycles + int64_t{c.block_m} * c.block_n * (4 + c.split_k) / 16 : 0;
  const int64_t fixed = gemm_cluster_size(c) / 2 * cluster_cycles + store + reduction +
                        parts_exchange_cycles(c, parts);
  const Wide compute = math + Wide{waves} * (store + reduction);
  const Wide longest = std::max({load, compute, memory});
  const Wide cycles = longest + (load + compute + memory - longest) * 39 / 1000 + fixed;
  return static_cast<int64_t>(std::min<Wide>(cycles * ps_per_cycle, INT64_MAX));
}

}  // namespace dgrt::gemm
