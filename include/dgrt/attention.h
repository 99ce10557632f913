/* Attention over cached or freshly computed keys. Read dgrt.h first. */
#ifndef DGRT_ATTENTION_H_
#define DGRT_ATTENTION_H_

#include "dgrt/dgrt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of attention, besides those that every op knows. */
#define DGRT_ATTN_SOFTCAP (1u << 16)       /* args.softcap bounds the logits */
#define DGRT_ATTN_LSE_BASE2 (1u << 17)     /* lse in powers of two instead of e */
#define DGRT_ATTN_LSE_WITH_SINK (1u << 18) /* lse counts the sink; it cannot be merged then */

/* ---- attn_prefill ---------------------------------------------------------------------------- */

/* attn_prefill: attention of a ragged batch, whose keys and values lie contiguously, one behind the other.
 * For each sequence b, query i of its E and query head h, with keys j of its L and P = L - E:
 *   s_j = scale * dot(q_i, k_j); with SOFTCAP s_j = softcap * tanh(s_j / softcap)
 *   o_i = sum over visible j of exp(s_j) v_j / (sum over visible j of exp(s_j) + exp(sinks[h]))
 *   lse_i = log(sum over visible j of exp(s_j)); j is visible where
 *   P + i - window_left <= j <= P + i + window_right: the last query sees the last key. A window of -1 is
 *   none; window_right 0 is a causal mask. window_left keys and the query's own make window_left + 1.
 *
 * Shapes   q [total_q, num_q_heads, head_dim_qk], k [total_kv, num_kv_heads, head_dim_qk],
 *          v [total_kv, num_kv_heads, head_dim_v], o [total_q, num_q_heads, head_dim_v], lse fp32
 *          [total_q, num_q_heads], sinks fp32 [num_q_heads]; query head h reads key head
 *          h / (num_q_heads / num_kv_heads). lse and sinks may be NULL: not stored, no sink.
 *          q_indptr, kv_indptr int32 [batch + 1]: sequence b has tokens indptr[b] to indptr[b + 1] - 1.
 *          They rise from 0; tokens past the last entry belong to no sequence: their rows of o and lse are
 *          not written.
 * Types    dtype, of q, k, v and o: bf16 or fp16.
 * Layout   Last axis contiguous. *_token_stride, *_head_stride: elements between tokens and between heads.
 *          Of q, k, v and o: at least head_dim and a multiple of 8 (16 bytes); pointers 16-byte aligned. Of
 *          lse: at least 1. indptr, lse and sinks 4-byte aligned. Outputs must not overlap inputs.
 * Sizes    head_dim_qk and head_dim_v multiples of 8 up to 512. num_q_heads a multiple of num_kv_heads.
 *          0 <= batch <= max_batch,
 *          max_q_len <= desc.max_q_len, max_kv_len <= desc.max_kv_len: of the longest sequence, or more; hints
 *          that only the choice of kernel depends on. total_q, total_kv < 2^30. total_q or batch 0
 *          launches nothing. Longer or negative sequences than indptr allows are cut to total_q and total_kv.
 * Numerics fp32 softmax, weights rounded to dtype before they meet v, fp32 sums. A query that sees no key has
 *          o = 0 and lse = -inf. Keys and values that no query of a tile may see, those of other sequences
 *          among them, are never used; a NaN in the value of a key that another query of the same tile sees
 *          may spread to the tile. lse is natural and without the sink, so that results can be merged.
 *          Equal inputs give bitwise equal outputs. A row's bits may depend on batch, max_q_len and max_kv_len,
 *          unless DGRT_FLAG_BATCH_INVARIANT is set.
 * Memory   A workspace of a few bytes, whose first state_bytes are zero before the first call and again after
 *          every call.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for these types.
 * Source   kernels/attention/sm90_attn_prefill.cuh */
