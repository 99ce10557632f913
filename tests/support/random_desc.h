// Random descs of every op, for property tests that run over all_ops(). A new op adds its desc to
// AnyDesc and a branch to random_desc().
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <random>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "dgrt/attention.h"
#include "dgrt/gemm.h"
#include "dgrt/hyper.h"
#include "dgrt/indexer.h"
#include "dgrt/mla.h"
#include "runtime/ops/op.h"

namespace dgrt::test {

using Rng = std::mt19937_64;  // the same numbers on every machine, unlike std's distributions

inline int64_t pick_between(Rng& rng, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
}

inline int64_t pick_of(Rng& rng, const std::vector<int64_t>& values) {
  return values[rng() % values.size()];
}

// A size as models have them, or any at all, up to `high`; as many small as large ones.
inline int64_t pick_size(Rng& rng, int64_t low, int64_t high) {
  int64_t bits = 0;
  while ((high >> bits) > 1) ++bits;
  const int64_t top = int64_t{1} << pick_between(rng, 0, bits);
  return std::clamp(pick_between(rng, top / 2, top + 1), low, high);
}

inline constexpr int64_t most_tokens = (int64_t{1} << 30) - 1;  // of attention, and sequences

class AnyDesc {
 public:
  template <class Desc>
  explicit AnyDesc(Desc desc) : desc_(desc) {}
  const dgrt_desc* get() const {
    return std::visit([](const auto& desc) { return &desc.op; }, desc_);
  }
  // The bound of what varies by call. 0 for an op whose sizes are all in the desc: nothing does.
  int64_t max_m() const {
    return std::visit(
        [](const auto& desc) -> int64_t {
          if constexpr (requires { desc.max_m; }) return desc.max_m;
          if constexpr (requires { desc.max_k; }) return desc.max_k;
          if constexpr (requires { desc.max_rows; }) return desc.max_rows;
          if constexpr (requires { desc.max_capacity; }) return desc.max_capacity;
          if constexpr (requires { desc.max_batch; }) return desc.max_batch;
          if constexpr (requires { desc.max_tokens; }) return desc.max_tokens;
          return 0;
        },
        desc_);
  }
  AnyDesc with_max_m(int64_t max_m) const {
    AnyDesc copy = *this;
    std::visit(
        [max_m](auto& desc) {
          if constexpr (requires { desc.max_m; }) desc.max_m = max_m;
          if constexpr (requires { desc.max_k; }) desc.max_k = max_m;
          if constexpr (requires { desc.max_rows; })
            desc.max_rows = std::min(max_m, most_tokens);
          else if constexpr (requires { desc.max_capacity; })
            desc.max_capacity = std::min(max_m, most_tokens);
          else if constexpr (requires { desc.max_batch; })
            desc.max_batch = std::min(max_m, most_tokens);
          if constexpr (requires { desc.max_tokens; }) desc.max_tokens = std::min(max_m, most_tokens);
        },
        copy.desc_);
    return copy;
  }

