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

/* Flags of attn_decode and attn_extend: args.mask says what is visible, say in a tree of draft tokens. */
#define DGRT_ATTN_MASK_BYTES (1u << 19)       /* a byte for each element: not 0 is visible */
#define DGRT_ATTN_MASK_BITS (1u << 20)        /* a bit for each element, the lowest of a byte first */
#define DGRT_ATTN_MASK_SKIP_PREFIX (1u << 21) /* keys before the sequence's own tokens are visible, unread */

/* Other flags of theirs. */
#define DGRT_ATTN_NEW_KEYS (1u << 23)    /* q's tokens have their keys in args.k_new, v_new */
#define DGRT_ATTN_CHECK_PAGES (1u << 24) /* for debugging: args.page_error tells of entries that name no page */

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
 *          not written. k_scale, v_scale fp32, one for each key head, *_scale_head_stride apart; of stride 0 one
 *          for all heads; NULL: 1.
 * Types    dtype, of q and o: bf16 or fp16. dtype_kv, of k and v: 0 or dtype, or e4m3: what is stored times its
 *          scale.
 * Layout   Last axis contiguous. *_token_stride, *_head_stride: elements between tokens and between heads.
 *          Of q, k, v and o: at least head_dim and a multiple of 8 (16 bytes); pointers 16-byte aligned. Of
 *          lse: at least 1. indptr, lse, sinks and scales 4-byte aligned. With e4m3 strides of k and v are
 *          multiples of 16. Outputs must not overlap inputs.
 * Sizes    head_dim_qk and head_dim_v multiples of 8, with e4m3 of 16, up to 512. num_q_heads a multiple of num_kv_heads.
 *          0 <= batch <= max_batch,
 *          max_q_len <= desc.max_q_len, max_kv_len <= desc.max_kv_len: of the longest sequence, or more; hints
 *          that only the choice of kernel depends on. total_q, total_kv < 2^30. total_q or batch 0
 *          launches nothing. Longer or negative sequences than indptr allows are cut to total_q and total_kv.
 * Numerics fp32 softmax, weights rounded to dtype before they meet v, fp32 sums. A query that sees no key has
 *          o = 0 and lse = -inf. Keys and values that no query of a tile may see, those of other sequences
 *          among them, are never used; a NaN in the value of a key that another query of the same tile sees
 *          may spread to the tile. e4m3 becomes dtype exactly, NaN among it; scales, from 2^-64 to 2^64, are
 *          applied in fp32: k_scale to the products with q, v_scale to the sum over v. lse is natural and without the sink, so that results can be merged.
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
  uint32_t flags;      /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_... */
  dgrt_dtype dtype_kv; /* of k and v. 0: dtype */
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
  const float *k_scale, *v_scale; /* e4m3 only */
  int64_t k_scale_head_stride, v_scale_head_stride;
} dgrt_attn_prefill_args;
#define DGRT_ATTN_PREFILL_ARGS {{DGRT_OP_ATTN_PREFILL, sizeof(dgrt_attn_prefill_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0.0f, 0.0f, NULL, NULL, 0, 0}

/* ---- attn_decode ----------------------------------------------------------------------------- */

