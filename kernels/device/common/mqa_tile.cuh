// Logits of an indexer over shared keys (multi-query): geometry that host and kernels agree on.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// Values of a config, in the order in which tables name them. A block of q is `tokens` tokens, whose heads
// together are columns of one product; `parts` products share them.
struct MqaConfig {
  uint32_t num_heads, head_dim;
  uint32_t tokens, parts;
  uint32_t stages;  // slots of key tiles
};

constexpr uint32_t mqa_math_warpgroups = 2;
constexpr uint32_t mqa_num_threads = 128 * (mqa_math_warpgroups + 1);
constexpr uint32_t mqa_block_kv = 64 * mqa_math_warpgroups;  // keys of a tile
constexpr uint32_t mqa_q_slots = 2;
// Columns of a product: its sums take half as many registers of each thread, its weights a quarter.
constexpr uint32_t mqa_max_columns = 256;
constexpr uint32_t mqa_max_tokens = 32;
// Of a q slot: where its keys and outputs are, see MqaRow.
constexpr uint32_t mqa_item_bytes = 16, mqa_row_bytes = 16;
// Of shared memory, for the search of a CTA's share of the work.
constexpr uint32_t mqa_scratch_bytes = 128;

DGRT_HD constexpr uint32_t mqa_columns(const MqaConfig& c) { return c.tokens * c.num_heads; }
// The swizzle of the longest rows repeats every 1024 bytes.
DGRT_HD constexpr uint32_t mqa_q_bytes(const MqaConfig& c) {
  return align_up(mqa_columns(c) * c.head_dim, smem_alignment);
}
DGRT_HD constexpr uint32_t mqa_kv_bytes(const MqaConfig& c) { return mqa_block_kv * c.head_dim; }
// Weights, the item, rows.
DGRT_HD constexpr uint32_t mqa_side_bytes(const MqaConfig& c) {
  return align_up(mqa_columns(c) * 4, 16) + mqa_item_bytes + c.tokens * mqa_row_bytes;
}
DGRT_HD constexpr uint32_t mqa_smem_bytes(const MqaConfig& c) {
  return align_up(mqa_q_slots * (mqa_q_bytes(c) + mqa_side_bytes(c)) +
                      c.stages * (mqa_kv_bytes(c) + mqa_block_kv * 4) + mqa_scratch_bytes +
                      (mqa_q_slots + c.stages) * 16,
                  smem_alignment);
}

}  // namespace dgrt