 private:
  std::variant<dgrt_gemm_desc, dgrt_gemm_grouped_contiguous_desc, dgrt_gemm_grouped_masked_desc,
               dgrt_gemm_batched_desc, dgrt_gemm_grouped_k_desc, dgrt_gemm_fused_linear_desc,
               dgrt_quant_fp8_desc, dgrt_scale_layout_desc, dgrt_scale_pack_ue8m0_desc,
               dgrt_hc_prenorm_desc, dgrt_hc_prenorm_weights_desc, dgrt_attn_prefill_desc,
               dgrt_attn_decode_desc, dgrt_attn_extend_desc, dgrt_attn_merge_desc,
               dgrt_kv_append_desc, dgrt_mla_decode_desc, dgrt_mla_sparse_prefill_desc, dgrt_topk_transform_desc,
               dgrt_mla_kv_append_desc,
               dgrt_kv_dequant_paged_desc, dgrt_build_swa_token_ids_desc,
               dgrt_combine_topk_swa_indices_desc, dgrt_mla_sparse_decode_desc, dgrt_mqa_logits_desc,
               dgrt_paged_mqa_logits_desc>
      desc_;
};

inline constexpr int64_t random_max_m = 1 << 17;

// What every product's desc has.
template <class Desc>
void random_product(Rng& rng, bool is_fp8, Desc* desc) {
  desc->n =
      rng() % 2 ? pick_of(rng, {512, 1536, 2112, 4096, 7168, 24576}) : pick_size(rng, 1, 65536);
  desc->k = rng() % 2 ? pick_of(rng, {128, 512, 2048, 7168, 16384}) : pick_size(rng, 0, 65536);
  desc->max_m = pick_size(rng, 0, random_max_m);
  desc->sm_budget = rng() % 4 ? 0 : static_cast<uint32_t>(pick_between(rng, 1, 132));
  for (const uint32_t flag : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_GEMM_UNALIGNED_D})
    if (rng() % 4 == 0) desc->flags |= flag;
  desc->dtype_ab = is_fp8 ? DGRT_E4M3 : rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  desc->dtype_d = desc->dtype_ab;
  if (is_fp8) desc->dtype_d = rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  if (rng() % 2) desc->dtype_d = DGRT_FP32;
  if (is_fp8) {
    desc->scale_mode = DGRT_SCALE_BLOCK;
    desc->b_scale_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  } else {
    desc->b_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  }
  if (rng() % 4 == 0) desc->max_block_m = static_cast<uint32_t>(pick_between(rng, 64, 256));
  if (rng() % 4 == 0) desc->max_block_n = static_cast<uint32_t>(pick_between(rng, 64, 256));
}

inline dgrt_gemm_desc random_gemm(Rng& rng, bool is_fp8) {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  random_product(rng, is_fp8, &desc);
  if (is_fp8)
    desc.scale_mode =
        static_cast<uint32_t>(pick_between(rng, DGRT_SCALE_BLOCK, DGRT_SCALE_CHANNEL));
  else
    desc.a_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  if (rng() % 2) desc.flags |= DGRT_GEMM_WITH_BIAS;
  if (rng() % 4 == 0) {
    desc.head_left = 128, desc.head_mid = 64, desc.head_right = 128;
    desc.n = 256 * pick_between(rng, 1, 64);
  } else if (rng() % 2) {
    desc.flags |= DGRT_GEMM_WITH_C;
  }
  return desc;
}

inline dgrt_gemm_grouped_contiguous_desc random_contiguous(Rng& rng, bool is_fp8) {
  dgrt_gemm_grouped_contiguous_desc desc = DGRT_GEMM_GROUPED_CONTIGUOUS_DESC;
  random_product(rng, is_fp8, &desc);
  desc.num_groups = static_cast<uint32_t>(pick_size(rng, 1, 512));
  desc.alignment = rng() % 2 ? 64 : 128;
  desc.group_layout = rng() % 2 ? DGRT_GROUP_END_ROW : DGRT_GROUP_OF_ROW;
  return desc;
}

inline dgrt_gemm_grouped_masked_desc random_masked(Rng& rng, bool is_fp8) {
  dgrt_gemm_grouped_masked_desc desc = DGRT_GEMM_GROUPED_MASKED_DESC;
  random_product(rng, is_fp8, &desc);
  desc.num_groups = static_cast<uint32_t>(pick_size(rng, 1, 512));
  if (rng() % 2) desc.flags |= DGRT_GEMM_SIGNAL;
  return desc;
}

inline dgrt_gemm_batched_desc random_batched(Rng& rng, bool is_fp8) {
  dgrt_gemm_batched_desc desc = DGRT_GEMM_BATCHED_DESC;
  random_product(rng, is_fp8, &desc);
  desc.num_batches = static_cast<uint32_t>(pick_size(rng, 1, 512));
  if (!is_fp8) desc.a_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  if (!is_fp8 && rng() % 2) desc.flags |= DGRT_GEMM_SUM_BATCHES;
  if (rng() % 2) desc.flags |= DGRT_GEMM_WITH_C;
  return desc;
}