/* attn_decode: attention of the last few tokens of every sequence over its paged cache, which holds their
 * own keys and values already, or with NEW_KEYS only those before them: decode with one token, speculative
 * verify with several. Keys are split over SMs as their numbers ask for, which are read on the device. Maths as
 * attn_prefill, with E the tokens of q and L of seq_lens.
 *
 * Shapes   q [total_q, num_q_heads, head_dim_qk], o [total_q, num_q_heads, head_dim_v], lse fp32 [total_q,
 *          num_q_heads], sinks fp32 [num_q_heads], q_indptr int32 [batch + 1], as in attn_prefill.
 *          k [num_pages, page_size, num_kv_heads, head_dim_qk], v [num_pages, page_size, num_kv_heads,
 *          head_dim_v], in any order of the first three axes, by strides.
 *          page_table int32 [batch, max_pages], rows page_table_stride apart, seq_lens int32 [batch]: key j of
 *          sequence b is slot j % page_size of page page_table[b][j / page_size], for j < seq_lens[b].
 *          Sequences may share pages. Entries of keys that no query sees are not read.
 *          NEW_KEYS: k_new [total_q, num_kv_heads, head_dim_qk], v_new [total_q, num_kv_heads, head_dim_v] are
 *          of q's tokens, which q_indptr divides. Of the L keys of a sequence, which seq_lens counts in the cache or
 *          new, the last E are those, whatever the cache has there; P = L - E, or 0 where seq_lens is less than
 *          E, are in the cache. With P 0 of all sequences num_pages 0 will do.
 *          k_scale, v_scale fp32, one for each key head, *_scale_head_stride apart; of stride 0 one for all
 *          heads; NULL: 1. As kv_append takes them.
 * Types    dtype, of q, o, k_new and v_new: bf16 or fp16. dtype_kv, of k and v: 0 or dtype, or, without NEW_KEYS,
 *          e4m3: what is stored times its scale.
 * Layout   As in attn_prefill. *_page_stride: elements between pages, a multiple of 8. With e4m3 strides of k and
 *          v are multiples of 16; scales are 4-byte aligned. k_new, v_new: as k and v of attn_prefill; without
 *          NEW_KEYS NULL, and their strides 0.
 * Sizes    head_dim_qk and head_dim_v multiples of 8, with e4m3 of 16, up to 512. num_q_heads a multiple of
 *          num_kv_heads. page_size at least 1. 0 <= batch <= max_batch, max_q_len <= desc.max_q_len, max_kv_len <=
 *          desc.max_kv_len: of the longest sequence, or more; hints that only the choice of kernel and the
 *          size of its grid depend on. total_q, num_pages, max_pages * page_size < 2^30. total_q or batch 0
 *          launches nothing. Sequences longer than total_q or max_pages * page_size, not counting new keys, are
 *          cut, negative ones empty. Without pages nobody has keys in the cache. Keys of pages that do not exist
 *          (an entry is negative, or num_pages and more) count as zeros; no entry makes a call read outside of k
 *          and v.
 * Checks   With CHECK_PAGES a call also looks up the entry of every key that a query of the sequence may see by its
 *          window, whatever a mask says. page_error int32 [4], in device memory, 16-byte aligned, gets {1, b, i,
 *          page_table[b][i]} of the first entry that names no page, by b, then by i; where all name one it is not
 *          written. The caller zeroes it before the call and reads it behind it on the stream; of several calls that
 *          share one it keeps the first entry of all. Without CHECK_PAGES NULL, and nothing is looked up.
 * Masks    MASK_BYTES, MASK_BITS: query i of a sequence sees key j where element i * L + j of the sequence's
 *          matrix [E, L] is set and window_left allows it; window_right must be 0 or -1 and says nothing.
 *          mask_indptr int64 [batch], 8-byte aligned: bytes of mask before each sequence's matrix, which
 *          starts on a byte; its rows follow each other without a gap. mask_bytes: of the whole mask, at least
 *          1; elements past it are not read and count as not set. E and L are those that sequences are cut to.
 *          With MASK_SKIP_PREFIX key j < L - E is visible, and its elements are not read.
 *          Without MASK_BYTES and MASK_BITS all three are NULL and 0. A mask does not spare its keys: all that
 *          window_left allows are read for every query, and NaN in the value of one that is masked reaches o.
 *          (NaN in its key does not.) A chain of tokens needs no mask: window_right 0 is faster.
 * Numerics As attn_prefill. e4m3 is multiplied as it is, NaN among it; scales, from 2^-64 to 2^64, are applied
 *          in fp32: k_scale to the products with q, v_scale to the sum over v. Elements of q in bf16 are then
 *          exact down to 2^-31 of the largest of their row.
 *          What lies in slots that no query of a tile may see, is never used. A row's bits
 *          may depend on all lengths of the batch and on the hints, unless DGRT_FLAG_BATCH_INVARIANT is set:
 *          then on its own sequence alone, and on the desc. It may not have more than max_q_len tokens: it is cut
 *          there.
 * Memory   A workspace for parts of rows, whose first state_bytes are zero before the first call and again
 *          after every call. Its size depends on the device; with BATCH_INVARIANT also on batch and max_q_len.
 * Needs    SM90.
 * Errors   As attn_prefill. DGRT_UNSUPPORTED also for NEW_KEYS with e4m3.
 * Source   kernels/attention/sm90_attn_decode.cuh */
