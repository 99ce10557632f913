// The cost model of GEMM tiles on SM90: time of a launch as the longest of three streams (memory, the
// latency of one CTA's ring, the fullest SM's tensor cores), plus what cannot overlap. Integer
// arithmetic only. Constants are in cycles of 460 ps or bytes per cycle, fitted to 190 calls (bf16 of 20
// (n, k), e4m3 of ten, m from 16 to 1536, every candidate timed) on an NVIDIA H100, 2026-11-26; what
// e4m3's scaled adds cost, to 169 calls on an NVIDIA H200, 2026-11-20.
// How far its picks are from the best: docs/notes/2026-11-26-choosing-kernels.md.
#include <algorithm>

#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

namespace {

__extension__ typedef __int128 Wide;

constexpr int64_t ps_per_cycle = 460;
constexpr int64_t launch_cycles = 7400;     // what an empty kernel takes
constexpr int64_t cluster_cycles = 1100;    // each pair of CTAs: scheduling all at once, barriers
constexpr int64_t reduction_cycles = 6200;  // split_k: a tile's exchange of partial sums
constexpr int64_t dram_bytes_per_cycle = 1150;  // whole device, cold: what a short kernel reaches
constexpr int64_t l2_bytes_per_cycle = 7600;    // whole device, into shared memory
constexpr int64_t smem_bytes_per_cycle = 128;   // of one SM, TMA writes and wgmma reads together
constexpr int64_t latency_cycles = 2400;        // from a slot's release to its data, loaded machine
constexpr int64_t chain_cycles = 385;           // latency of one product and its wait
constexpr int64_t grouped_chain_cycles = 245;   // ... shared by the k blocks of a group
constexpr int64_t slab_chain_cycles = 270;      // ... of one of several slabs
constexpr int64_t second_scale_cycles = 15;     // per chunk of columns, where two scales of b meet
constexpr int64_t store_cycles = 1950;          // a tile's last wait, hand-over and store
constexpr int64_t least_half_n = 39;            // products with fewer rows of y are no quicker
constexpr int64_t parts_cycles = 3500;          // parts of a tile: to global memory and their counter
constexpr int64_t parts_round_cycles = 1050;    // and back: each thread waits for up to 16 at once

// One slab's products for one k block.
int64_t product_cycles(int64_t y_rows) {
  return std::max<int64_t>(y_rows / 2, least_half_n) * 3491 / 1000;
}

// Tensor cores and scaled adds for one k block of one CTA that has its SM for itself.
int64_t math_cycles(const Traits& traits, const GemmConfig& c) {
  const int64_t y = (c.swap_ab ? c.block_m : c.block_n) / c.warpgroups_n;
  const int64_t slabs = int64_t{gemm_slabs(c.swap_ab ? c.block_n : c.block_m)} * c.warpgroups_n;
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
    return div_up(rows, int64_t{c.block_m} * c.cluster_m) * c.cluster_m;
  };
  const int64_t groups = spec.num_groups;
  switch (spec.grouping) {
    case Grouping::none:
    case Grouping::segments:
    case Grouping::batch_sum:
      return {tiles(m), m, 1};
    case Grouping::contiguous:
      return {tiles(m), m, std::min(groups, div_up(m, spec.alignment))};
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

// Of a tile of fp32: what the buffers of its store do not hold.
int64_t unbuffered_elements(const Spec& spec, const GemmConfig& c) {
  if (spec.dtype_d != DGRT_FP32) return 0;
  if (gemm_store(c, spec.is_direct()) != GemmStore::tma) return int64_t{c.block_m} * c.block_n;
  const uint32_t chunks = gemm_store_chunks(c, 4) - c.store_buffers;
  return int64_t{c.math_warpgroups} * chunks * gemm_chunk_bytes(c, 4) / 4;
}

// How far the tiles' rows of y reach past the end of d, in thousandths of d. Rows past the end of a group of
// grouped rows are rows of a all the same.
int64_t padding_permille(const Spec& spec, const Work& work, const GemmConfig& c, int64_t num_n) {
  if (!c.swap_ab) return num_n * c.block_n * 1000 / spec.n - 1000;
  if (spec.grouping == Grouping::contiguous || spec.grouping == Grouping::masked) return 0;
  return work.num_m * c.block_m * 1000 / work.rows - 1000;
}

// Tiles that advance in step read their common lines from L2 together, as one. What gets them out of step
// over a long k: waiting for L2 more than for products; an end of d that cuts off rows of y, so that some
// have less to load; parts of a split k, which have nothing in common. Then L2 takes up to 3.25 times as
// long: here, by how many thousandths longer. `other`: cycles of the streams besides memory.
int64_t alone_permille(const GemmConfig& c, int64_t k_blocks, int64_t padding, Wide l2,
                       Wide other) {
  const int64_t length = std::clamp<int64_t>(k_blocks - 48, 0, 132) * 1000 / 132;
  const auto wait = static_cast<int64_t>(std::min<Wide>(l2 * 1000 / (other + 1), 10'000));
  const int64_t excess =
      std::max<int64_t>(0, wait - 688 + std::min<int64_t>(padding, 1000) * 34 / 10);
  const int64_t alone = (c.split_k > 1 ? 1850 : 0) + excess * 5 / 4;
  return length * std::min<int64_t>(alone, 2250) / 1000;
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
  const int64_t groups = div_up(int64_t{c.block_m} * c.block_n / 4, threads);
  return parts_cycles + groups * div_up(parts, 16) * parts_round_cycles;
}

}  // namespace

// GPCs hold 14 to 18 SMs, so that clusters of 4 and 8 leave some SMs idle. Of 132 SMs they get 120: with
// 32 clusters of 4 the last ones waited for the first (H100).
int64_t cluster_slots(const Traits& traits, const GemmConfig& c) {
  const int64_t size = gemm_cluster_size(c);
  const int64_t sms = size <= 2 ? traits.max_sms : traits.max_sms * 10 / 11 / 8 * 8;
  return std::max<int64_t>(1, sms * c.blocks_per_sm / size);
}

int64_t cost_ps(const Traits& traits, int64_t m, const GemmConfig& c) {
  const Spec& spec = traits.spec;
  const int64_t n = spec.n, k = spec.k * spec.summed_batches();
  const Work work = work_of(spec, std::clamp<int64_t>(m, 1, 1 << 22), c);
  const int64_t element = spec.ab_bytes();
  const int64_t k_blocks = spec.num_k_blocks();
  const int64_t num_n = div_up(n, c.block_n * c.cluster_n) * c.cluster_n;
  const Wide tiles = Wide{work.num_m} * num_n;
  const int64_t slots = cluster_slots(traits, c), parts = num_parts(spec, m, c, slots);
  const int64_t clusters = static_cast<int64_t>(tiles / (c.cluster_m * c.cluster_n)) * parts;
  const int64_t waves = div_up(clusters, slots);
  // CTAs that share an SM share its tensor cores.
  const int64_t ctas = std::min(clusters, slots) * gemm_cluster_size(c);
  const int64_t per_sm = div_up(ctas, traits.max_sms);
  const int64_t tile_k_blocks = div_up(k_blocks, c.split_k * parts);
  const int64_t steps = waves * tile_k_blocks;  // k blocks of the fullest CTA

  // A slot is refilled one latency after its release.
  const Wide load = Wide{steps} * latency_cycles / c.stages;
  const int64_t y = (c.swap_ab ? c.block_m : c.block_n) / c.warpgroups_n;
  const int64_t slabs = int64_t{gemm_slabs(c.swap_ab ? c.block_n : c.block_m)} * c.warpgroups_n;
  // Each slab reads itself and y from shared memory, for every 32 bytes of k anew.
  const int64_t smem = (slabs * (gemm_slab_rows + y) + c.block_m + c.block_n) * gemm_block_k_bytes /
                       smem_bytes_per_cycle;
  Wide math = Wide{steps} *
              std::max(math_cycles(traits, c), std::max(slabs * product_cycles(y), smem) * per_sm);
  // CTAs that share loads wait for each other.
  if (c.cluster_m * c.cluster_n > 1) math += math * 217 / 1000;

  const int64_t d_bytes = spec.d_bytes();
  const Wide d_traffic = Wide{work.rows} * n * d_bytes;
  const Wide dram_bytes = (Wide{work.rows} + Wide{work.b_matrices} * n) * k * element +
                          d_traffic * (spec.has(DGRT_GEMM_WITH_C) ? 2 : 1);
  const Wide l2_bytes =
      tiles * k_blocks * gemm_block_k_bytes * (c.block_m / c.cluster_n + c.block_n / c.cluster_m) +
      d_traffic;
  // The tensor cores wait while a tile's accumulators leave.
  const int64_t elements = int64_t{c.block_m} * c.block_n;
  const int64_t store = store_cycles + elements * (spec.dtype_d == DGRT_FP32 ? 2 : 1) / 14;
  const int64_t reduction =
      c.split_k > 1 ? reduction_cycles + elements * (4 + c.split_k) / (36 * c.math_warpgroups) : 0;
  // What an fp32 tile stores beyond its buffers waits for the store before, the longer the wider the tile
  // (seen with 128 x 64 to 256 x 256, H100); nothing else goes on meanwhile.
  const int64_t waiting = unbuffered_elements(spec, c) * c.block_n / 290;
  const int64_t fixed = launch_cycles + gemm_cluster_size(c) / 2 * cluster_cycles + store +
                        parts_exchange_cycles(c, parts);
  const Wide compute = math + Wide{waves} * (store + reduction);
  const Drift drift(spec, c);
  const Wide l2 = l2_bytes / l2_bytes_per_cycle * drift.l2_percent / 100;
  // Of sums of batches Drift has said so.
  const int64_t alone = spec.grouping == Grouping::batch_sum
                            ? 0
                            : alone_permille(c, k_blocks, padding_permille(spec, work, c, num_n),
                                             l2, std::max(compute, load));
  const Wide memory = std::max(dram_bytes / dram_bytes_per_cycle * drift.dram_percent / 100,
                               l2 + l2 * alone / 1000);
  const Wide longest = std::max({load, compute, memory});
  const Wide cycles =
      longest + (load + compute + memory - longest) * 84 / 1000 + fixed + Wide{waves} * waiting;
  return static_cast<int64_t>(std::min<Wide>(cycles * ps_per_cycle, INT64_MAX));
}

}  // namespace dgrt::gemm