inline dgrt_gemm_fused_linear_desc random_fused_linear(Rng& rng) {
  dgrt_gemm_fused_linear_desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
  desc.k = rng() % 2 ? pick_of(rng, {128, 2304, 7168}) : pick_size(rng, 0, 65536);
  desc.max_m = pick_size(rng, 0, random_max_m);
  desc.num_segments = static_cast<uint32_t>(pick_between(rng, 1, DGRT_MAX_SEGMENTS));
  for (uint32_t i = 0; i < desc.num_segments; ++i)
    desc.n[i] = rng() % 2 ? pick_of(rng, {4, 8, 128, 1024}) : pick_size(rng, 1, 8192);
  desc.dtype_ab = rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  desc.dtype_d = desc.dtype_ab;
  if (rng() % 2) desc.dtype_d = DGRT_FP32;
  for (const uint32_t flag : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT})
    if (rng() % 4 == 0) desc.flags |= flag;
  return desc;
}

inline dgrt_gemm_grouped_k_desc random_grouped_k(Rng& rng, bool is_fp8) {
  dgrt_gemm_grouped_k_desc desc = DGRT_GEMM_GROUPED_K_DESC;
  desc.m = rng() % 2 ? pick_of(rng, {768, 2048, 4096, 7168}) : pick_size(rng, 1, 16384);
  desc.n = rng() % 2 ? pick_of(rng, {768, 2048, 4096, 7168}) : pick_size(rng, 1, 16384);
  desc.max_k = pick_size(rng, 0, random_max_m);
  desc.num_groups = static_cast<uint32_t>(pick_size(rng, 1, 256));
  desc.dtype_ab = is_fp8 ? DGRT_E4M3 : DGRT_BF16;
  desc.dtype_d = DGRT_FP32;
  desc.scale_mode = is_fp8 ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
  desc.flags = rng() % 4 ? DGRT_GEMM_WITH_C : 0u;
  return desc;
}

inline dgrt_quant_fp8_desc random_quant_fp8(Rng& rng) {
  dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
  desc.k = pick_size(rng, 1, 65536);
  desc.max_m = pick_size(rng, 0, random_max_m);
  desc.block = rng() % 2 ? DGRT_QUANT_1X128 : DGRT_QUANT_128X128;
  desc.scale_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  return desc;
}

inline dgrt_scale_layout_desc random_scale_layout(Rng& rng) {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = pick_size(rng, 1, 512);
  desc.max_m = pick_size(rng, 0, random_max_m);
  desc.src_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  desc.num_groups = pick_size(rng, 0, 256);
  return desc;
}

inline dgrt_scale_pack_ue8m0_desc random_scale_pack(Rng& rng) {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  desc.k_blocks = pick_size(rng, 1, 2048);
  desc.max_m = pick_size(rng, 0, random_max_m);
  desc.src_major = rng() % 2 ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  desc.num_groups = pick_size(rng, 0, 128);
  desc.flags = rng() % 2 ? DGRT_SCALE_CEIL : 0;
  if (desc.src_major == DGRT_MN_MAJOR && rng() % 2) {
    desc.flags |= DGRT_SCALE_K_GROUPED;
    desc.gran_k = rng() % 2 ? 128 : 32;
  }
  return desc;
}

inline dgrt_hc_prenorm_desc random_hc_prenorm(Rng& rng) {
  dgrt_hc_prenorm_desc desc = DGRT_HC_PRENORM_DESC;
  desc.n = rng() % 2 ? 24 : 4 * pick_between(rng, 1, 8);
  desc.k = rng() % 2 ? pick_of(rng, {7168, 16384, 28672}) : 64 * pick_size(rng, 1, 1024);
  desc.max_m = pick_size(rng, 0, random_max_m);
  desc.max_splits = pick_size(rng, 0, 128);
  desc.flags = rng() % 4 ? 0 : DGRT_FLAG_BATCH_INVARIANT;
  return desc;
}