typedef struct dgrt_attn_decode_desc {
  dgrt_op op; /* start from DGRT_ATTN_DECODE_DESC */
  int64_t num_q_heads, num_kv_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_batch, max_q_len, max_kv_len; /* largest of args */
  dgrt_dtype dtype;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;      /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_... */
  dgrt_dtype dtype_kv; /* of k and v. 0: dtype */
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
  const void* mask;
  const int64_t* mask_indptr;
  int64_t mask_bytes;
  const float *k_scale, *v_scale; /* e4m3 only */
  int64_t k_scale_head_stride, v_scale_head_stride;
  int32_t* page_error;       /* CHECK_PAGES */
  const void *k_new, *v_new; /* NEW_KEYS */
  int64_t k_new_token_stride, k_new_head_stride, v_new_token_stride, v_new_head_stride;
} dgrt_attn_decode_args;
#define DGRT_ATTN_DECODE_ARGS {{DGRT_OP_ATTN_DECODE, sizeof(dgrt_attn_decode_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0.0f, 0.0f, NULL, NULL, 0, NULL, NULL, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0}

/* ---- attn_extend ----------------------------------------------------------------------------- */

/* attn_extend: attention of many new tokens of every sequence over its paged cache, which holds their own
 * keys and values already, or with NEW_KEYS only those before them: chunked prefill. Maths as attn_prefill,
 * with E the tokens of q and L of seq_lens; tensors as attn_decode, which is faster for up to 16 tokens.
 *
 * Shapes   As in attn_decode.
 *          kv_start int32 [batch], or NULL: 0, as negative ones. The page table of sequence b begins with key
 *          kv_start[b], on the first slot of its first page: key j is slot (j - kv_start[b]) % page_size of page
 *          page_table[b][(j - kv_start[b]) / page_size]. Earlier keys do not exist: nobody sees them. For a
 *          window that needs the last keys of a prefix alone, window_left of them before the first query.
 *          With NEW_KEYS and P 0 of all sequences this is attn_prefill. k_scale and v_scale, as in attn_decode, are
 *          of the cache alone.
 * Types    dtype, of q, o, k_new and v_new: bf16 or fp16. dtype_kv, of k and v: 0 or dtype, or e4m3.
 * Layout   As in attn_decode. *_page_stride: less than 2^40 bytes. k_new, v_new: as k and v of attn_prefill;
 *          without NEW_KEYS NULL, and their strides 0.
 * Sizes    As in attn_decode; what max_pages * page_size cuts are keys of the table, counted from kv_start, and
 *          not the new ones. Any page_size; multiples of 16 are fastest.
 * Checks   As in attn_decode. New keys have no entries.
 * Masks    As in attn_decode. Columns are all L keys, also those before kv_start, whose elements are not read.
 * Numerics As attn_prefill. With NEW_KEYS and e4m3 sums over v_new are divided by v_scale in fp32 until the sum
 *          over v is added. What lies in slots that no query of a tile may see, is never used; entries of pages
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
  uint32_t flags;      /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_... */
  dgrt_dtype dtype_kv; /* of k and v. 0: dtype */
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
  const void* mask;
  const int64_t* mask_indptr;
  int64_t mask_bytes;
  const float *k_scale, *v_scale; /* e4m3 only */
  int64_t k_scale_head_stride, v_scale_head_stride;
  const int32_t* kv_start;
  const void *k_new, *v_new; /* NEW_KEYS */
  int64_t k_new_token_stride, k_new_head_stride, v_new_token_stride, v_new_head_stride;
  int32_t* page_error; /* CHECK_PAGES */
} dgrt_attn_extend_args;
#define DGRT_ATTN_EXTEND_ARGS {{DGRT_OP_ATTN_EXTEND, sizeof(dgrt_attn_extend_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0.0f, 0.0f, NULL, NULL, 0, NULL, NULL, 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, NULL}

