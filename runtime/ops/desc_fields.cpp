#include "runtime/ops/desc_fields.h"

#include <cstddef>

#include "dgrt/attention.h"
#include "dgrt/gemm.h"
#include "dgrt/hyper.h"
#include "dgrt/indexer.h"
#include "dgrt/mla.h"

namespace dgrt {
namespace {

using Kind = DescField::Kind;

// ---- What values are called, in all ops ----

constexpr FieldValue dtypes[] = {
    {"bf16", DGRT_BF16}, {"fp16", DGRT_FP16}, {"fp32", DGRT_FP32}, {"e4m3", DGRT_E4M3}};
constexpr FieldValue scale_modes[] = {{"none", DGRT_SCALE_NONE},
                                      {"block", DGRT_SCALE_BLOCK},
                                      {"row", DGRT_SCALE_ROW},
                                      {"channel", DGRT_SCALE_CHANNEL}};
constexpr FieldValue group_layouts[] = {{"group_of_row", DGRT_GROUP_OF_ROW},
                                        {"end_row", DGRT_GROUP_END_ROW}};
constexpr FieldValue majors[] = {{"k", DGRT_K_MAJOR}, {"mn", DGRT_MN_MAJOR}};
constexpr FieldValue quant_blocks[] = {{"1x128", DGRT_QUANT_1X128},
                                       {"128x128", DGRT_QUANT_128X128}};
constexpr FieldValue common_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                       {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT}};
constexpr FieldValue pack_flags[] = {
    {"pdl", DGRT_FLAG_PDL}, {"ceil", DGRT_SCALE_CEIL}, {"k_grouped", DGRT_SCALE_K_GROUPED}};
constexpr FieldValue gemm_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                     {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT},
                                     {"with_c", DGRT_GEMM_WITH_C},
                                     {"with_bias", DGRT_GEMM_WITH_BIAS},
                                     {"unaligned_d", DGRT_GEMM_UNALIGNED_D},
                                     {"signal", DGRT_GEMM_SIGNAL},
                                     {"sum_batches", DGRT_GEMM_SUM_BATCHES}};

constexpr FieldValue paged_attn_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                       {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT},
                                       {"softcap", DGRT_ATTN_SOFTCAP},
                                       {"lse_base2", DGRT_ATTN_LSE_BASE2},
                                       {"lse_with_sink", DGRT_ATTN_LSE_WITH_SINK},
                                       {"mask_bytes", DGRT_ATTN_MASK_BYTES},
                                       {"mask_bits", DGRT_ATTN_MASK_BITS},
                                       {"mask_skip_prefix", DGRT_ATTN_MASK_SKIP_PREFIX},
                                       {"check_pages", DGRT_ATTN_CHECK_PAGES},
                                       {"new_keys", DGRT_ATTN_NEW_KEYS}};
// The other ops know the first of these.
constexpr std::span<const FieldValue> attn_flags = std::span(paged_attn_flags).first<5>();

constexpr FieldValue mla_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                    {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT},
                                    {"lse_base2", DGRT_MLA_LSE_BASE2},
                                    {"lse_empty_inf", DGRT_MLA_LSE_EMPTY_INF}};

constexpr FieldValue mla_sparse_decode_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                                  {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT},
                                                  {"lse_base2", DGRT_MLA_LSE_BASE2},
                                                  {"lse_empty_inf", DGRT_MLA_LSE_EMPTY_INF},
                                                  {"no_split", DGRT_MLA_NO_SPLIT}};

constexpr FieldValue append_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                       {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT},
                                       {"slots_int64", DGRT_KV_SLOTS_INT64}};

constexpr FieldValue mla_kv_formats[] = {{"v32", DGRT_MLA_KV_V32}, {"v4", DGRT_MLA_KV_V4}};
constexpr FieldValue logits_flags[] = {{"pdl", DGRT_FLAG_PDL},
                                       {"batch_invariant", DGRT_FLAG_BATCH_INVARIANT},
                                       {"clean", DGRT_LOGITS_CLEAN},
                                       {"compressed", DGRT_LOGITS_COMPRESSED}};
constexpr std::span<const FieldValue> paged_logits_flags = std::span(logits_flags).first<3>();

// ---- Rows: DGRT_FIELD(desc struct, member, kind, values of choice and flags) ----

constexpr std::span<const FieldValue> values_of(std::span<const FieldValue> values = {}) {
  return values;
}

#define DGRT_FIELD(type, member, kind, ...)                                                   \
  DescField {                                                                                 \
#member, offsetof(type, member), sizeof(type::member), Kind::kind, values_of(__VA_ARGS__) \
  }