typedef struct dgrt_attn_prefill_desc {
  dgrt_op op; /* start from DGRT_ATTN_PREFILL_DESC */
  int64_t num_q_heads, num_kv_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_batch, max_q_len, max_kv_len; /* largest of args */
  dgrt_dtype dtype;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_... */
  uint32_t reserved;
} dgrt_attn_prefill_desc;
#define DGRT_ATTN_PREFILL_DESC {{DGRT_OP_ATTN_PREFILL, sizeof(dgrt_attn_prefill_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_attn_prefill_args {
  dgrt_op op; /* start from DGRT_ATTN_PREFILL_ARGS: causal */
  const void *q, *k, *v;
  void* o;
  float* lse;
  const float* sinks;
  const int32_t *q_indptr, *kv_indptr;
  int64_t batch, total_q, total_kv, max_q_len, max_kv_len;
  int64_t q_token_stride, q_head_stride, k_token_stride, k_head_stride, v_token_stride, v_head_stride;
  int64_t o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
  int64_t window_left, window_right;
  float scale;   /* > 0; usually 1 / sqrt(head_dim_qk) */
  float softcap; /* > 0 with SOFTCAP, else 0 */
} dgrt_attn_prefill_args;
#define DGRT_ATTN_PREFILL_ARGS {{DGRT_OP_ATTN_PREFILL, sizeof(dgrt_attn_prefill_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0.0f, 0.0f}

/* ---- attn_decode ----------------------------------------------------------------------------- */

/* attn_decode: attention of the last few tokens of every sequence over its paged cache, which holds their
 * own keys and values already: decode with one token, speculative verify with several. Keys are split over
 * SMs as their numbers ask for, which are read on the device. Maths as attn_prefill, with E the tokens of q
 * and L of seq_lens.
 *
 * Shapes   q [total_q, num_q_heads, head_dim_qk], o [total_q, num_q_heads, head_dim_v], lse fp32 [total_q,
 *          num_q_heads], sinks fp32 [num_q_heads], q_indptr int32 [batch + 1], as in attn_prefill.
 *          k [num_pages, page_size, num_kv_heads, head_dim_qk], v [num_pages, page_size, num_kv_heads,
 *          head_dim_v], in any order of the first three axes, by strides.
 *          page_table int32 [batch, max_pages], rows page_table_stride apart, seq_lens int32 [batch]: key j of
 *          sequence b is slot j % page_size of page page_table[b][j / page_size], for j < seq_lens[b].
 *          Sequences may share pages. Entries of keys that no query sees are not read.
 * Types    dtype, of q, k, v and o: bf16 or fp16.
 * Layout   As in attn_prefill. *_page_stride: elements between pages, a multiple of 8.
 * Sizes    head_dim_qk and head_dim_v multiples of 8 up to 512. num_q_heads a multiple of num_kv_heads.
 *          page_size at least 1. 0 <= batch <= max_batch, max_q_len <= desc.max_q_len, max_kv_len <=
 *          desc.max_kv_len: of the longest sequence, or more; hints that only the choice of kernel and the
 *          size of its grid depend on. total_q, num_pages, max_pages * page_size < 2^30. total_q or batch 0
 *          launches nothing. Sequences longer than total_q or max_pages * page_size are cut, negative ones
 *          empty. Keys of pages that num_pages does not reach count as zeros.
 * Numerics As attn_prefill. What lies in slots that no query of a tile may see, is never used. A row's bits
 *          may depend on all lengths of the batch and on the hints, unless DGRT_FLAG_BATCH_INVARIANT is set:
 *          then on its own sequence alone, which may not have more than max_q_len tokens: it is cut there.
 * Memory   A workspace for parts of rows, whose first state_bytes are zero before the first call and again
 *          after every call. Its size depends on the device; with BATCH_INVARIANT also on batch and max_q_len.
 * Needs    SM90.
 * Errors   As attn_prefill.
 * Source   kernels/attention/sm90_attn_decode.cuh */