/* ---- attn_merge ------------------------------------------------------------------------------ */

/* attn_merge: results of attention over disjoint sets of keys (splits of a sequence, a shared prefix and what
 * follows it, ranks that share the context) into the result over all of them. For each token and head h, with
 * M = max lse_i of the parts i:
 *   w_i = exp(lse_i - M); o = sum w_i o_i / (sum w_i + exp(sinks[h] - M)); lse = M + log(sum w_i)
 *
 * Shapes   part_o [num_parts, tokens, num_heads, head_dim], part_lse fp32 [num_parts, tokens, num_heads],
 *          o [tokens, num_heads, head_dim], lse fp32 [tokens, num_heads], sinks fp32 [num_heads]. lse and
 *          sinks may be NULL: not stored, no sink.
 * Types    dtype_part, dtype_o: bf16, fp16 or fp32, in any pairing.
 * Layout   The axes but the last in any order, by strides: elements between neighbours. Last axis contiguous.
 *          Of part_o and o: at least head_dim and a multiple of 16 bytes; pointers 16-byte aligned. Of
 *          part_lse and lse: at least 1; pointers 4-byte aligned, as sinks. Outputs must not overlap inputs.
 * Sizes    head_dim a multiple of 8 up to 512. 0 <= tokens <= max_tokens < 2^30, 1 <= num_parts <= max_parts
 *          <= 64, tokens * num_heads < 2^31. tokens 0 launches nothing.
 * Flags    LSE_BASE2: part_lse and lse are powers of two; sinks stay natural. LSE_WITH_SINK: lse counts the
 *          sink, log(sum w_i + exp(sinks[h] - M)); part_lse must not.
 * Numerics fp32 weights and sums, one rounding to dtype_o; parts in ascending order, in shares that depend on
 *          the numbers of tokens and parts, with BATCH_INVARIANT on that of parts alone. lse = -inf says that
 *          a part is empty: its o is not read, nor is that of a part whose weight is 0 in fp32. If all are
 *          empty, o = 0 and lse = -inf, with LSE_WITH_SINK the sink. A NaN or +inf in part_lse makes its row of
 *          o NaN. Equal inputs give bitwise equal outputs.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As attn_prefill.
 * Source   kernels/attention/sm90_attn_merge.cuh */
typedef struct dgrt_attn_merge_desc {
  dgrt_op op; /* start from DGRT_ATTN_MERGE_DESC */
  int64_t num_heads, head_dim;
  int64_t max_tokens, max_parts;
  dgrt_dtype dtype_part, dtype_o;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_ATTN_LSE_... */
  uint32_t reserved;
} dgrt_attn_merge_desc;
#define DGRT_ATTN_MERGE_DESC {{DGRT_OP_ATTN_MERGE, sizeof(dgrt_attn_merge_desc)}, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_attn_merge_args {
  dgrt_op op; /* start from DGRT_ATTN_MERGE_ARGS */
  const void* part_o;
  const float* part_lse;
  void* o;
  float* lse;
  const float* sinks;
  int64_t tokens, num_parts;
  int64_t part_o_part_stride, part_o_token_stride, part_o_head_stride;
  int64_t part_lse_part_stride, part_lse_token_stride, part_lse_head_stride;
  int64_t o_token_stride, o_head_stride, lse_token_stride, lse_head_stride;
} dgrt_attn_merge_args;
#define DGRT_ATTN_MERGE_ARGS {{DGRT_OP_ATTN_MERGE, sizeof(dgrt_attn_merge_args)}, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* ---- kv_append ------------------------------------------------------------------------------- */