constexpr DescField gemm[] = {
    DGRT_FIELD(dgrt_gemm_desc, n, int64),
    DGRT_FIELD(dgrt_gemm_desc, k, int64),
    DGRT_FIELD(dgrt_gemm_desc, max_m, int64),
    DGRT_FIELD(dgrt_gemm_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_desc, scale_mode, choice, scale_modes),
    DGRT_FIELD(dgrt_gemm_desc, b_scale_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_desc, flags, flags, gemm_flags),
    DGRT_FIELD(dgrt_gemm_desc, a_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_desc, b_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_desc, max_block_m, uint32),
    DGRT_FIELD(dgrt_gemm_desc, max_block_n, uint32),
    DGRT_FIELD(dgrt_gemm_desc, head_left, uint32),
    DGRT_FIELD(dgrt_gemm_desc, head_mid, uint32),
    DGRT_FIELD(dgrt_gemm_desc, head_right, uint32),
    DGRT_FIELD(dgrt_gemm_desc, reserved, reserved),
};

constexpr DescField gemm_grouped_contiguous[] = {
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, n, int64),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, k, int64),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, max_m, int64),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, num_groups, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, scale_mode, choice, scale_modes),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, b_scale_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, b_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, group_layout, choice, group_layouts),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, alignment, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, flags, flags, gemm_flags),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, max_block_m, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_contiguous_desc, max_block_n, uint32),
};

constexpr DescField gemm_grouped_masked[] = {
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, n, int64),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, k, int64),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, max_m, int64),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, num_groups, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, scale_mode, choice, scale_modes),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, b_scale_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, b_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, flags, flags, gemm_flags),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, max_block_m, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, max_block_n, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_masked_desc, reserved, reserved),
};

constexpr DescField gemm_batched[] = {
    DGRT_FIELD(dgrt_gemm_batched_desc, n, int64),
    DGRT_FIELD(dgrt_gemm_batched_desc, k, int64),
    DGRT_FIELD(dgrt_gemm_batched_desc, max_m, int64),
    DGRT_FIELD(dgrt_gemm_batched_desc, num_batches, uint32),
    DGRT_FIELD(dgrt_gemm_batched_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_batched_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_batched_desc, scale_mode, choice, scale_modes),
    DGRT_FIELD(dgrt_gemm_batched_desc, b_scale_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_batched_desc, a_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_batched_desc, b_major, choice, majors),
    DGRT_FIELD(dgrt_gemm_batched_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_batched_desc, flags, flags, gemm_flags),
    DGRT_FIELD(dgrt_gemm_batched_desc, max_block_m, uint32),
    DGRT_FIELD(dgrt_gemm_batched_desc, max_block_n, uint32),
    DGRT_FIELD(dgrt_gemm_batched_desc, reserved, reserved),
};

constexpr DescField gemm_grouped_k[] = {
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, m, int64),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, n, int64),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, max_k, int64),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, num_groups, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, scale_mode, choice, scale_modes),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, flags, flags, gemm_flags),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, max_block_m, uint32),
    DGRT_FIELD(dgrt_gemm_grouped_k_desc, max_block_n, uint32),
};

constexpr DescField gemm_fused_linear[] = {
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, k, int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, max_m, int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[0], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[1], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[2], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[3], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[4], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[5], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[6], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, n[7], int64),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, num_segments, uint32),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, dtype_ab, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, dtype_d, choice, dtypes),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, flags, flags, gemm_flags),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, max_block_m, uint32),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, max_block_n, uint32),
    DGRT_FIELD(dgrt_gemm_fused_linear_desc, reserved, reserved),
};

constexpr DescField quant_fp8[] = {
    DGRT_FIELD(dgrt_quant_fp8_desc, k, int64),
    DGRT_FIELD(dgrt_quant_fp8_desc, max_m, int64),
    DGRT_FIELD(dgrt_quant_fp8_desc, block, choice, quant_blocks),
    DGRT_FIELD(dgrt_quant_fp8_desc, scale_major, choice, majors),
    DGRT_FIELD(dgrt_quant_fp8_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_quant_fp8_desc, reserved, reserved),
};

constexpr DescField scale_layout[] = {
    DGRT_FIELD(dgrt_scale_layout_desc, k_blocks, int64),
    DGRT_FIELD(dgrt_scale_layout_desc, max_m, int64),
    DGRT_FIELD(dgrt_scale_layout_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_scale_layout_desc, src_major, choice, majors),
    DGRT_FIELD(dgrt_scale_layout_desc, num_groups, int64),
};

