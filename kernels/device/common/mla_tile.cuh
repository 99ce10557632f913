// Tiles of multi-head latent attention: a row of the cache is key and, but for its last columns, value. What
// host and kernels agree on, and where things lie in shared memory.
#pragma once
#include "device/common/attn_paged_params.cuh"
#include "device/common/gemm_params.cuh"

namespace dgrt {

constexpr uint32_t mla_head_dim_qk = 576, mla_head_dim_v = 512;
constexpr uint32_t mla_rows = 64, mla_keys = 64;  // of a tile; both are what one box has rows
constexpr uint32_t mla_boxes = attn_boxes(mla_head_dim_qk), mla_half_boxes = mla_head_dim_v / attn_box_columns / 2;
constexpr uint32_t mla_box_bytes = mla_keys * attn_row_bytes;
constexpr uint32_t mla_slots = 2;  // key tiles in shared memory
// Key tiles that cost as much as what comes with two parts of a unit: 128 KB each, written and read, and queries loaded
// once more. Sequences of one length are dealt out whole where that makes no CTA's range longer than that.
constexpr uint32_t mla_range_slack = 3;
// The least length of a range: one more tile costs less than twice as many parts of a whole tile's rows do. Parts of few
// heads are small.
DGRT_HD constexpr uint32_t mla_least_range(uint32_t tile_heads) { return tile_heads > mla_rows / 2 ? 2 : 1; }
constexpr uint32_t mla_math_threads = 256, mla_num_threads = mla_math_threads + 128;

// The type of the products. fp16 has all values of e4m3, and is made of them in half the time that bf16 takes; queries
// of bf16 want keys of bf16.
template <class Cfg>
constexpr int mla_dtype = Cfg::q_bytes == 1 ? dtype_fp16 : Cfg::dtype;

struct MlaSmemLayout {
  static constexpr uint32_t keys = mla_boxes * mla_box_bytes;  // behind q
  static constexpr uint32_t most = keys + mla_slots * mla_boxes * mla_box_bytes;
  static constexpr uint32_t sums = most + 2 * mla_rows * 4;
  static constexpr uint32_t segments = sums + 2 * 2 * mla_rows * 4;
  static constexpr uint32_t scratch = segments + 2 * attn_paged_segment_bytes;
  static constexpr uint32_t barriers = scratch + attn_paged_scratch_bytes;
  static constexpr uint32_t bytes = barriers + (2 + mla_slots * (mla_boxes + 2)) * 8;
};
constexpr uint32_t mla_smem_bytes = align_up(MlaSmemLayout::bytes, smem_alignment);
static_assert(mla_smem_bytes <= sm90_max_smem_bytes);

// Of a cache whose pages hold latent rows: k, and v, which is the same.
struct MlaParams : AttnPagedParams {
  TensorMap rows;     // [pages, key heads, page_size, columns]; boxes of 64 columns
  uint32_t box_rows;  // divides page_size and a tile; 0: pages are too odd for boxes
  TensorMap q_map;    // [tokens, heads, columns]; boxes of q_box_tokens, tile_heads and 64 columns. Unset: e4m3 caches
  uint32_t q_box_tokens;
  const float* q_scale;  // of e4m3 queries, or null: 1. The cache's is k_scale and v_scale
};

}  // namespace dgrt