/* kv_append: writes the keys and values of new tokens into a paged cache. Token t of k and v goes to slot
 * slot_mapping[t]: to place slot % page_size of page slot / page_size. Tokens whose slot is negative or
 * num_pages * page_size and more are skipped.
 *
 * Shapes   k [tokens, num_kv_heads, head_dim_qk], v [tokens, num_kv_heads, head_dim_v], slot_mapping [tokens],
 *          k_cache [num_pages, page_size, num_kv_heads, head_dim_qk], v_cache [num_pages, page_size,
 *          num_kv_heads, head_dim_v], in any order of the first three axes, by strides. k_scale, v_scale fp32,
 *          one for each head, *_scale_head_stride apart; of stride 0 one for all heads; NULL: 1.
 * Types    dtype, of k and v: bf16 or fp16. dtype_cache: the same, copied bit for bit, or e4m3: x / scale in
 *          fp32, rounded to nearest even; beyond 448 it becomes 448, NaN stays NaN. slot_mapping: int32, with
 *          KV_SLOTS_INT64 int64.
 * Layout   Last axis contiguous. Strides in elements: *_token_stride, *_head_stride at least head_dim and
 *          multiples of 8, *_page_stride a multiple of 8. k, v and the caches 16-byte aligned, slot_mapping to
 *          its elements, scales 4-byte. The caches overlap neither each other nor the inputs.
 * Sizes    head_dim_qk and head_dim_v multiples of 8 up to 512. 0 <= tokens <= max_tokens < 2^30, page_size at
 *          least 1, num_pages * page_size < 2^30. tokens or num_pages 0 launches nothing.
 * Numerics Scales are from 2^-64 to 2^64. Of tokens that share a slot, any may win, for each 8 elements anew.
 *          Nothing but the tokens' slots is written. Equal inputs give bitwise equal caches otherwise.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As attn_prefill.
 * Source   kernels/attention/sm90_kv_append.cuh */
#define DGRT_KV_SLOTS_INT64 (1u << 16)

typedef struct dgrt_kv_append_desc {
  dgrt_op op; /* start from DGRT_KV_APPEND_DESC */
  int64_t num_kv_heads;
  int64_t head_dim_qk, head_dim_v;
  int64_t max_tokens;
  dgrt_dtype dtype, dtype_cache;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_KV_SLOTS_INT64 */
  uint32_t reserved;
} dgrt_kv_append_desc;
#define DGRT_KV_APPEND_DESC {{DGRT_OP_KV_APPEND, sizeof(dgrt_kv_append_desc)}, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_kv_append_args {
  dgrt_op op; /* start from DGRT_KV_APPEND_ARGS */
  const void *k, *v;
  void *k_cache, *v_cache;
  const void* slot_mapping;
  const float *k_scale, *v_scale;
  int64_t tokens, page_size, num_pages;
  int64_t k_token_stride, k_head_stride, v_token_stride, v_head_stride;
  int64_t k_cache_page_stride, k_cache_token_stride, k_cache_head_stride;
  int64_t v_cache_page_stride, v_cache_token_stride, v_cache_head_stride;
  int64_t k_scale_head_stride, v_scale_head_stride;
} dgrt_kv_append_args;
#define DGRT_KV_APPEND_ARGS {{DGRT_OP_KV_APPEND, sizeof(dgrt_kv_append_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(attn_prefill)
DGRT_TYPED_CALLS(attn_decode)
DGRT_TYPED_CALLS(attn_extend)
DGRT_TYPED_CALLS(attn_merge)
DGRT_TYPED_CALLS(kv_append)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_ATTENTION_H_ */