constexpr DescField scale_pack_ue8m0[] = {
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, k_blocks, int64),
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, max_m, int64),
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, num_groups, int64),
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, src_major, choice, majors),
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, gran_k, uint32),
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, flags, flags, pack_flags),
    DGRT_FIELD(dgrt_scale_pack_ue8m0_desc, reserved, reserved),
};

constexpr DescField hc_prenorm[] = {
    DGRT_FIELD(dgrt_hc_prenorm_desc, n, int64),
    DGRT_FIELD(dgrt_hc_prenorm_desc, k, int64),
    DGRT_FIELD(dgrt_hc_prenorm_desc, max_m, int64),
    DGRT_FIELD(dgrt_hc_prenorm_desc, max_splits, int64),
    DGRT_FIELD(dgrt_hc_prenorm_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_hc_prenorm_desc, reserved, reserved),
};

constexpr DescField hc_prenorm_weights[] = {
    DGRT_FIELD(dgrt_hc_prenorm_weights_desc, n, int64),
    DGRT_FIELD(dgrt_hc_prenorm_weights_desc, k, int64),
    DGRT_FIELD(dgrt_hc_prenorm_weights_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_hc_prenorm_weights_desc, reserved, reserved),
};

constexpr DescField attn_prefill[] = {
    DGRT_FIELD(dgrt_attn_prefill_desc, num_q_heads, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, num_kv_heads, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, head_dim_qk, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, head_dim_v, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, max_batch, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, max_q_len, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, max_kv_len, int64),
    DGRT_FIELD(dgrt_attn_prefill_desc, dtype, choice, dtypes),
    DGRT_FIELD(dgrt_attn_prefill_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_attn_prefill_desc, flags, flags, attn_flags),
    DGRT_FIELD(dgrt_attn_prefill_desc, dtype_kv, choice, dtypes),
};

constexpr DescField attn_decode[] = {
    DGRT_FIELD(dgrt_attn_decode_desc, num_q_heads, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, num_kv_heads, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, head_dim_qk, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, head_dim_v, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, max_batch, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, max_q_len, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, max_kv_len, int64),
    DGRT_FIELD(dgrt_attn_decode_desc, dtype, choice, dtypes),
    DGRT_FIELD(dgrt_attn_decode_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_attn_decode_desc, flags, flags, paged_attn_flags),
    DGRT_FIELD(dgrt_attn_decode_desc, dtype_kv, choice, dtypes),
};

constexpr DescField attn_extend[] = {
    DGRT_FIELD(dgrt_attn_extend_desc, num_q_heads, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, num_kv_heads, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, head_dim_qk, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, head_dim_v, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, max_batch, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, max_q_len, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, max_kv_len, int64),
    DGRT_FIELD(dgrt_attn_extend_desc, dtype, choice, dtypes),
    DGRT_FIELD(dgrt_attn_extend_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_attn_extend_desc, flags, flags, paged_attn_flags),
    DGRT_FIELD(dgrt_attn_extend_desc, dtype_kv, choice, dtypes),
};

constexpr DescField attn_merge[] = {
    DGRT_FIELD(dgrt_attn_merge_desc, num_heads, int64),
    DGRT_FIELD(dgrt_attn_merge_desc, head_dim, int64),
    DGRT_FIELD(dgrt_attn_merge_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_attn_merge_desc, max_parts, int64),
    DGRT_FIELD(dgrt_attn_merge_desc, dtype_part, choice, dtypes),
    DGRT_FIELD(dgrt_attn_merge_desc, dtype_o, choice, dtypes),
    DGRT_FIELD(dgrt_attn_merge_desc, flags, flags, attn_flags),
    DGRT_FIELD(dgrt_attn_merge_desc, reserved, reserved),
};

constexpr DescField kv_append[] = {
    DGRT_FIELD(dgrt_kv_append_desc, num_kv_heads, int64),
    DGRT_FIELD(dgrt_kv_append_desc, head_dim_qk, int64),
    DGRT_FIELD(dgrt_kv_append_desc, head_dim_v, int64),
    DGRT_FIELD(dgrt_kv_append_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_kv_append_desc, dtype, choice, dtypes),
    DGRT_FIELD(dgrt_kv_append_desc, dtype_cache, choice, dtypes),
    DGRT_FIELD(dgrt_kv_append_desc, flags, flags, append_flags),
    DGRT_FIELD(dgrt_kv_append_desc, reserved, reserved),
};