inline dgrt_hc_prenorm_weights_desc random_hc_prenorm_weights(Rng& rng) {
  dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
  desc.n = 4 * pick_between(rng, 1, 8);
  desc.k = 64 * pick_size(rng, 1, 1024);
  return desc;
}

// Heads, sizes and flags, which all attention ops have.
template <class Desc>
void random_attention(Rng& rng, Desc* desc) {
  desc->num_kv_heads = pick_size(rng, 1, 64);
  desc->num_q_heads = desc->num_kv_heads * pick_of(rng, {1, 2, 3, 4, 5, 6, 7, 8, 16, 128});
  const auto head_dim = [&rng] {
    return rng() % 2 ? pick_of(rng, {64, 96, 128, 192, 256, 512}) : 8 * pick_between(rng, 1, 64);
  };
  desc->head_dim_qk = head_dim();
  desc->head_dim_v = rng() % 2 ? desc->head_dim_qk : head_dim();
  desc->max_batch = pick_size(rng, 0, 4096);
  desc->max_kv_len = pick_size(rng, 0, 1 << 20);
  desc->dtype = rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  desc->sm_budget = rng() % 4 ? 0 : static_cast<uint32_t>(pick_between(rng, 1, 132));
  for (const uint32_t flag : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_SOFTCAP,
                              DGRT_ATTN_LSE_BASE2, DGRT_ATTN_LSE_WITH_SINK})
    if (rng() % 4 == 0) desc->flags |= flag;
}

// Of keys and values.
template <class Desc>
void random_cache_type(Rng& rng, Desc* desc) {
  if (desc->head_dim_qk % 16 == 0 && desc->head_dim_v % 16 == 0 && rng() % 4 == 0) desc->dtype_kv = DGRT_E4M3;
}

// Of the ops over a paged cache.
template <class Desc>
void random_mask(Rng& rng, Desc* desc) {
  if (rng() % 4 != 0) return;
  desc->flags |= rng() % 2 ? DGRT_ATTN_MASK_BYTES : DGRT_ATTN_MASK_BITS;
  if (rng() % 2) desc->flags |= DGRT_ATTN_MASK_SKIP_PREFIX;
}

inline dgrt_attn_prefill_desc random_attn_prefill(Rng& rng) {
  dgrt_attn_prefill_desc desc = DGRT_ATTN_PREFILL_DESC;
  random_attention(rng, &desc);
  desc.max_q_len = pick_size(rng, 0, random_max_m);
  random_cache_type(rng, &desc);
  return desc;
}

inline dgrt_attn_decode_desc random_attn_decode(Rng& rng) {
  dgrt_attn_decode_desc desc = DGRT_ATTN_DECODE_DESC;
  random_attention(rng, &desc);
  random_mask(rng, &desc);
  desc.max_q_len = pick_size(rng, 0, 16);
  if (rng() % 4 == 0) desc.flags |= DGRT_ATTN_CHECK_PAGES;
  random_cache_type(rng, &desc);
  if (desc.dtype_kv == 0 && rng() % 2) desc.flags |= DGRT_ATTN_NEW_KEYS;
  return desc;
}

inline dgrt_attn_extend_desc random_attn_extend(Rng& rng) {
  dgrt_attn_extend_desc desc = DGRT_ATTN_EXTEND_DESC;
  random_attention(rng, &desc);
  random_mask(rng, &desc);
  desc.max_q_len = pick_size(rng, 0, random_max_m);
  if (rng() % 4 == 0) desc.flags |= DGRT_ATTN_CHECK_PAGES;
  if (rng() % 2) desc.flags |= DGRT_ATTN_NEW_KEYS;
  random_cache_type(rng, &desc);
  return desc;
}

