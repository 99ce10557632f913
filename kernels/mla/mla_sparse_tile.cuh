// Multi-head latent attention over lists of slots of quantised caches: what host and kernels agree on.
#pragma once
#include "device/common/latent_row.cuh"
#include "device/common/mla_tile.cuh"

namespace dgrt {

// A cache, and each query token's list of slots of it.
struct SlotPool {
  const void* cache;       // without slots: as many bytes as a row has codes, of anything
  const int32_t* indices;  // [tokens][index_token]
  const int32_t* lengths;  // of the lists of list_tokens tokens each; null: all of them are `top_k`
  uint64_t page_bytes;     // between pages
  uint64_t index_token;
  uint32_t page_size, num_slots, top_k;
};

// Tokens whose lists have the same length are a sequence, but each has keys of its own: its list of `main`, then that
// of `extra`.
struct MlaSparseParams : AttnPagedParams {
  TensorMap q_map;  // [tokens, heads, columns]; boxes of tile_heads heads and 64 columns
  SlotPool main, extra;
  uint32_t list_tokens;  // of a sequence
};

// For each warp that gathers, the segment that it has come to, the walk to the next, and of its rows of two tiles the
// scales and where they begin; of each slot one bit for each key that there is.
struct MlaSparseSmemLayout : MlaSmemLayout {
  static constexpr uint32_t warps = 4, warp_rows = mla_keys / warps, row_bytes = 32;
  static constexpr uint32_t walk = attn_paged_segment_bytes, list = walk + 48, rows = list + 16;
  static constexpr uint32_t warp_bytes = rows + 2 * warp_rows * row_bytes;
  static constexpr uint32_t walks = align_up(MlaSmemLayout::bytes, 16);
  static constexpr uint32_t exist = walks + warps * warp_bytes;
  static constexpr uint32_t bytes = exist + mla_slots * mla_keys / 8;
};
constexpr uint32_t mla_sparse_smem_bytes = align_up(MlaSparseSmemLayout::bytes, smem_alignment);
static_assert(mla_sparse_smem_bytes <= sm90_max_smem_bytes);

}  // namespace dgrt
