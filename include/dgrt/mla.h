/* Multi-head latent attention: over a cache whose rows are keys and values at once, and what surrounds attention
 * over the sparse, quantised caches of DeepSeek-V3.2 and V4. Read dgrt.h first. */
#ifndef DGRT_MLA_H_
#define DGRT_MLA_H_

#include "dgrt/attention.h" /* DGRT_KV_SLOTS_INT64 */

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of MLA, besides those that every op knows. */
#define DGRT_MLA_LSE_BASE2 (1u << 17)     /* lse in powers of two instead of e */
#define DGRT_MLA_LSE_EMPTY_INF (1u << 24) /* lse of a query that sees no key is +inf, as FlashMLA has it */
#define DGRT_MLA_NO_SPLIT (1u << 25)      /* mla_sparse_decode: one SM has all keys of a token and its 64 heads */

/* ---- mla_decode ------------------------------------------------------------------------------ */

/* mla_decode: attention of the last few tokens of every sequence over its paged cache of latent rows, which holds
 * their own already: decode with one token, speculative verify with several. A row of the cache is the key of all
 * query heads that share it, and its first head_dim_v columns are their value. Keys are split over SMs as their
 * numbers ask for, which are read on the device: there is no schedule to make beforehand, and a captured graph
 * may be replayed with other lengths. For each sequence b, query i of its E and query head h, with keys j of its L:
 *   s_j = scale * dot(q_i, kv_j)
 *   o_i = sum over visible j of exp(s_j) kv_j[0 .. head_dim_v) / sum over visible j of exp(s_j)
 *   lse_i = log(sum over visible j of exp(s_j)); j is visible where j <= L - E + i, or, not causal, always.
 *
 * Shapes   q [total_q, num_q_heads, head_dim_qk], o [total_q, num_q_heads, head_dim_v], lse fp32 [total_q,
 *          num_q_heads]; query head h reads key head h / (num_q_heads / num_kv_heads). lse may be NULL: not stored.
 *          q_indptr int32 [batch + 1]: sequence b has tokens q_indptr[b] to q_indptr[b + 1] - 1. They rise from 0;
 *          tokens past the last entry belong to no sequence: their rows of o and lse are not written.
 *          kv [num_pages, page_size, num_kv_heads, head_dim_qk], in any order of the first three axes, by strides.
 *          page_table int32 [batch, max_pages], rows page_table_stride apart, seq_lens int32 [batch]: key j of
 *          sequence b is slot j % page_size of page page_table[b][j / page_size], for j < seq_lens[b]. Sequences may
 *          share pages. Entries of keys that no query sees are not read.
 *          q_scale, kv_scale fp32 [1], in device memory: what e4m3 q and kv are multiplied by. NULL: 1.
 * Types    dtype, of o: bf16 or fp16. dtype_kv, of kv: 0 or dtype, or e4m3. dtype_q, of q: 0 or dtype, or, over a cache
 *          of e4m3, e4m3. q_scale and kv_scale must be NULL where q and kv are not e4m3.
 * Layout   Last axis contiguous. *_page_stride, *_token_stride, *_head_stride: elements. Of q, kv and o: multiples
 *          of 16 bytes, between tokens and heads at least the columns; pointers 16-byte aligned. Of lse: at least
 *          1. Integers, scales and lse 4-byte aligned. Outputs must not overlap inputs.
 * Sizes    head_dim_qk 576, head_dim_v 512. num_q_heads a multiple of num_kv_heads. page_size at least 1; multiples
 *          of 64 are fastest, then of 8. 0 <= batch <= max_batch, max_q_len <= desc.max_q_len, max_kv_len <=
 *          desc.max_kv_len: of the longest sequence, or more; hints. total_q, num_pages, max_pages * page_size <
 *          2^30. total_q or batch 0 launches nothing. Sequences longer than total_q or max_pages * page_size are
 *          cut, negative ones empty. Keys of pages that num_pages does not reach count as zeros.
 * Numerics fp32 softmax, weights rounded to dtype (with e4m3 queries: to fp16) before they meet values, fp32 sums. e4m3
 *          is multiplied as fp16 or dtype, which have all its values, NaN among them; scales are applied in fp32, to
 *          the logits and to o. A query that sees no key has o = 0 and lse = -inf. What lies in slots that no query of
 *          a tile of 64 rows may see, is never used; a NaN in a row that another query of the same tile sees may
 *          spread to the tile. lse is natural, so that results can be merged (attn_merge). Equal inputs give bitwise
 *          equal outputs. A row's bits may depend on all lengths of the batch and on the hints, unless
 *          DGRT_FLAG_BATCH_INVARIANT is set: then on its own sequence alone, which may not have more than max_q_len
 *          tokens: it is cut there.
 * Memory   A workspace for parts of rows, whose first state_bytes are zero before the first call and again after
 *          every call. Two tiles of 64 x 516 floats for each SM (34 MiB on 132), whatever the sizes; with
 *          BATCH_INVARIANT 16 of them for each row tile of every sequence.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for these types.
 * Source   kernels/mla/sm90_mla_decode.cuh */
