// The cost model of dense GEMM tiles on SM90: time of a launch as the largest of three streams
// (DRAM, the fullest SM's loads, the fullest SM's tensor cores), plus what cannot overlap. Integer
// arithmetic only. Constants are in SM clock cycles or bytes per cycle at 1.755 GHz, fitted on an
// NVIDIA H200.
#include <algorithm>

#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

namespace {

__extension__ typedef __int128 Wide;

constexpr int64_t ps_per_cycle = 570;
constexpr int64_t launch_cycles = 3500;         // start, pipeline fill, first bytes, last store
constexpr int64_t cluster_cycles = 300;         // cluster barriers at start and end
constexpr int64_t reduction_cycles = 1300;      // split_k: exchange of partial sums
constexpr int64_t dram_bytes_per_cycle = 2400;  // whole device, 4.2 TB/s
constexpr int64_t l2_bytes_per_cycle = 3300;    // whole device, 5.8 TB/s
constexpr int64_t sm_bytes_per_cycle = 56;      // into one SM's shared memory
constexpr int64_t latency_cycles = 1500;        // from request to landed, loaded machine

int64_t ceil_of(int64_t x, int64_t y) { return (x + y - 1) / y; }

// Clusters that run at once: GPCs hold 16 or 18 SMs, so that clusters of 4 and 8 leave some SMs
// idle.
int64_t cluster_slots(const Traits& traits, const GemmConfig& c) {
  const int64_t size = gemm_cluster_size(c);
  const int64_t sms = size <= 2 ? traits.max_sms : traits.max_sms / 16 * 16;
  return std::max<int64_t>(1, sms * c.blocks_per_sm / size);
}

// Tensor cores and promotion for one k block of one CTA.
int64_t math_cycles(const Traits& traits, const GemmConfig& c) {
  const int64_t y = c.swap_ab ? c.block_m : c.block_n;
  const int64_t slabs = (c.swap_ab ? c.block_n : c.block_m) / gemm_slab_rows;
  const int64_t slabs_each = slabs / c.math_warpgroups;
  const int64_t product =
      4 * std::max<int64_t>(y / 2, 20);  // of one slab; short ones wait for shared memory
  if (!traits.scaled) return std::max(slabs * product, slabs_each * product + 60);
  // One warpgroup's chain: product, its latency, then the scaled add; another warpgroup may fill
  // the gaps.
  const int64_t chain = slabs_each * (product + 110 + y / 2 * (c.swap_ab ? 3 : 2));
  return std::max(slabs * product, chain);
}

}  // namespace

int64_t cost_ps(const Traits& traits, int64_t m, int64_t n, int64_t k, const GemmConfig& c) {
  m = std::clamp<int64_t>(m, 1, 1 << 22);
  const int64_t element = traits.element_bytes;
  const int64_t k_blocks = ceil_of(k * element, gemm_block_k_bytes);
  const int64_t num_m = ceil_of(m, c.block_m * c.cluster_m) * c.cluster_m;
  const int64_t num_n = ceil_of(n, c.block_n * c.cluster_n) * c.cluster_n;
  const int64_t tiles = num_m * num_n;
  const int64_t clusters = tiles / (c.cluster_m * c.cluster_n);
  const int64_t slots = cluster_slots(traits, c);
  const int64_t waves = ceil_of(clusters, slots);
  // CTAs that share an SM share its tensor cores and its port; all have work only if there are
  // enough.
  const int64_t ctas = std::min(clusters, slots) * gemm_cluster_size(c);
  const int64_t per_sm = ceil_of(ctas, traits.max_sms);
  const int64_t tile_k_blocks = ceil_of(k_blocks, c.split_k);
  const int64_t steps = waves * tile_k_blocks;  // k blocks of the fullest CTA

  const int64_t stage_bytes = (c.block_m + c.block_n) * int64_t{gemm_block_k_bytes};
  const int64_t in_flight = c.stages * stage_bytes * per_sm;
  const int64_t sm_rate = std::clamp<int64_t>(in_flight / latency_cycles, 1, sm_bytes_per_cycle);
  const Wide load = Wide{steps} * per_sm * stage_bytes / sm_rate;

  const int64_t chain = math_cycles(traits, c);
  const int64_t y = c.swap_ab ? c.block_m : c.block_n;
  const int64_t slabs = (c.swap_ab ? c.block_n : c.block_m) / gemm_slab_rows;
  const int64_t product = slabs * 4 * std::max<int64_t>(y / 2, 20);
  const Wide math = Wide{steps} * std::max(chain, product * per_sm);

  const int64_t d_bytes = traits.d_is_fp32 ? 4 : 2;
  const Wide dram_bytes =
      (Wide{m} + n) * k * element + Wide{m} * n * d_bytes * (traits.with_c ? 2 : 1);
  const Wide l2_bytes = Wide{tiles} * k_blocks * gemm_block_k_bytes *
                            (c.block_m / c.cluster_n + c.block_n / c.cluster_m) +
                        Wide{m} * n * d_bytes;
  // Fewer SMs than the memory system wants cannot draw its full rate; that is in `load`.
  const Wide memory = std::max(dram_bytes / dram_bytes_per_cycle, l2_bytes / l2_bytes_per_cycle);

  // The store of a tile: its accumulators leave through shared memory while the tensor cores wait.
  const int64_t store = 250 + int64_t{c.block_m} * c.block_n * (traits.d_is_fp32 ? 2 : 1) / 40;
  const int64_t fixed =
      launch_cycles + (gemm_cluster_size(c) > 1 ? cluster_cycles : 0) +
      (c.split_k > 1 ? reduction_cycles + int64_t{c.block_m} * c.block_n / 16 : 0);
  const Wide stream = std::max({load, math + Wide{waves} * store, memory});
  const Wide cycles = stream + (load + math + memory - stream) / 16 + store + fixed;
  return static_cast<int64_t>(std::min<Wide>(cycles * ps_per_cycle, INT64_MAX));
}

}  // namespace dgrt::gemm