inline dgrt_attn_merge_desc random_attn_merge(Rng& rng) {
  dgrt_attn_merge_desc desc = DGRT_ATTN_MERGE_DESC;
  desc.num_heads = pick_size(rng, 1, 128);
  desc.head_dim = rng() % 2 ? 128 : 8 * pick_between(rng, 1, 64);
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.max_parts = pick_size(rng, 1, 64);
  desc.dtype_part = static_cast<dgrt_dtype>(pick_of(rng, {DGRT_BF16, DGRT_FP16, DGRT_FP32}));
  desc.dtype_o = static_cast<dgrt_dtype>(pick_of(rng, {DGRT_BF16, DGRT_FP16, DGRT_FP32}));
  for (const uint32_t flag : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_LSE_BASE2,
                              DGRT_ATTN_LSE_WITH_SINK})
    if (rng() % 4 == 0) desc.flags |= flag;
  return desc;
}

inline dgrt_kv_append_desc random_kv_append(Rng& rng) {
  dgrt_kv_append_desc desc = DGRT_KV_APPEND_DESC;
  desc.num_kv_heads = pick_size(rng, 1, 128);
  desc.head_dim_qk = rng() % 2 ? 128 : 8 * pick_between(rng, 1, 64);
  desc.head_dim_v = rng() % 2 ? desc.head_dim_qk : 8 * pick_between(rng, 1, 64);
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.dtype = rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  desc.dtype_cache = desc.dtype;
  if (rng() % 2) desc.dtype_cache = DGRT_E4M3;
  for (const uint32_t flag : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_KV_SLOTS_INT64})
    if (rng() % 4 == 0) desc.flags |= flag;
  return desc;
}

inline dgrt_mla_decode_desc random_mla_decode(Rng& rng) {
  dgrt_mla_decode_desc desc = DGRT_MLA_DECODE_DESC;
  desc.num_kv_heads = rng() % 2 ? 1 : pick_size(rng, 1, 8);
  desc.num_q_heads = desc.num_kv_heads * pick_size(rng, 1, 256);
  desc.max_batch = pick_size(rng, 0, random_max_m);
  desc.max_q_len = pick_size(rng, 0, 16);
  desc.max_kv_len = pick_size(rng, 0, random_max_m);
  desc.dtype = rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  desc.sm_budget = rng() % 4 ? 0 : static_cast<uint32_t>(pick_between(rng, 1, 132));
  if (rng() % 4 == 0) desc.dtype_kv = DGRT_E4M3, desc.dtype_q = rng() % 2 ? dgrt_dtype{DGRT_E4M3} : desc.dtype;
  for (const uint32_t flag :
       {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_LSE_BASE2, DGRT_MLA_LSE_EMPTY_INF})
    if (rng() % 4 == 0) desc.flags |= flag;
  return desc;
}

inline uint32_t random_flags(Rng& rng, std::initializer_list<uint32_t> flags) {
  uint32_t picked = 0;
  for (const uint32_t flag : flags)
    if (rng() % 4 == 0) picked |= flag;
  return picked;
}

inline dgrt_mla_sparse_prefill_desc random_mla_sparse_prefill(Rng& rng) {
  dgrt_mla_sparse_prefill_desc desc = DGRT_MLA_SPARSE_PREFILL_DESC;
  desc.num_heads = rng() % 2 ? pick_of(rng, {16, 64, 128}) : pick_size(rng, 1, 256);
  desc.head_dim_qk = pick_of(rng, {512, 576});
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.max_top_k = 64 * pick_size(rng, 1, 64);
  desc.dtype = rng() % 2 ? DGRT_BF16 : DGRT_FP16;
  desc.sm_budget = rng() % 4 ? 0 : static_cast<uint32_t>(pick_between(rng, 1, 132));
  desc.flags = random_flags(
      rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_LSE_BASE2, DGRT_MLA_LSE_EMPTY_INF});
  return desc;
}

inline dgrt_topk_transform_desc random_topk_transform(Rng& rng) {
  dgrt_topk_transform_desc desc = DGRT_TOPK_TRANSFORM_DESC;
  desc.top_k = rng() % 2 ? pick_of(rng, {512, 1024, 2048}) : pick_size(rng, 1, 2048);
  desc.max_rows = pick_size(rng, 0, random_max_m);
  desc.max_columns = pick_size(rng, 0, INT32_MAX);
  desc.flags = random_flags(rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT});
  return desc;
}