typedef struct dgrt_mla_decode_desc {
  dgrt_op op; /* start from DGRT_MLA_DECODE_DESC */
  int64_t num_q_heads, num_kv_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_batch, max_q_len, max_kv_len; /* largest of args */
  dgrt_dtype dtype;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;      /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_LSE_... */
  dgrt_dtype dtype_kv; /* of kv. 0: dtype */
  dgrt_dtype dtype_q;  /* of q. 0: dtype */
  uint32_t reserved;
} dgrt_mla_decode_desc;
#define DGRT_MLA_DECODE_DESC {{DGRT_OP_MLA_DECODE, sizeof(dgrt_mla_decode_desc)}, 0, 1, 576, 512, 0, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_mla_decode_args {
  dgrt_op op; /* start from DGRT_MLA_DECODE_ARGS: causal */
  const void *q, *kv;
  void* o;
  float* lse;
  const int32_t *q_indptr, *page_table, *seq_lens;
  int64_t batch, total_q, max_q_len, max_kv_len;
  int64_t page_size, num_pages, max_pages, page_table_stride;
  int64_t q_token_stride, q_head_stride;
  int64_t kv_page_stride, kv_token_stride, kv_head_stride;
  int64_t o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
  float scale;     /* > 0; of the model: 1 / sqrt(192) and its factor of YaRN for DeepSeek-V3, not of 576 */
  uint32_t causal; /* 1, or 0: every query sees all keys */
  const float *q_scale, *kv_scale; /* e4m3 only */
} dgrt_mla_decode_args;
#define DGRT_MLA_DECODE_ARGS {{DGRT_OP_MLA_DECODE, sizeof(dgrt_mla_decode_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0f, 1, NULL, NULL}

/* ---- topk_transform -------------------------------------------------------------------------- */

/* topk_transform: which tokens attention reads: for each row of an indexer's scores the positions of its top_k
 * largest, and where a page table puts them in the cache.
 *   positions[r] = the positions i < lengths[r] with the top_k largest scores[r, i], in ascending order
 *   slots[r, j] = page_table[r, positions[r, j] / page_size] * page_size + positions[r, j] % page_size
 * A row with lengths[r] <= top_k has positions 0 to lengths[r] - 1; what is left of it is -1, as are the slots.
 *
 * Shapes   scores [rows, columns], lengths [rows], page_table [rows, num_pages], positions and slots
 *          [rows, top_k]. positions or slots may be NULL: not wanted. Without slots page_table is not read.
 * Types    scores fp32, the others int32.
 * Layout   Last axis contiguous. *_row_stride: elements between rows, less than 2^40. scores 16-byte aligned,
 *          scores_row_stride at least columns and a multiple of 4, the others 4-byte aligned, their strides at
 *          least a row; a page_table_row_stride of 0 is one table for all rows. Outputs must not overlap inputs.
 * Sizes    1 <= top_k <= 2048. 0 <= rows <= max_rows < 2^30. 0 <= columns <= max_columns < 2^31. page_size at
 *          least 1, any. lengths are cut to 0 and columns; scores at and past the length are not used. rows 0
 *          launches nothing. A position past the page table, on a page that is negative or with a slot past
 *          int32 has slot -1.
 * Numerics Exact for any scores: the order is that of numbers, -0 equals 0, subnormal numbers and infinities
 *          count, NaN is less than everything. Of equal scores the lowest positions are taken. Equal inputs
 *          give bitwise equal outputs.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for this device.
 * Source   kernels/mla/sm90_topk_transform.cuh */
