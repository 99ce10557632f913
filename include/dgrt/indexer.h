/* The indexer of sparse attention: logits by which every query's keys are ranked. Read dgrt.h first. */
#ifndef DGRT_INDEXER_H_
#define DGRT_INDEXER_H_

#include "dgrt/dgrt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Columns of out without a logit become minus infinity. Without the flag they are not written. */
#define DGRT_LOGITS_CLEAN (1u << 16)
/* mqa_logits: column c of a row is key ks + c. Without the flag it is key c. */
#define DGRT_LOGITS_COMPRESSED (1u << 17)

/* ---- mqa_logits ------------------------------------------------------------------------------ */

/* mqa_logits: logits of many tokens over contiguous keys, which all heads share. For token i and the keys j in
 * [ks[i], ke[i]):
 *   logit[i, j] = kv_scale[j] * sum over heads h of w[i, h] * max(0, sum over d of q[i, h, d] * kv[j, d])
 *
 * Shapes   q e4m3 [tokens, num_heads, head_dim], kv e4m3 [kv_tokens, head_dim], kv_scale fp32 [kv_tokens],
 *          w fp32 [tokens, num_heads], ks and ke int32 [tokens]. out [tokens, kv_tokens], column j; or with
 *          COMPRESSED [tokens, max_k], column j - ks[i]: keys from ks + max_k on have none. The scales of q and
 *          of the softmax are the caller's to multiply into w.
 * Types    dtype_out: fp32 or bf16.
 * Layout   q and kv dense. *_token_stride: elements between rows of w, at least num_heads, and of out, at least
 *          its columns; of tokens 1 never used. q and kv 16-byte aligned, out to its elements, the others 4-byte:
 *          any slice of kv_scale will do. out must not overlap inputs. It takes (tokens - 1) * out_token_stride +
 *          columns elements, and nothing beyond is written: for less memory, call for some of the tokens.
 * Sizes    num_heads 8, 16, 32 or 64; head_dim 32, 64 or 128. 0 <= tokens <= max_tokens < 2^30,
 *          0 <= kv_tokens <= max_kv_tokens < 2^30, less than 2^32 tiles of 4 tokens and 128 keys, 0 <= max_k < 2^30,
 *          without COMPRESSED 0. An out of no elements launches nothing.
 * Ranges   ks and ke are cut to [0, kv_tokens]; ke <= ks: the token sees no key. Keys and scales that a token does
 *          not see, never reach its logits.
 * Flags    CLEAN: the other columns become minus infinity, by the same kernel while it computes.
 * Numerics Products and sums of a head as wgmma adds e4m3 up, the others in fp32, one rounding to dtype_out. A
 *          logit's bits depend on its token's q and w and its key's kv and scale alone. A product that is NaN
 *          makes its logit NaN.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for this device or dtype_out.
 * Source   kernels/indexer/sm90_mqa_logits.cuh */
typedef struct dgrt_mqa_logits_desc {
  dgrt_op op; /* start from DGRT_MQA_LOGITS_DESC */
  int64_t num_heads, head_dim;
  int64_t max_tokens, max_kv_tokens; /* largest of args */
  dgrt_dtype dtype_out;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_LOGITS_... */
  uint32_t reserved;
} dgrt_mqa_logits_desc;
#define DGRT_MQA_LOGITS_DESC {{DGRT_OP_MQA_LOGITS, sizeof(dgrt_mqa_logits_desc)}, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_mqa_logits_args {
  dgrt_op op; /* start from DGRT_MQA_LOGITS_ARGS */
  const void *q, *kv;
  const float *kv_scale, *w;
  const int32_t *ks, *ke;
  void* out;
  int64_t tokens, kv_tokens;
  int64_t max_k; /* COMPRESSED: columns of out */
  int64_t w_token_stride, out_token_stride;
} dgrt_mqa_logits_args;
#define DGRT_MQA_LOGITS_ARGS {{DGRT_OP_MQA_LOGITS, sizeof(dgrt_mqa_logits_args)}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0}

