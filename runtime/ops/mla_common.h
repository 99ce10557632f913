// What the host sides of latent attention share: its one config, forms of lse, parts of rows in a workspace.
#pragma once
#include <algorithm>

#include "device/common/mla_tile.cuh"
#include "dgrt/mla.h"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/op.h"

namespace dgrt::mla {

// What the target adds to the config of an op that divides keys over CTAs.
struct SplitShape {
  uint32_t max_ctas;
  uint64_t state_bytes;
};

inline uint32_t num_sms(uint32_t sm_budget, const Target& target) {
  return sm_budget == 0 ? target.sm_count : std::min(sm_budget, target.sm_count);
}

// INVALID_ARGUMENT unless `c` says what `legal` says.
inline Status check_fields(const Config& legal, const Config& c) {
  for (const auto& [name, value] : legal.fields()) {
    const int64_t* given = c.find(name);
    if (!given) return invalid("{}: missing", name);
    if (*given != value) return invalid("{}={}: must be {}", name, *given, value);
  }
  return ok();
}

// Constants of kernels that divide keys. splitting: Cfg::invariant.
inline void set_split_constants(dgrt_dtype dtype, int64_t q_bytes, int64_t splitting, Instance* i) {
  i->cfg.set("dtype", dtype);
  i->cfg.set("q_bytes", q_bytes);
  i->cfg.set("invariant", splitting);
  i->cfg.set("new_keys", false);
  i->cfg.set("row_lanes", true);
  i->num_threads = mla_num_threads;
  i->min_blocks = 1;
}

// Two counters for each slot of a part.
inline uint64_t state_bytes(uint64_t slots) { return (slots * 2 * sizeof(uint32_t) + 255) / 256 * 256; }
inline uint64_t workspace_bytes(const SplitShape& shape, uint64_t slots) {
  return shape.state_bytes + AttnParts{mla_rows, mla_head_dim_v}.bytes(slots);
}
template <class Params>
void set_workspace(void* workspace, const SplitShape& shape, Params* p) {
  auto* bytes = static_cast<uint8_t*>(workspace);
  p->counters = reinterpret_cast<uint32_t*>(bytes);
  p->parts = reinterpret_cast<float*>(bytes + shape.state_bytes);
}

// The largest divisor that leaves CTAs, made of whole clusters.
inline uint32_t row_lanes(int64_t row_tiles, uint32_t max_ctas, uint32_t cluster = 1) {
  int64_t lanes = std::min<int64_t>(8, max_ctas) / cluster * cluster;
  while (row_tiles % lanes != 0) lanes -= cluster;
  return static_cast<uint32_t>(lanes);
}

inline uint32_t lse_form(uint32_t flags) {
  return ((flags & DGRT_MLA_LSE_BASE2) != 0 ? attn_lse_base2 : 0) |
         ((flags & DGRT_MLA_LSE_EMPTY_INF) != 0 ? attn_lse_empty_inf : 0);
}

inline void set_launch(uint32_t ctas, uint32_t smem_bytes, uint32_t flags, Launch* launch) {
  launch->grid[0] = ctas;
  launch->num_threads = mla_num_threads;
  launch->smem_bytes = smem_bytes;
  launch->block_m = mla_rows;
  launch->pdl = (flags & DGRT_FLAG_PDL) != 0;
}

}  // namespace dgrt::mla