typedef struct dgrt_topk_transform_desc {
  dgrt_op op; /* start from DGRT_TOPK_TRANSFORM_DESC */
  int64_t top_k;
  int64_t max_rows, max_columns;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT */
  uint32_t reserved;
} dgrt_topk_transform_desc;
#define DGRT_TOPK_TRANSFORM_DESC {{DGRT_OP_TOPK_TRANSFORM, sizeof(dgrt_topk_transform_desc)}, 0, 0, 0, 0, 0}

typedef struct dgrt_topk_transform_args {
  dgrt_op op; /* start from DGRT_TOPK_TRANSFORM_ARGS */
  const float* scores;
  const int32_t *lengths, *page_table;
  int32_t *positions, *slots;
  int64_t rows, columns;
  int64_t page_size, num_pages;
  int64_t scores_row_stride, page_table_row_stride, positions_row_stride, slots_row_stride;
} dgrt_topk_transform_args;
#define DGRT_TOPK_TRANSFORM_ARGS {{DGRT_OP_TOPK_TRANSFORM, sizeof(dgrt_topk_transform_args)}, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0}

/* ---- Quantised caches of sparse MLA ---------------------------------------------------------------- */

/* A cache is num_pages pages of page_size tokens; slot s is place s % page_size of page s / page_size. Pages are
 * cache_page_stride bytes apart: a multiple of 16, at least page_size tokens' bytes. The cache is 16-byte aligned.
 * num_pages * page_size < 2^31. Offsets are 64-bit: a cache may have any number of bytes. */
typedef uint32_t dgrt_mla_kv_format;
enum {
  /* 656 bytes a token, side by side: 512 e4m3, 4 fp32 scales of 128 columns each, 64 bf16 (DeepSeek-V3.2). */
  DGRT_MLA_KV_V32 = 1,
  /* 584 bytes a token (DeepSeek-V4): first 576 for each token of the page: 448 e4m3, 64 bf16; then 8 for each: e8m0
   * scales 2^(byte - 127) of 64 columns each, and one byte that nobody reads. FlashMLA wants page strides that
   * are multiples of 576. */
  DGRT_MLA_KV_V4 = 2
};

/* ---- mla_kv_append --------------------------------------------------------------------------- */

/* mla_kv_append: quantises the latent rows of new tokens into their slots of a cache. Tokens whose slot is negative
 * or num_pages * page_size and more are skipped: -1 is what engines write.
 *   amax = of a group's |x|, without NaN; at least 1e-4, at most the largest fp32 number
 *   V32: scale = amax / 448, q = e4m3(x * (1 / scale)).  V4: scale = 2^ceil(log2(amax / 448)), q = e4m3(x / scale).
 *
 * Shapes   latent [tokens, 512], with V4 [tokens, 448], rotary [tokens, 64], slot_mapping [tokens].
 * Types    latent and rotary bf16; rotary is copied bit for bit. Scales in fp32, e4m3 rounded to nearest even; beyond
 *          448 it becomes 448, NaN stays NaN. slot_mapping int32, with KV_SLOTS_INT64 int64.
 * Layout   Last axis contiguous. *_token_stride: elements between tokens, at least the columns and a multiple of 8.
 *          latent and rotary 16-byte aligned: they may be parts of the same rows. slot_mapping aligned to its
 *          elements. The cache overlaps neither of them.
 * Sizes    0 <= tokens <= max_tokens < 2^30. tokens or num_pages 0 launches nothing.
 * Numerics Both divisions are IEEE: the bytes are those of the formula. Of tokens that share a slot, any may win,
 *          for each part of it anew. Nothing but the tokens' slots is written, of V4 the eighth scale byte as 0.
 *          Equal inputs give bitwise equal caches otherwise.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As topk_transform.
 * Source   kernels/mla/sm90_mla_kv_append.cuh */