inline dgrt_mla_kv_append_desc random_mla_kv_append(Rng& rng) {
  dgrt_mla_kv_append_desc desc = DGRT_MLA_KV_APPEND_DESC;
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.format = rng() % 2 ? DGRT_MLA_KV_V32 : DGRT_MLA_KV_V4;
  desc.flags = random_flags(rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_KV_SLOTS_INT64});
  return desc;
}

inline dgrt_kv_dequant_paged_desc random_kv_dequant_paged(Rng& rng) {
  dgrt_kv_dequant_paged_desc desc = DGRT_KV_DEQUANT_PAGED_DESC;
  desc.max_rows = pick_size(rng, 0, random_max_m);
  desc.max_batch = rng() % 2 ? 0 : pick_size(rng, 0, random_max_m);
  desc.format = rng() % 2 ? DGRT_MLA_KV_V32 : DGRT_MLA_KV_V4;
  desc.flags = random_flags(rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT});
  if (desc.max_batch == 0) desc.flags |= random_flags(rng, {DGRT_KV_SLOTS_INT64});
  return desc;
}

inline dgrt_build_swa_token_ids_desc random_build_swa_token_ids(Rng& rng) {
  dgrt_build_swa_token_ids_desc desc = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  desc.window = pick_size(rng, 1, 4096);
  desc.max_batch = pick_size(rng, 0, random_max_m);
  desc.max_capacity = pick_size(rng, 0, random_max_m);
  desc.flags = random_flags(rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT});
  return desc;
}

inline dgrt_combine_topk_swa_indices_desc random_combine_topk_swa_indices(Rng& rng) {
  dgrt_combine_topk_swa_indices_desc desc = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  desc.window = pick_size(rng, 1, 4096);
  desc.ratio = pick_of(rng, {1, 4, 128});
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.flags = random_flags(rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT});
  return desc;
}

inline dgrt_mla_sparse_decode_desc random_mla_sparse_decode(Rng& rng) {
  dgrt_mla_sparse_decode_desc desc = DGRT_MLA_SPARSE_DECODE_DESC;
  desc.num_q_heads = rng() % 2 ? pick_of(rng, {8, 16, 64, 128}) : pick_size(rng, 1, 1024);
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.max_keys = rng() % 2 ? pick_of(rng, {640, 1152, 2048}) : pick_size(rng, 0, random_max_m);
  desc.format = rng() % 2 ? DGRT_MLA_KV_V32 : DGRT_MLA_KV_V4;
  desc.sm_budget = rng() % 4 ? 0 : static_cast<uint32_t>(pick_between(rng, 1, 132));
  desc.flags = random_flags(rng, {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_LSE_BASE2,
                                  DGRT_MLA_LSE_EMPTY_INF, DGRT_MLA_NO_SPLIT});
  return desc;
}

// What both ops of the indexer have.
template <class Desc>
void random_logits(Rng& rng, Desc* desc) {
  desc->num_heads = pick_of(rng, {8, 16, 32, 64});
  desc->head_dim = pick_of(rng, {32, 64, 128});
  desc->dtype_out = rng() % 2 ? DGRT_FP32 : DGRT_BF16;
  desc->sm_budget = rng() % 4 ? 0 : static_cast<uint32_t>(pick_between(rng, 1, 132));
  for (const uint32_t flag : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_LOGITS_CLEAN})
    if (rng() % 4 == 0) desc->flags |= flag;
}

inline dgrt_mqa_logits_desc random_mqa_logits(Rng& rng) {
  dgrt_mqa_logits_desc desc = DGRT_MQA_LOGITS_DESC;
  random_logits(rng, &desc);
  desc.max_tokens = pick_size(rng, 0, random_max_m);
  desc.max_kv_tokens = pick_size(rng, 0, 1 << 20);
  if (rng() % 4 == 0) desc.flags |= DGRT_LOGITS_COMPRESSED;
  return desc;
}