typedef struct dgrt_attn_decode_desc {
  dgrt_op op; /* start from DGRT_ATTN_DECODE_DESC */
  int64_t num_q_heads, num_kv_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_batch, max_q_len, max_kv_len; /* largest of args */
  dgrt_dtype dtype;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_... */
  uint32_t reserved;
} dgrt_attn_decode_desc;
#define DGRT_ATTN_DECODE_DESC {{DGRT_OP_ATTN_DECODE, sizeof(dgrt_attn_decode_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_attn_decode_args {
  dgrt_op op; /* start from DGRT_ATTN_DECODE_ARGS: causal */
  const void *q, *k, *v;
  void* o;
  float* lse;
  const float* sinks;
  const int32_t *q_indptr, *page_table, *seq_lens;
  int64_t batch, total_q, max_q_len, max_kv_len;
  int64_t page_size, num_pages, max_pages, page_table_stride;
  int64_t q_token_stride, q_head_stride;
  int64_t k_page_stride, k_token_stride, k_head_stride, v_page_stride, v_token_stride, v_head_stride;
  int64_t o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
  int64_t window_left, window_right;
  float scale;   /* > 0; usually 1 / sqrt(head_dim_qk) */
  float softcap; /* > 0 with SOFTCAP, else 0 */
} dgrt_attn_decode_args;
#define DGRT_ATTN_DECODE_ARGS {{DGRT_OP_ATTN_DECODE, sizeof(dgrt_attn_decode_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0.0f, 0.0f}

/* ---- attn_extend ----------------------------------------------------------------------------- */

/* attn_extend: attention of many new tokens of every sequence over its paged cache, which holds their own
 * keys and values already: chunked prefill. Maths as attn_prefill, with E the tokens of q and L of seq_lens;
 * tensors as attn_decode, which is faster for up to 16 tokens.
 *
 * Shapes   As in attn_decode.
 * Types    dtype, of q, k, v and o: bf16 or fp16.
 * Layout   As in attn_decode. *_page_stride: less than 2^40 bytes.
 * Sizes    As in attn_decode. Any page_size; multiples of 16 are fastest.
 * Numerics As attn_prefill. What lies in slots that no query of a tile may see, is never used; entries of pages
 *          of such slots alone are not read. A row's bits may depend on batch, max_q_len and max_kv_len, unless
 *          DGRT_FLAG_BATCH_INVARIANT is set.
 * Memory   A workspace of a few bytes, whose first state_bytes are zero before the first call and again after
 *          every call.
 * Needs    SM90.
 * Errors   As attn_prefill.
 * Source   kernels/attention/sm90_attn_extend.cuh */
typedef struct dgrt_attn_extend_desc {
  dgrt_op op; /* start from DGRT_ATTN_EXTEND_DESC */
  int64_t num_q_heads, num_kv_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_batch, max_q_len, max_kv_len; /* largest of args */
  dgrt_dtype dtype;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_... */
  uint32_t reserved;
} dgrt_attn_extend_desc;
#define DGRT_ATTN_EXTEND_DESC {{DGRT_OP_ATTN_EXTEND, sizeof(dgrt_attn_extend_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_attn_extend_args {
  dgrt_op op; /* start from DGRT_ATTN_EXTEND_ARGS: causal */
  const void *q, *k, *v;
  void* o;
  float* lse;
  const float* sinks;
  const int32_t *q_indptr, *page_table, *seq_lens;
  int64_t batch, total_q, max_q_len, max_kv_len;
  int64_t page_size, num_pages, max_pages, page_table_stride;
  int64_t q_token_stride, q_head_stride;
  int64_t k_page_stride, k_token_stride, k_head_stride, v_page_stride, v_token_stride, v_head_stride;
  int64_t o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
  int64_t window_left, window_right;
  float scale;   /* > 0; usually 1 / sqrt(head_dim_qk) */
  float softcap; /* > 0 with SOFTCAP, else 0 */
} dgrt_attn_extend_args;
#define DGRT_ATTN_EXTEND_ARGS {{DGRT_OP_ATTN_EXTEND, sizeof(dgrt_attn_extend_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0.0f, 0.0f}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(attn_prefill)
DGRT_TYPED_CALLS(attn_decode)
DGRT_TYPED_CALLS(attn_extend)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_ATTENTION_H_ */