typedef struct dgrt_mla_kv_append_desc {
  dgrt_op op; /* start from DGRT_MLA_KV_APPEND_DESC */
  int64_t max_tokens;
  dgrt_mla_kv_format format;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_KV_SLOTS_INT64 */
} dgrt_mla_kv_append_desc;
#define DGRT_MLA_KV_APPEND_DESC {{DGRT_OP_MLA_KV_APPEND, sizeof(dgrt_mla_kv_append_desc)}, 0, 0, 0}

typedef struct dgrt_mla_kv_append_args {
  dgrt_op op; /* start from DGRT_MLA_KV_APPEND_ARGS */
  const void *latent, *rotary;
  void* cache;
  const void* slot_mapping;
  int64_t tokens, page_size, num_pages;
  int64_t latent_token_stride, rotary_token_stride;
  int64_t cache_page_stride;
} dgrt_mla_kv_append_args;
#define DGRT_MLA_KV_APPEND_ARGS {{DGRT_OP_MLA_KV_APPEND, sizeof(dgrt_mla_kv_append_args)}, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/* ---- kv_dequant_paged ------------------------------------------------------------------------ */

/* kv_dequant_paged: rows of a quantised cache as bf16, for attention that reads a plain workspace.
 *   By slot:     out[i] = the row of slot slots[i].
 *   By sequence: out[b, i] = the row of position seq_lens[b] - n + i of sequence b, i < n = min(gather_lens[b],
 *                seq_lens[b], rows): the last n. Position j is place j % page_size of page page_table[b, j / page_size].
 * An out row of a slot or page that does not exist is zeros.
 *
 * Shapes   out [rows, columns], by sequence [batch, rows, columns]; columns 576 with V32, 512 with V4. slots [rows];
 *          seq_lens and gather_lens [batch], page_table [batch, max_pages]. gather_lens may be NULL: all. By sequence
 *          rows of out past n are not written.
 * Types    out bf16: e4m3 * scale in fp32, rounded once to nearest even; rotary columns copied. slots int32, with
 *          KV_SLOTS_INT64 int64; the others int32.
 * Layout   Last axis contiguous. out_row_stride, out_sequence_stride: elements, the first at least columns, multiples
 *          of 8; page_table_row_stride at least max_pages. out 16-byte aligned, slots to its elements, the others
 *          4-byte. out overlaps nothing.
 * Sizes    0 <= rows <= max_rows < 2^30. By slot batch is 0, as is max_batch, which says which of the two a plan is
 *          for; by sequence 0 <= batch <= max_batch < 2^30. rows, or by sequence batch, 0 launches nothing.
 * Numerics Any fp32 scales. A scale byte of 255 is infinity. Equal inputs give bitwise equal outputs.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As topk_transform.
 * Source   kernels/mla/sm90_kv_dequant_paged.cuh */
typedef struct dgrt_kv_dequant_paged_desc {
  dgrt_op op; /* start from DGRT_KV_DEQUANT_PAGED_DESC */
  int64_t max_rows;
  int64_t max_batch; /* 0: by slot */
  dgrt_mla_kv_format format;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_KV_SLOTS_INT64 */
} dgrt_kv_dequant_paged_desc;
#define DGRT_KV_DEQUANT_PAGED_DESC {{DGRT_OP_KV_DEQUANT_PAGED, sizeof(dgrt_kv_dequant_paged_desc)}, 0, 0, 0, 0}

typedef struct dgrt_kv_dequant_paged_args {
  dgrt_op op; /* start from DGRT_KV_DEQUANT_PAGED_ARGS */
  const void* cache;
  void* out;
  const void* slots;
  const int32_t *seq_lens, *gather_lens, *page_table;
  int64_t rows, batch;
  int64_t page_size, num_pages, max_pages;
  int64_t cache_page_stride; /* bytes */
  int64_t out_row_stride, out_sequence_stride, page_table_row_stride;
} dgrt_kv_dequant_paged_args;
#define DGRT_KV_DEQUANT_PAGED_ARGS {{DGRT_OP_KV_DEQUANT_PAGED, sizeof(dgrt_kv_dequant_paged_args)}, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* ---- build_swa_token_ids --------------------------------------------------------------------- */