/* ---- paged_mqa_logits ------------------------------------------------------------------------ */

/* paged_mqa_logits: the same of the last next_n tokens of every request over its paged keys: decode and
 * speculative verify. Key j of request b, for j < context_lens[b, i] the i-th token's, is slot j % page_size of
 * page page_table[b, j / page_size].
 *
 * Shapes   q e4m3 [batch, next_n, num_heads, head_dim], w fp32 [batch * next_n, num_heads], context_lens int32
 *          [batch, next_n], page_table int32 [batch, max_pages], out [batch * next_n, max_context_len]: column j of
 *          row b * next_n + i. kv_cache: num_pages pages, each page_size * head_dim bytes of e4m3 values
 *          [page_size, head_dim], then page_size fp32 scales.
 * Types    dtype_out: fp32 or bf16.
 * Layout   q and context_lens dense. w and out by *_token_stride as in mqa_logits. kv_page_stride: bytes between
 *          pages, at least page_size * (head_dim + 4), a multiple of 16 below 2^40. page_table_stride: elements
 *          between its rows, at least max_pages. q and kv_cache 16-byte aligned, out to its elements, the others
 *          4-byte. out must not overlap inputs; what lies beyond its rows and columns is not written.
 * Sizes    num_heads 8, 16, 32 or 64; head_dim 32, 64 or 128; next_n 1 to 4; page_size 32, 64 or 128.
 *          0 <= batch <= max_batch < 2^30, batch * next_n < 2^31, 0 <= args.max_context_len <=
 *          desc.max_context_len < 2^30, max_pages * page_size < 2^30, 0 <= num_pages < 2^31, and less than 2^32
 *          tiles of 128 keys, max_context_len of each request. batch or max_context_len 0 launches nothing.
 * Ranges   context_lens are cut to [0, min(max_context_len, max_pages * page_size)]; all may be 0. Keys past a
 *          context are not used; entries of page_table whose page has no key of a request, are not read. An entry
 *          below 0 or from num_pages on stands for keys of zeros: their logits are 0.
 * Schedule Requests are shared out over SMs on the device, by their lengths, inside the kernel: no metadata, and
 *          lengths may change between replays of a graph.
 * Flags    CLEAN as in mqa_logits.
 * Numerics As mqa_logits; a row's bits depend on next_n too, not on pages.
 * Memory   No workspace.
 * Needs    SM90.
 * Errors   As mqa_logits.
 * Source   kernels/indexer/sm90_paged_mqa_logits.cuh */
typedef struct dgrt_paged_mqa_logits_desc {
  dgrt_op op; /* start from DGRT_PAGED_MQA_LOGITS_DESC */
  int64_t num_heads, head_dim, next_n, page_size;
  int64_t max_batch, max_context_len; /* largest of args */
  dgrt_dtype dtype_out;
  uint32_t sm_budget; /* SMs to use. 0: all */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT, DGRT_LOGITS_CLEAN */
  uint32_t reserved;
} dgrt_paged_mqa_logits_desc;
#define DGRT_PAGED_MQA_LOGITS_DESC {{DGRT_OP_PAGED_MQA_LOGITS, sizeof(dgrt_paged_mqa_logits_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_paged_mqa_logits_args {
  dgrt_op op; /* start from DGRT_PAGED_MQA_LOGITS_ARGS */
  const void *q, *kv_cache;
  const float* w;
  const int32_t *context_lens, *page_table;
  void* out;
  int64_t batch, max_context_len;
  int64_t num_pages, max_pages;
  int64_t kv_page_stride; /* bytes */
  int64_t page_table_stride, w_token_stride, out_token_stride;
} dgrt_paged_mqa_logits_args;
#define DGRT_PAGED_MQA_LOGITS_ARGS {{DGRT_OP_PAGED_MQA_LOGITS, sizeof(dgrt_paged_mqa_logits_args)}, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(mqa_logits)
DGRT_TYPED_CALLS(paged_mqa_logits)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_INDEXER_H_ */