constexpr DescField mla_decode[] = {
    DGRT_FIELD(dgrt_mla_decode_desc, num_q_heads, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, num_kv_heads, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, head_dim_qk, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, head_dim_v, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, max_batch, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, max_q_len, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, max_kv_len, int64),
    DGRT_FIELD(dgrt_mla_decode_desc, dtype, choice, dtypes),
    DGRT_FIELD(dgrt_mla_decode_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_mla_decode_desc, flags, flags, mla_flags),
    DGRT_FIELD(dgrt_mla_decode_desc, dtype_kv, choice, dtypes),
    DGRT_FIELD(dgrt_mla_decode_desc, dtype_q, choice, dtypes),
    DGRT_FIELD(dgrt_mla_decode_desc, reserved, reserved),
};

constexpr DescField mla_sparse_prefill[] = {
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, num_heads, int64),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, head_dim_qk, int64),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, head_dim_v, int64),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, max_top_k, int64),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, dtype, choice, dtypes),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, flags, flags, mla_flags),
    DGRT_FIELD(dgrt_mla_sparse_prefill_desc, reserved, reserved),
};

constexpr DescField topk_transform[] = {
    DGRT_FIELD(dgrt_topk_transform_desc, top_k, int64),
    DGRT_FIELD(dgrt_topk_transform_desc, max_rows, int64),
    DGRT_FIELD(dgrt_topk_transform_desc, max_columns, int64),
    DGRT_FIELD(dgrt_topk_transform_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_topk_transform_desc, reserved, reserved),
};

constexpr DescField mla_kv_append[] = {
    DGRT_FIELD(dgrt_mla_kv_append_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_mla_kv_append_desc, format, choice, mla_kv_formats),
    DGRT_FIELD(dgrt_mla_kv_append_desc, flags, flags, append_flags),
};

constexpr DescField kv_dequant_paged[] = {
    DGRT_FIELD(dgrt_kv_dequant_paged_desc, max_rows, int64),
    DGRT_FIELD(dgrt_kv_dequant_paged_desc, max_batch, int64),
    DGRT_FIELD(dgrt_kv_dequant_paged_desc, format, choice, mla_kv_formats),
    DGRT_FIELD(dgrt_kv_dequant_paged_desc, flags, flags, append_flags),
};

constexpr DescField build_swa_token_ids[] = {
    DGRT_FIELD(dgrt_build_swa_token_ids_desc, window, int64),
    DGRT_FIELD(dgrt_build_swa_token_ids_desc, max_batch, int64),
    DGRT_FIELD(dgrt_build_swa_token_ids_desc, max_capacity, int64),
    DGRT_FIELD(dgrt_build_swa_token_ids_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_build_swa_token_ids_desc, reserved, reserved),
};

constexpr DescField combine_topk_swa_indices[] = {
    DGRT_FIELD(dgrt_combine_topk_swa_indices_desc, window, int64),
    DGRT_FIELD(dgrt_combine_topk_swa_indices_desc, ratio, int64),
    DGRT_FIELD(dgrt_combine_topk_swa_indices_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_combine_topk_swa_indices_desc, flags, flags, common_flags),
    DGRT_FIELD(dgrt_combine_topk_swa_indices_desc, reserved, reserved),
};

constexpr DescField mla_sparse_decode[] = {
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, num_q_heads, int64),
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, max_keys, int64),
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, format, choice, mla_kv_formats),
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, flags, flags, mla_sparse_decode_flags),
    DGRT_FIELD(dgrt_mla_sparse_decode_desc, reserved, reserved),
};

constexpr DescField mqa_logits[] = {
    DGRT_FIELD(dgrt_mqa_logits_desc, num_heads, int64),
    DGRT_FIELD(dgrt_mqa_logits_desc, head_dim, int64),
    DGRT_FIELD(dgrt_mqa_logits_desc, max_tokens, int64),
    DGRT_FIELD(dgrt_mqa_logits_desc, max_kv_tokens, int64),
    DGRT_FIELD(dgrt_mqa_logits_desc, dtype_out, choice, dtypes),
    DGRT_FIELD(dgrt_mqa_logits_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_mqa_logits_desc, flags, flags, logits_flags),
    DGRT_FIELD(dgrt_mqa_logits_desc, reserved, reserved),
};

constexpr DescField paged_mqa_logits[] = {
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, num_heads, int64),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, head_dim, int64),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, next_n, int64),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, page_size, int64),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, max_batch, int64),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, max_context_len, int64),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, dtype_out, choice, dtypes),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, sm_budget, uint32),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, flags, flags, paged_logits_flags),
    DGRT_FIELD(dgrt_paged_mqa_logits_desc, reserved, reserved),
};

