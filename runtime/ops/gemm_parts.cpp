// Sums of batches: how many clusters share the k of one tile, and what they need of the workspace: first
// the counters, which are the op's state, then the sums that each leaves there.
#include <algorithm>

#include "runtime/ops/gemm_common.h"

namespace dgrt::gemm {

namespace {

constexpr int64_t min_part_k_blocks = 16;  // of a CTA: with fewer, its exchange takes longer
constexpr uint64_t parts_alignment = 256;

// How many parts k is good for. 1: this product or config has none.
int64_t most_parts(const Spec& s, const GemmConfig& c) {
  if (s.grouping != Grouping::batch_sum || !c.swap_ab || s.has(DGRT_FLAG_BATCH_INVARIANT)) return 1;
  return std::max<int64_t>(1, s.num_k_blocks() / (min_part_k_blocks * c.split_k));
}

uint64_t tile_bytes(const GemmConfig& c) { return uint64_t{c.block_m} * c.block_n * sizeof(float); }

}  // namespace

uint32_t num_parts(const Spec& s, int64_t m, const GemmConfig& c, int64_t slots) {
  const int64_t most = most_parts(s, c);
  if (most == 1) return 1;
  const int64_t clusters =
      div_up(m, c.block_m * c.cluster_m) * div_up(s.n, c.block_n * c.cluster_n);
  return static_cast<uint32_t>(std::clamp<int64_t>(slots / clusters, 1, most));
}

// Two parts or more of every tile run at once: there are no more shares of tiles than SMs, even with two
// CTAs on each.
uint64_t parts_state_bytes(const Traits& traits) {
  const uint64_t bytes = uint64_t{traits.max_sms} * sizeof(uint32_t);
  return (bytes + parts_alignment - 1) / parts_alignment * parts_alignment;
}

// Parts of all tiles are no more than the clusters that run at once, so that m does not matter.
uint64_t parts_bytes(const Spec& s, const Plan& plan) {
  const GemmConfig& c = plan.config;
  if (most_parts(s, c) == 1) return 0;
  return plan.parts_state_bytes + uint64_t{plan.slots} * c.cluster_m * c.cluster_n * tile_bytes(c);
}

void set_parts(const Spec& s, const Call& x, const Plan& plan, GemmParts* parts) {
  parts->count = num_parts(s, x.m, plan.config, plan.slots);
  if (parts->count == 1) return;
  parts->counters = reinterpret_cast<uint32_t*>(x.parts);
  parts->sums = reinterpret_cast<float*>(x.parts + plan.parts_state_bytes);
}

}  // namespace dgrt::gemm
