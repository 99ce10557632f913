// Kernel parameters of attention over ragged batches, and what a tile of it is.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// Windows are cut off here: as good as none, and sums with positions do not overflow.
constexpr int32_t attn_no_window = 1 << 30;

// How lse is stored.
constexpr uint32_t attn_lse_base2 = 1, attn_lse_with_sink = 2;

struct AttnParams {
  TensorMap q, k, v;                    // [heads, tokens, columns]; boxes of 64 columns of one head
  void* o;                              // o[token * o_token + head * o_head + column]
  float* lse;                           // or null
  const float* sinks;                   // [query heads], or null
  const int32_t *q_indptr, *kv_indptr;  // [batch + 1]: where sequences start
  uint32_t* counter;                    // of tiles handed out; zero before and after
  uint64_t o_token, o_head, lse_token, lse_head;  // elements
  uint32_t batch, num_heads, group;               // group: query heads per key head
  uint32_t total_q, total_kv;                     // tokens that the pointers reach
  uint32_t head_section;              // heads whose tiles are worked on together, for the L2 cache
  uint32_t v_columns;                 // of o and v
  int32_t window_left, window_right;  // keys p - left to p + right are visible
  float scale_log2;                   // logit (softcap: its hyperbolic tangent) to a power of two
  float cap_scale;                    // softcap only: product to the tangent's argument
  uint32_t lse_form;
};

}  // namespace dgrt
