// Kernel parameters of attention over ragged batches, and what a tile of it is.
#pragma once
#include "device/common/attn_mask.cuh"
#include "device/common/interface.cuh"

namespace dgrt {

// Windows are cut off here: as good as none, and sums with positions do not overflow.
constexpr int32_t attn_no_window = 1 << 30;

// How lse is stored.
constexpr uint32_t attn_lse_base2 = 1, attn_lse_with_sink = 2, attn_lse_empty_inf = 4;

// Boxes of tensor maps are 64 columns of one head; with Cfg::tile_heads, of so many.
struct AttnParams {
  TensorMap q;              // [heads, tokens, columns]; with several tile_heads [tokens, heads, columns]
  TensorMap k, v;           // as AttnContiguousParams and AttnExtendParams say
  TensorMap o_map;          // of o, as q's
  void* o;                  // o[token * o_token + head * o_head + column]
  float* lse;               // or null
  const float* sinks;       // [query heads], or null
  const int32_t* q_indptr;  // [batch + 1]: where sequences start
  uint32_t* counter;        // of tiles handed out; zero before and after
  uint64_t o_token, o_head, lse_token, lse_head;  // elements
  uint32_t batch, num_heads, group;               // group: query heads per key head
  uint32_t total_q;                               // tokens that the pointers reach
  uint32_t head_section;              // heads whose tiles are worked on together, for the L2 cache
  uint32_t v_columns;                 // of o and v
  int32_t window_left, window_right;  // keys p - left to p + right are visible
  float scale_log2;                   // logit (softcap: its hyperbolic tangent) to a power of two
  float cap_scale;                    // softcap only: product to the tangent's argument
  uint32_t lse_form;
  uint32_t sorted;  // sequences whose tiles are worked on by length: the first, whose turn is last; at most 32
  AttnMask mask;  // of attn_extend
  const float *k_scale, *v_scale;  // of e4m3 keys and values: [key heads], or null: 1
  uint64_t k_scale_head, v_scale_head;
  uint32_t qk_columns;  // of q and k
};

// Where the rows of a tensor lie; strides count elements. Page 0 is all of what lies contiguously.
struct AttnPageRows {
  const void* base;
  uint64_t page, token, head;
};

// Maps of keys and values, but for those of e4m3: [heads, tokens, columns].
struct AttnContiguousParams : AttnParams {
  const int32_t* kv_indptr;  // [batch + 1]: where sequences start
  AttnPageRows k_rows, v_rows;
  uint32_t total_kv;         // tokens that the pointers reach
};

// Maps of keys and values, but for those of e4m3: [pages, heads, page_size, columns], with NEW_KEYS also
// [heads, tokens, columns].
struct AttnExtendParams : AttnParams {
  const int32_t* page_table;  // [batch][table_row]
  const int32_t* seq_lens;    // [batch]: keys
  AttnPageRows k_rows, v_rows;
  uint64_t table_row;
  uint32_t page_size, num_pages;  // num_pages: that k and v reach
  uint32_t max_kv_len;            // that the table reaches: sequences are cut there
  uint32_t box_rows;              // of boxes of k and v: divides page_size and block_n
  uint32_t tile_pages, tile_tokens;  // of block_n: whole pages, and what is left; of e4m3 only
  const int32_t* kv_start;        // [batch]: the table's first key, or null: 0
  TensorMap k_new, v_new;         // of q's tokens; NEW_KEYS only
  int32_t* page_error;            // see report_page(); CHECK_PAGES only
};

}  // namespace dgrt