/* build_swa_token_ids: which slots of the sliding-window cache a chunk of prefill needs: of every request the last
 * tokens that the windows of its extend_lens[b] new ones reach.
 *   gather_lens[b] = min(seq_lens[b], extend_lens[b] + window - 1), first[b] = seq_lens[b] - gather_lens[b]
 *   offsets[b] = gather_lens[0] + ... + gather_lens[b - 1], up to offsets[batch]
 *   token_ids[offsets[b] + i] = full_to_swa[req_to_token[request_rows[b], first[b] + i]], i < gather_lens[b]
 * What is left of token_ids up to capacity is -1, as are ids of rows, tokens or slots that do not exist.
 *
 * Shapes   seq_lens, extend_lens, request_rows, first and gather_lens [batch], offsets [batch + 1], req_to_token
 *          [num_request_rows, max_tokens], full_to_swa [num_full], token_ids [capacity]. capacity: at least
 *          offsets[batch]; batch * (window - 1) + all new tokens always suffices. Ids past it are not written.
 * Types    int32; full_to_swa int64.
 * Layout   Contiguous, but for req_to_token's rows, req_to_token_row_stride elements apart. Aligned to the elements.
 * Sizes    window at least 1. 0 <= batch <= max_batch, 0 <= capacity <= max_capacity, num_request_rows, max_tokens,
 *          num_full < 2^30. Negative lengths are 0; the sum must stay below 2^31.
 * Numerics Equal inputs give bitwise equal outputs. With batch 0 all of token_ids is -1, and offsets[0] is 0.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As topk_transform.
 * Source   kernels/mla/sm90_build_swa_token_ids.cuh */
typedef struct dgrt_build_swa_token_ids_desc {
  dgrt_op op; /* start from DGRT_BUILD_SWA_TOKEN_IDS_DESC */
  int64_t window;
  int64_t max_batch, max_capacity;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT */
  uint32_t reserved;
} dgrt_build_swa_token_ids_desc;
#define DGRT_BUILD_SWA_TOKEN_IDS_DESC {{DGRT_OP_BUILD_SWA_TOKEN_IDS, sizeof(dgrt_build_swa_token_ids_desc)}, 0, 0, 0, 0, 0}

typedef struct dgrt_build_swa_token_ids_args {
  dgrt_op op; /* start from DGRT_BUILD_SWA_TOKEN_IDS_ARGS */
  const int32_t *seq_lens, *extend_lens, *request_rows, *req_to_token;
  const int64_t* full_to_swa;
  int32_t *token_ids, *first, *gather_lens, *offsets;
  int64_t batch, capacity;
  int64_t num_request_rows, max_tokens, num_full;
  int64_t req_to_token_row_stride;
} dgrt_build_swa_token_ids_args;
#define DGRT_BUILD_SWA_TOKEN_IDS_ARGS {{DGRT_OP_BUILD_SWA_TOKEN_IDS, sizeof(dgrt_build_swa_token_ids_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/* ---- combine_topk_swa_indices ---------------------------------------------------------------- */