inline dgrt_paged_mqa_logits_desc random_paged_mqa_logits(Rng& rng) {
  dgrt_paged_mqa_logits_desc desc = DGRT_PAGED_MQA_LOGITS_DESC;
  random_logits(rng, &desc);
  desc.next_n = pick_between(rng, 1, 4);
  desc.page_size = pick_of(rng, {32, 64, 128});
  desc.max_batch = pick_size(rng, 0, random_max_m);
  desc.max_context_len = pick_size(rng, 0, 1 << 20);
  return desc;
}

// A desc that `op` accepts. Nothing: this header does not know the op yet.
inline std::optional<AnyDesc> random_desc(const OpImpl& op, Rng& rng) {
  const std::string_view stem = op.stem;
  if (stem == "gemm_fp8") return AnyDesc(random_gemm(rng, true));
  if (stem == "gemm_bf16") return AnyDesc(random_gemm(rng, false));
  if (stem == "gemm_grouped_contiguous_fp8") return AnyDesc(random_contiguous(rng, true));
  if (stem == "gemm_grouped_contiguous_bf16") return AnyDesc(random_contiguous(rng, false));
  if (stem == "gemm_grouped_masked_fp8") return AnyDesc(random_masked(rng, true));
  if (stem == "gemm_grouped_masked_bf16") return AnyDesc(random_masked(rng, false));
  if (stem == "gemm_batched_fp8") return AnyDesc(random_batched(rng, true));
  if (stem == "gemm_batched_bf16") return AnyDesc(random_batched(rng, false));
  if (stem == "gemm_fused_linear_bf16") return AnyDesc(random_fused_linear(rng));
  if (stem == "gemm_grouped_k_fp8") return AnyDesc(random_grouped_k(rng, true));
  if (stem == "gemm_grouped_k_bf16") return AnyDesc(random_grouped_k(rng, false));
  if (stem == "quant_fp8") return AnyDesc(random_quant_fp8(rng));
  if (stem == "scale_layout") return AnyDesc(random_scale_layout(rng));
  if (stem == "scale_pack_ue8m0") return AnyDesc(random_scale_pack(rng));
  if (stem == "hc_prenorm") return AnyDesc(random_hc_prenorm(rng));
  if (stem == "hc_prenorm_weights") return AnyDesc(random_hc_prenorm_weights(rng));
  if (stem == "attn_prefill") return AnyDesc(random_attn_prefill(rng));
  if (stem == "attn_decode") return AnyDesc(random_attn_decode(rng));
  if (stem == "attn_extend") return AnyDesc(random_attn_extend(rng));
  if (stem == "attn_merge") return AnyDesc(random_attn_merge(rng));
  if (stem == "kv_append") return AnyDesc(random_kv_append(rng));
  if (stem == "mla_decode") return AnyDesc(random_mla_decode(rng));
  if (stem == "mla_sparse_prefill") return AnyDesc(random_mla_sparse_prefill(rng));
  if (stem == "topk_transform") return AnyDesc(random_topk_transform(rng));
  if (stem == "mla_kv_append") return AnyDesc(random_mla_kv_append(rng));
  if (stem == "kv_dequant_paged") return AnyDesc(random_kv_dequant_paged(rng));
  if (stem == "build_swa_token_ids") return AnyDesc(random_build_swa_token_ids(rng));
  if (stem == "combine_topk_swa_indices") return AnyDesc(random_combine_topk_swa_indices(rng));
  if (stem == "mla_sparse_decode") return AnyDesc(random_mla_sparse_decode(rng));
  if (stem == "mqa_logits") return AnyDesc(random_mqa_logits(rng));
  if (stem == "paged_mqa_logits") return AnyDesc(random_paged_mqa_logits(rng));
  return std::nullopt;
}

}  // namespace dgrt::test