constexpr DescFields all[] = {
    {DGRT_OP_GEMM, "gemm", sizeof(dgrt_gemm_desc), gemm},
    {DGRT_OP_GEMM_GROUPED_CONTIGUOUS, "gemm_grouped_contiguous",
     sizeof(dgrt_gemm_grouped_contiguous_desc), gemm_grouped_contiguous},
    {DGRT_OP_GEMM_GROUPED_MASKED, "gemm_grouped_masked", sizeof(dgrt_gemm_grouped_masked_desc),
     gemm_grouped_masked},
    {DGRT_OP_GEMM_BATCHED, "gemm_batched", sizeof(dgrt_gemm_batched_desc), gemm_batched},
    {DGRT_OP_GEMM_GROUPED_K, "gemm_grouped_k", sizeof(dgrt_gemm_grouped_k_desc), gemm_grouped_k},
    {DGRT_OP_GEMM_FUSED_LINEAR, "gemm_fused_linear", sizeof(dgrt_gemm_fused_linear_desc),
     gemm_fused_linear},
    {DGRT_OP_QUANT_FP8, "quant_fp8", sizeof(dgrt_quant_fp8_desc), quant_fp8},
    {DGRT_OP_SCALE_LAYOUT, "scale_layout", sizeof(dgrt_scale_layout_desc), scale_layout},
    {DGRT_OP_SCALE_PACK_UE8M0, "scale_pack_ue8m0", sizeof(dgrt_scale_pack_ue8m0_desc),
     scale_pack_ue8m0},
    {DGRT_OP_HC_PRENORM, "hc_prenorm", sizeof(dgrt_hc_prenorm_desc), hc_prenorm},
    {DGRT_OP_HC_PRENORM_WEIGHTS, "hc_prenorm_weights", sizeof(dgrt_hc_prenorm_weights_desc),
     hc_prenorm_weights},
    {DGRT_OP_ATTN_PREFILL, "attn_prefill", sizeof(dgrt_attn_prefill_desc), attn_prefill},
    {DGRT_OP_ATTN_DECODE, "attn_decode", sizeof(dgrt_attn_decode_desc), attn_decode},
    {DGRT_OP_ATTN_EXTEND, "attn_extend", sizeof(dgrt_attn_extend_desc), attn_extend},
    {DGRT_OP_ATTN_MERGE, "attn_merge", sizeof(dgrt_attn_merge_desc), attn_merge},
    {DGRT_OP_KV_APPEND, "kv_append", sizeof(dgrt_kv_append_desc), kv_append},
    {DGRT_OP_MLA_DECODE, "mla_decode", sizeof(dgrt_mla_decode_desc), mla_decode},
    {DGRT_OP_MLA_SPARSE_DECODE, "mla_sparse_decode", sizeof(dgrt_mla_sparse_decode_desc), mla_sparse_decode},
    {DGRT_OP_MLA_SPARSE_PREFILL, "mla_sparse_prefill", sizeof(dgrt_mla_sparse_prefill_desc), mla_sparse_prefill},
    {DGRT_OP_TOPK_TRANSFORM, "topk_transform", sizeof(dgrt_topk_transform_desc), topk_transform},
    {DGRT_OP_MLA_KV_APPEND, "mla_kv_append", sizeof(dgrt_mla_kv_append_desc), mla_kv_append},
    {DGRT_OP_KV_DEQUANT_PAGED, "kv_dequant_paged", sizeof(dgrt_kv_dequant_paged_desc), kv_dequant_paged},
    {DGRT_OP_BUILD_SWA_TOKEN_IDS, "build_swa_token_ids", sizeof(dgrt_build_swa_token_ids_desc),
     build_swa_token_ids},
    {DGRT_OP_COMBINE_TOPK_SWA_INDICES, "combine_topk_swa_indices", sizeof(dgrt_combine_topk_swa_indices_desc),
     combine_topk_swa_indices},
    {DGRT_OP_MQA_LOGITS, "mqa_logits", sizeof(dgrt_mqa_logits_desc), mqa_logits},
    {DGRT_OP_PAGED_MQA_LOGITS, "paged_mqa_logits", sizeof(dgrt_paged_mqa_logits_desc), paged_mqa_logits},
};

}  // namespace

std::span<const DescFields> all_desc_fields() { return all; }

const DescFields* find_desc_fields(uint32_t op_id) {
  for (const DescFields& fields : all)
    if (fields.op_id == op_id) return &fields;
  return nullptr;
}

}  // namespace dgrt