/* combine_topk_swa_indices: the workspace rows that each query token of a chunk of prefill attends to: compressed rows
 * that were selected for it, then its sliding window's. For token t of request b at position p:
 *   n = min((p + 1) / ratio, top_k), w = min(p + 1, window), lengths[t] = n + w
 *   indices[t] = compressed_base[b] + topk_indices[t, 0 .. n)
 *                | swa_base[b] + p - w + 1 - (seq_lens[b] - gather_lens[b]) + 0 .. w - 1 | -1 to the end of the row
 * An index is -1 where topk_indices is negative or not below (p + 1) / ratio, where the window leaves the
 * gather_lens[b] rows of its request, and past int32: never another request's row.
 *
 * Shapes   topk_indices [tokens, top_k], query_start_loc [batch + 1], seq_lens, gather_lens, compressed_base and swa_base
 *          [batch], query_pos [tokens], indices [tokens, width], lengths [tokens]. Request b has the tokens from
 *          query_start_loc[b] to query_start_loc[b + 1] - 1, less query_start_loc[0]; tokens of no request, and of
 *          negative positions, have length 0. topk_indices may be NULL: 0, 1, 2, ... (all compressed rows are attended
 *          to); query_pos may be NULL: p = seq_lens[b] - query_start_loc[b + 1] + query_start_loc[0] + t.
 * Types    int32.
 * Layout   Last axis contiguous. *_row_stride: elements between rows, multiples of 4, at least top_k and width.
 *          topk_indices and indices 16-byte aligned, the others 4-byte. Outputs must not overlap inputs.
 * Sizes    window and ratio at least 1, top_k at least 0; top_k + window <= width < 2^30, width a multiple of 4.
 *          0 <= tokens <= max_tokens, batch < 2^30. tokens 0 launches nothing.
 * Numerics Equal inputs give bitwise equal outputs. Whole rows are written.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As topk_transform.
 * Source   kernels/mla/sm90_combine_topk_swa_indices.cuh */
typedef struct dgrt_combine_topk_swa_indices_desc {
  dgrt_op op; /* start from DGRT_COMBINE_TOPK_SWA_INDICES_DESC */
  int64_t window, ratio;
  int64_t max_tokens;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT */
  uint32_t reserved;
} dgrt_combine_topk_swa_indices_desc;
#define DGRT_COMBINE_TOPK_SWA_INDICES_DESC {{DGRT_OP_COMBINE_TOPK_SWA_INDICES, sizeof(dgrt_combine_topk_swa_indices_desc)}, 0, 1, 0, 0, 0}

typedef struct dgrt_combine_topk_swa_indices_args {
  dgrt_op op; /* start from DGRT_COMBINE_TOPK_SWA_INDICES_ARGS */
  const int32_t *topk_indices, *query_start_loc, *seq_lens, *gather_lens, *compressed_base, *swa_base, *query_pos;
  int32_t *indices, *lengths;
  int64_t tokens, batch, top_k, width;
  int64_t topk_row_stride, indices_row_stride;
} dgrt_combine_topk_swa_indices_args;
#define DGRT_COMBINE_TOPK_SWA_INDICES_ARGS {{DGRT_OP_COMBINE_TOPK_SWA_INDICES, sizeof(dgrt_combine_topk_swa_indices_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/* ---- mla_sparse_decode ----------------------------------------------------------------------- */

