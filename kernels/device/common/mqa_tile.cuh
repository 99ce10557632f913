// Logits of an indexer over shared keys (multi-query): geometry that host and kernels agree on.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// Values of a config, in the order in which tables name them. A block of q is `tokens` tokens, whose heads are the
// columns of products with keys.
struct MqaConfig {
  uint32_t num_heads, head_dim;
  uint32_t tokens;
  uint32_t stages;  // slots of key tiles
};

constexpr uint32_t mqa_math_warpgroups = 2;
constexpr uint32_t mqa_num_threads = 128 * (mqa_math_warpgroups + 1);
constexpr uint32_t mqa_block_kv = 64 * mqa_math_warpgroups;  // keys of a tile
constexpr uint32_t mqa_q_slots = 2;
constexpr uint32_t mqa_fill_warps = 3;  // of the last warpgroup, beside the one that loads
constexpr uint32_t mqa_max_columns = 256, mqa_max_tokens = 16;
// Of a math thread's 224, for products, weights and sums.
constexpr uint32_t mqa_max_registers = 208;
constexpr uint32_t mqa_item_bytes = 16, mqa_row_bytes = 16;  // of a q slot
// Of shared memory, for the search of a CTA's share of the work.
constexpr uint32_t mqa_scratch_bytes = 64;

// Eight columns are heads of as many tokens as this, so that the four threads that share a product's row have a
// token each, or share one or two: column 8 * j + c of a section of tokens is token c / (8 / team) of it, head
// j * (8 / team) + c % (8 / team). A section has as many tokens as a team; three have one each: a fourth one's products
// would take longer than sums that cross threads.
DGRT_HD constexpr uint32_t mqa_team(uint32_t tokens) { return tokens == 3 ? 1 : tokens < 3 ? tokens : 4; }
DGRT_HD constexpr uint32_t mqa_sections(uint32_t tokens) { return ceil_div(tokens, mqa_team(tokens)); }
DGRT_HD constexpr uint32_t mqa_section_columns(const MqaConfig& c) { return mqa_team(c.tokens) * c.num_heads; }
DGRT_HD constexpr uint32_t mqa_columns(const MqaConfig& c) { return mqa_sections(c.tokens) * mqa_section_columns(c); }

DGRT_HD constexpr uint32_t mqa_registers(const MqaConfig& c) {
  return mqa_columns(c) / 2 + mqa_columns(c) / 4 + mqa_sections(c.tokens) * 8;
}

// The swizzle of the longest rows repeats every 1024 bytes.
DGRT_HD constexpr uint32_t mqa_q_bytes(const MqaConfig& c) {
  return align_up(mqa_columns(c) * c.head_dim, smem_alignment);
}
DGRT_HD constexpr uint32_t mqa_kv_bytes(const MqaConfig& c) { return mqa_block_kv * c.head_dim; }
// The item, rows, weights.
DGRT_HD constexpr uint32_t mqa_side_bytes(const MqaConfig& c) {
  return mqa_item_bytes + mqa_sections(c.tokens) * mqa_team(c.tokens) * mqa_row_bytes + mqa_columns(c) * 4;
}
DGRT_HD constexpr uint32_t mqa_smem_bytes(const MqaConfig& c) {
  return align_up(mqa_q_slots * (mqa_q_bytes(c) + mqa_side_bytes(c)) +
                      c.stages * (mqa_kv_bytes(c) + mqa_block_kv * 4) + mqa_scratch_bytes +
                      (mqa_q_slots + c.stages) * 16,
                  smem_alignment);
}

}  // namespace dgrt