/* mla_sparse_decode: attention of every query token over its own list of slots of a quantised cache, and of a second
 * one: sparse decode of DeepSeek-V3.2, and of V4, whose second list is of compressed tokens. A row of a cache is the
 * key of all heads, and its first 512 columns are their value, with V4 rotary ones included. Lists are split over SMs
 * as their lengths ask for, which are read on the device: there is no schedule to make beforehand, and a captured
 * graph may be replayed with other lengths. For each token t and head h, over the entries j of t's two lists:
 *   s_j = scale * dot(q[t, h], row_j),  w_j = exp(s_j),  lse[t, h] = log(sum of w_j)
 *   o[t, h] = sum of w_j row_j[0 .. 512) / (sum of w_j + exp(sinks[h]))
 * An index that is negative or at least num_pages * page_size names no slot: it has no weight, and nothing is read.
 * One that comes twice counts twice.
 *
 * Shapes   q [tokens, num_q_heads, columns], o [tokens, num_q_heads, 512], lse [tokens, num_q_heads]; tokens is
 *          batch * q_len, columns 576 with V32, 512 with V4. indices [tokens, top_k], of which the first lengths[...]
 *          count; lengths [batch], or, with lengths_per_token, [batch, q_len]: cut to 0 and top_k. extra_... likewise.
 *          sinks [num_q_heads]. lse, sinks, lengths and extra_lengths may be NULL: not stored, none, all of top_k.
 * Types    q and o bf16; cache and extra_cache as desc.format says; lse and sinks fp32; the others int32.
 * Layout   Last axis contiguous. *_token_stride, *_head_stride: elements. Of q and o: multiples of 8, at least the
 *          columns; pointers 16-byte aligned. Of indices: at least top_k. Of lse: at least 1. Pointers to 4-byte
 *          elements 4-byte aligned. cache_page_stride: bytes, see above. Outputs must not overlap inputs.
 * Sizes    num_q_heads at least 1; 64 to a tile. 0 <= batch * q_len <= max_tokens < 2^30. 0 <= top_k + extra_top_k <=
 *          max_keys < 2^30; any number, no multiple of 64. page_size any. Nothing of a list of 0 is looked at, and no
 *          cache of 0 pages. batch or q_len 0 launches nothing.
 * Numerics Rows are bf16(fp32(e4m3) * scale) for products; a V32 scale has an error of 2^-17 before that rounding, and
 *          may be up to 2^126. NaN codes of e4m3 are +-480. fp32 softmax, weights rounded to bf16 before they meet
 *          values, fp32 sums. A token whose lists name no slot has o = 0 and lse = -inf. lse is natural and without
 *          the sink. sinks -inf: no effect; +inf: o = 0. What lies in slots that are not named is never used; a NaN in
 *          one that is may spread to all heads. Equal inputs give bitwise equal outputs. A token's bits may depend on
 *          all lengths of the call and on its sizes, unless DGRT_FLAG_BATCH_INVARIANT or DGRT_MLA_NO_SPLIT is set: then
 *          on its own lists alone.
 * Memory   A workspace for parts of rows, whose first state_bytes are zero before the first call and again after
 *          every call. Two tiles of 64 x 516 floats for each SM (34 MiB on 132), whatever the sizes; with
 *          BATCH_INVARIANT 16 of them for every token and 64 heads; with NO_SPLIT none.
 * Needs    SM90.
 * Errors   As topk_transform.
 * Source   kernels/mla/sm90_mla_sparse_decode.cuh */
typedef struct dgrt_mla_sparse_decode_desc {
  dgrt_op op; /* start from DGRT_MLA_SPARSE_DECODE_DESC */
  int64_t num_q_heads;
  int64_t max_tokens, max_keys; /* batch * q_len and top_k + extra_top_k of args */
  dgrt_mla_kv_format format;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_... */
  uint32_t reserved;
} dgrt_mla_sparse_decode_desc;
#define DGRT_MLA_SPARSE_DECODE_DESC {{DGRT_OP_MLA_SPARSE_DECODE, sizeof(dgrt_mla_sparse_decode_desc)}, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_mla_sparse_decode_args {
  dgrt_op op; /* start from DGRT_MLA_SPARSE_DECODE_ARGS */
  const void* q;
  void* o;
  float* lse;
  const float* sinks;
  const void *cache, *extra_cache;
  const int32_t *indices, *extra_indices, *lengths, *extra_lengths;
  int64_t batch, q_len;
  int64_t top_k, extra_top_k;
  int64_t page_size, num_pages, cache_page_stride;
  int64_t extra_page_size, extra_num_pages, extra_cache_page_stride;
  int64_t indices_token_stride, extra_indices_token_stride;
  int64_t q_token_stride, q_head_stride, o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
  float scale;                /* > 0; of the model, see mla_decode */
  uint32_t lengths_per_token; /* 0 or 1 */
} dgrt_mla_sparse_decode_args;
#define DGRT_MLA_SPARSE_DECODE_ARGS {{DGRT_OP_MLA_SPARSE_DECODE, sizeof(dgrt_mla_sparse_decode_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0f, 0}

/* ---- mla_sparse_prefill ---------------------------------------------------------------------- */

/* mla_sparse_prefill: attention of many tokens, each of which sees rows of kv of its own choice: prefill of
 * DeepSeek-V3.2 and V4, whose indexer names the rows. A row of kv is the key of all heads, and its first head_dim_v
 * columns are their value. Causality, batches and windows are in the indices. For each token i, head h, and entries t
 * of indices[i, 0 .. lengths[i]) that are rows, 0 <= t < kv_rows:
 *   s_t = scale * dot(q[i, h], kv[t]);  max_logits[i, h] = max of s_t;  lse[i, h] = log(sum of exp(s_t))
 *   o[i, h] = sum of exp(s_t) kv[t, 0 .. head_dim_v) / (exp(sinks[h]) + sum of exp(s_t))
 *
 * Shapes   q [tokens, num_heads, head_dim_qk], kv [kv_rows, head_dim_qk], indices [tokens, top_k], lengths [tokens],
 *          sinks [num_heads], o [tokens, num_heads, head_dim_v], max_logits and lse [tokens, num_heads]. lengths may be
 *          NULL: top_k; sinks may be NULL: none; max_logits and lse may be NULL: not stored.
 * Types    dtype, of q, kv and o: bf16 or fp16. indices and lengths int32; sinks, max_logits and lse fp32.
 * Layout   Last axis of q, kv, indices and o contiguous. *_stride: elements. Of q, kv and o: multiples of 8 (16 bytes),
 *          at least a row's columns; pointers 16-byte aligned. indices_row_stride at least top_k. lse_token_stride and
 *          lse_head_stride, at least 1, are of max_logits as well. The others 4-byte aligned. Outputs must not overlap
 *          inputs or each other.
 * Sizes    head_dim_qk 576 or 512, head_dim_v 512. num_heads 1 to 65535; multiples of 64 are fastest. top_k a multiple
 *          of 64, from 64 to max_top_k. 0 <= tokens <= max_tokens, 0 <= kv_rows < 2^30; tokens times ceil(num_heads /
 *          64) < 2^31. lengths are cut to 0 and top_k. tokens 0 launches nothing.
 * Numerics fp32 softmax, weights rounded to dtype before they meet values, fp32 sums. An entry counts as often as it
 *          stands there. Entries that are no row, and those past the length, may be anything, anywhere in the list:
 *          nothing is read for them, and rows that nobody names may hold NaN. The sink is in natural units, counts once,
 *          and only in o: minus infinity is none, infinity makes o 0. A token without any row has o = 0, max_logits and
 *          lse minus infinity, lse with MLA_LSE_EMPTY_INF infinity. MLA_LSE_BASE2 multiplies max_logits and lse by
 *          log2(e). Equal inputs give bitwise equal outputs; a token's do not depend on other tokens.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for these types and columns.
 * Source   kernels/mla/sm90_mla_sparse_prefill.cuh */
typedef struct dgrt_mla_sparse_prefill_desc {
  dgrt_op op; /* start from DGRT_MLA_SPARSE_PREFILL_DESC */
  int64_t num_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_tokens, max_top_k; /* largest of args */
  dgrt_dtype dtype;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_MLA_LSE_... */
  uint32_t reserved;
} dgrt_mla_sparse_prefill_desc;
#define DGRT_MLA_SPARSE_PREFILL_DESC {{DGRT_OP_MLA_SPARSE_PREFILL, sizeof(dgrt_mla_sparse_prefill_desc)}, 0, 576, 512, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_mla_sparse_prefill_args {
  dgrt_op op; /* start from DGRT_MLA_SPARSE_PREFILL_ARGS */
  const void *q, *kv;
  const int32_t *indices, *lengths;
  const float* sinks;
  void* o;
  float *max_logits, *lse;
  int64_t tokens, kv_rows, top_k;
  int64_t q_token_stride, q_head_stride, kv_row_stride, indices_row_stride;
  int64_t o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
  float scale; /* > 0; of the model: 1 / sqrt(192) and its factor of YaRN for DeepSeek-V3.2, not of 576 */
  uint32_t reserved;
} dgrt_mla_sparse_prefill_args;
#define DGRT_MLA_SPARSE_PREFILL_ARGS {{DGRT_OP_MLA_SPARSE_PREFILL, sizeof(dgrt_mla_sparse_prefill_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0f, 0}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(mla_decode)
DGRT_TYPED_CALLS(topk_transform)
DGRT_TYPED_CALLS(mla_kv_append)
DGRT_TYPED_CALLS(kv_dequant_paged)
DGRT_TYPED_CALLS(build_swa_token_ids)
DGRT_TYPED_CALLS(combine_topk_swa_indices)
DGRT_TYPED_CALLS(mla_sparse_decode)
DGRT_TYPED_CALLS(mla_sparse_prefill)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_MLA_H_ */
