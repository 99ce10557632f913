/* Matrix products, one or many, and the ops that make their inputs. Read dgrt.h first. */
#ifndef DGRT_GEMM_H_
#define DGRT_GEMM_H_

#include "dgrt/dgrt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What the products share ------------------------------------------------------------------ */

/* What a_scale and b_scale hold. Numbers never change. */
typedef uint32_t dgrt_scale_mode;
enum {
  DGRT_SCALE_NONE = 0,   /* bf16, fp16 operands */
  DGRT_SCALE_BLOCK = 1,  /* e4m3: one fp32 per 1 x 128 of a and per 128 x 128 of b */
  DGRT_SCALE_ROW = 2,    /* e4m3: one fp32 per 1 x 128 of a and of b */
  DGRT_SCALE_CHANNEL = 3 /* e4m3: one fp32 per row of a, or one for all; likewise of b */
};

/* Which axis of a matrix is contiguous. Numbers never change. */
typedef uint32_t dgrt_major;
enum {
  DGRT_K_MAJOR = 0, /* [rows, k], k contiguous; of scales: [rows, k blocks] */
  DGRT_MN_MAJOR = 1 /* rows contiguous */
};

/* Flags of products, besides those that every op knows. */
#define DGRT_GEMM_WITH_C (1u << 16)    /* args.c is added */
#define DGRT_GEMM_WITH_BIAS (1u << 17) /* args.bias is added to every row */
#define DGRT_GEMM_UNALIGNED_D \
  (1u << 18)                        /* d, c and bias need no more than their element's alignment,
                                            strides included: a slower store */
#define DGRT_GEMM_SIGNAL (1u << 19) /* gemm_grouped_masked: count finished tiles in args.signal */
#define DGRT_GEMM_SUM_BATCHES (1u << 20) /* gemm_batched: d is the sum over all batches */

/* ---- gemm ------------------------------------------------------------------------------------ */

/* gemm: d = a * transpose(b), optionally + bias + c.
 *
 * Shapes   a [m, k], b [n, k], c and d [m, n], bias [n].
 * Types    dtype_ab bf16 or fp16 with SCALE_NONE: d of dtype_ab or fp32.
 *          dtype_ab e4m3 with SCALE_BLOCK, ROW or CHANNEL: d bf16, fp16 or fp32.
 *          c (WITH_C) and bias (WITH_BIAS) have d's type.
 * Scales   fp32. SCALE_BLOCK and SCALE_ROW, a: one per row and 128 of k, rows contiguous:
 *            a_scale[(k_idx / 128) * ld_a_scale + m_idx], ld_a_scale >= m, multiple of 4.
 *          SCALE_BLOCK, b: one per 128 x 128 block, ceil(n/128) by ceil(k/128):
 *            K_MAJOR  b_scale[(n_idx / 128) * ld_b_scale + k_idx / 128], ld_b_scale >= ceil(k/128)
 *            MN_MAJOR b_scale[(k_idx / 128) * ld_b_scale + n_idx / 128], ld_b_scale >= ceil(n/128)
 *          SCALE_ROW, b: b_scale[(k_idx / 128) * ld_b_scale + n_idx], ld_b_scale >= n, multiple of 4.
 *          SCALE_CHANNEL: a_scale[m_idx * ld_a_scale], b_scale[n_idx * ld_b_scale]; a stride of 1 gives
 *            each row its scale, a stride of 0 one scale to all.
 * Layout   Last axis contiguous, except an operand that the desc calls MN_MAJOR (bf16, fp16): there
 *          a[k_idx * lda + m_idx], so that a is stored as [k, m]. Together the four give nt, nn, tn and tt.
 *          lda, ldb, ldc, ldd: elements between rows; at least the row's length and a multiple of 16
 *          bytes. a, b, c, d, bias and the scales of SCALE_BLOCK (a) and ROW 16-byte aligned, other
 *          scales 4-byte. d must not overlap a or b; c may be d itself. UNALIGNED_D lifts the rules of
 *          alignment for c, d and bias.
 * Heads    With head_mid > 0, n is cut into heads of head_left + head_right columns, and d gets head_mid
 *          columns that are not written after the first head_left of each: column j goes to
 *          j + head_mid * (j / (left + right) + (j % (left + right) >= left)). d then has
 *          n + n / (left + right) * mid columns. left, mid, right: multiples of 8; n of left + right; no
 *          WITH_C.
 * Sizes    0 <= args.m <= desc.max_m, n >= 1, k >= 0, each at most 2^31 - 1. m == 0 launches nothing.
 *          k == 0 fills d with zeros, or with bias + c. No multiple of anything is asked of m, n, k.
 * Numerics fp32 accumulation; e4m3: exact products summed by the tensor core over 128 of k, then scaled
 *          and added in fp32 (SCALE_CHANNEL: added, and scaled at the end). bias and c are added in fp32;
 *          subnormal numbers may count as 0 where c is d.
 *          One rounding to d's type, nearest even. Equal inputs and m on the same device model and
 *          library version give bitwise equal d; with FLAG_BATCH_INVARIANT a row's bits do not even
 *          depend on m, on the other rows or on sm_budget.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for this device and these types.
 * Source   kernels/gemm/sm90_gemm_fp8.cuh, kernels/gemm/sm90_gemm_bf16.cuh; PTX ISA, wgmma. */
typedef struct dgrt_gemm_desc {
  dgrt_op op; /* start from DGRT_GEMM_DESC */
  int64_t n, k;
  int64_t max_m; /* largest args.m */
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode;
  dgrt_major b_scale_major;                 /* SCALE_BLOCK only */
  uint32_t sm_budget;                       /* use at most this many SMs; 0: all */
  uint32_t flags;                           /* DGRT_FLAG_..., DGRT_GEMM_... */
  dgrt_major a_major, b_major;              /* MN_MAJOR: bf16, fp16 only */
  uint32_t max_block_m, max_block_n;        /* tiles of d are at most so large; 0: no limit */
  uint32_t head_left, head_mid, head_right; /* 0: none */
  uint32_t reserved;
} dgrt_gemm_desc;
#define DGRT_GEMM_DESC \
  { {DGRT_OP_GEMM, sizeof(dgrt_gemm_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

typedef struct dgrt_gemm_args {
  dgrt_op op; /* start from DGRT_GEMM_ARGS */
  const void *a, *b;
  const void* c;                  /* WITH_C only, else NULL */
  const float *a_scale, *b_scale; /* not with SCALE_NONE, else NULL */
  void* d;
  int64_t m;
  int64_t lda, ldb, ldc, ldd;
  int64_t ld_a_scale, ld_b_scale;
  const void* bias; /* WITH_BIAS only, else NULL */
} dgrt_gemm_args;
#define DGRT_GEMM_ARGS                                                                            \
  {                                                                                               \
    {DGRT_OP_GEMM, sizeof(dgrt_gemm_args)}, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, \
        0, NULL                                                                                   \
  }

/* ---- gemm_grouped_contiguous ------------------------------------------------------------------- */

/* What args.groups holds. Numbers never change. */
typedef uint32_t dgrt_group_layout;
enum {
  DGRT_GROUP_OF_ROW = 0, /* int32 [m]: the group of each row; negative or >= num_groups: padding */
  DGRT_GROUP_END_ROW = 1 /* int32 [num_groups]: one past the last row of each group, ascending */
};

/* gemm_grouped_contiguous: rows of a are sorted by group, and every group has its own b:
 * d[i, :] = a[i, :] * transpose(b[group of i]). MoE prefill.
 *
 * Shapes   a [m, k], b [num_groups, n, k], d [m, n].
 * Groups   Every group starts at a multiple of `alignment`; the rows between its last one and the next
 *          multiple are padding. GROUP_OF_ROW: only the first row of each tile is looked at, tiles
 *          never cross multiples of the alignment. GROUP_END_ROW: group g starts at the end of group
 *          g - 1 rounded up to the alignment (group 0 at 0); an empty group ends where it starts.
 *          d's padding rows hold anything afterwards; rows that lie in no group at all are not written
 *          where a whole tile is made of them.
 * Layout, Types, Scales, Numerics, Errors   as gemm, without c, bias, heads, SCALE_ROW and SCALE_CHANNEL;
 *          scales of a one set over all rows, those of b per group. b_group_stride,
 *          b_scale_group_stride: elements between groups; b's a multiple of 16 bytes. a is K_MAJOR.
 * Sizes    as gemm; 1 <= num_groups <= 65535. m need not be a multiple of the alignment.
 * Source   kernels/gemm/sm90_gemm_grouped_contiguous_fp8.cuh, ..._bf16.cuh */
typedef struct dgrt_gemm_grouped_contiguous_desc {
  dgrt_op op; /* start from DGRT_GEMM_GROUPED_CONTIGUOUS_DESC */
  int64_t n, k;
  int64_t max_m; /* largest args.m, over all groups */
  uint32_t num_groups;
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode; /* SCALE_NONE or SCALE_BLOCK */
  dgrt_major b_scale_major, b_major;
  dgrt_group_layout group_layout;
  uint32_t alignment; /* 64 or 128 */
  uint32_t sm_budget;
  uint32_t flags; /* DGRT_FLAG_..., DGRT_GEMM_UNALIGNED_D */
  uint32_t max_block_m, max_block_n;
} dgrt_gemm_grouped_contiguous_desc;
#define DGRT_GEMM_GROUPED_CONTIGUOUS_DESC                                                        \
  {                                                                                              \
    {DGRT_OP_GEMM_GROUPED_CONTIGUOUS, sizeof(dgrt_gemm_grouped_contiguous_desc)}, 0, 0, 0, 0, 0, \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                             \
  }

typedef struct dgrt_gemm_grouped_contiguous_args {
  dgrt_op op; /* start from DGRT_GEMM_GROUPED_CONTIGUOUS_ARGS */
  const void *a, *b;
  const float *a_scale, *b_scale;
  void* d;
  const int32_t* groups;
  int64_t m;
  int64_t lda, ldb, ldd;
  int64_t ld_a_scale, ld_b_scale;
  int64_t b_group_stride, b_scale_group_stride;
} dgrt_gemm_grouped_contiguous_args;
#define DGRT_GEMM_GROUPED_CONTIGUOUS_ARGS                                                     \
  {                                                                                           \
    {DGRT_OP_GEMM_GROUPED_CONTIGUOUS, sizeof(dgrt_gemm_grouped_contiguous_args)}, NULL, NULL, \
        NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0                                        \
  }

/* ---- gemm_grouped_masked ----------------------------------------------------------------------- */

/* gemm_grouped_masked: group g has m rows of which the first masked_m[g], a number that only the device
 * knows, count: d[g, i, :] = a[g, i, :] * transpose(b[g]) for i < masked_m[g]. MoE decode under graphs.
 *
 * Shapes   a [num_groups, m, k], b [num_groups, n, k], d [num_groups, m, n], masked_m int32 [num_groups].
 * Rows     d's rows from masked_m[g] on to the end of their tile of block_m rows hold anything
 *          afterwards, later ones and other groups' are not touched. masked_m[g] below 0 counts as 0,
 *          above m as m.
 * Hint     args.expected_m: about how many rows a group has, 1 .. m. Picks the kernel; results do not
 *          depend on it beyond what Numerics of gemm says of m.
 * Signal   With GEMM_SIGNAL, signal is int32 [num_groups * ceil(m / block_m)], zeroed by the caller. When
 *          all columns of rows [i * block_m, (i + 1) * block_m) of group g are stored and visible to
 *          the device, signal[g * ceil(m / block_m) + i] has reached the threshold; a consumer that
 *          reads it with acquire semantics may run at the same time. Blocks without rows stay 0.
 *          dgrt_plan_query gives block_m and completion_threshold for the args.
 * Layout, Types, Scales, Numerics, Errors   as gemm, without c, bias, heads, SCALE_ROW and SCALE_CHANNEL,
 *          per group; *_group_stride: elements between groups, of a, b, d and a_scale a multiple of 16
 *          bytes. a is K_MAJOR.
 * Sizes    as gemm; 1 <= num_groups <= 65535.
 * Source   kernels/gemm/sm90_gemm_grouped_masked_fp8.cuh, ..._bf16.cuh */
typedef struct dgrt_gemm_grouped_masked_desc {
  dgrt_op op; /* start from DGRT_GEMM_GROUPED_MASKED_DESC */
  int64_t n, k;
  int64_t max_m; /* largest args.m, of one group */
  uint32_t num_groups;
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode; /* SCALE_NONE or SCALE_BLOCK */
  dgrt_major b_scale_major, b_major;
  uint32_t sm_budget;
  uint32_t flags; /* DGRT_FLAG_..., DGRT_GEMM_SIGNAL, DGRT_GEMM_UNALIGNED_D */
  uint32_t max_block_m, max_block_n;
  uint32_t reserved;
} dgrt_gemm_grouped_masked_desc;
#define DGRT_GEMM_GROUPED_MASKED_DESC                                                             \
  {                                                                                               \
    {DGRT_OP_GEMM_GROUPED_MASKED, sizeof(dgrt_gemm_grouped_masked_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, \
        0, 0, 0, 0, 0, 0                                                                          \
  }

typedef struct dgrt_gemm_grouped_masked_args {
  dgrt_op op; /* start from DGRT_GEMM_GROUPED_MASKED_ARGS */
  const void *a, *b;
  const float *a_scale, *b_scale;
  void* d;
  const int32_t* masked_m;
  int32_t* signal; /* GEMM_SIGNAL only, else NULL */
  int64_t m, expected_m;
  int64_t lda, ldb, ldd;
  int64_t ld_a_scale, ld_b_scale;
  int64_t a_group_stride, b_group_stride, d_group_stride;
  int64_t a_scale_group_stride, b_scale_group_stride;
} dgrt_gemm_grouped_masked_args;
#define DGRT_GEMM_GROUPED_MASKED_ARGS                                                             \
  {                                                                                               \
    {DGRT_OP_GEMM_GROUPED_MASKED, sizeof(dgrt_gemm_grouped_masked_args)}, NULL, NULL, NULL, NULL, \
        NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                      \
  }

/* ---- gemm_batched ------------------------------------------------------------------------------ */

/* gemm_batched: d[g] = a[g] * transpose(b[g]) for several batches of one shape, every tensor with its own
 * strides: bhr,hdr->bhd is m = b, n = d, k = r, batches = h; bhd,hdr->bhr has b MN_MAJOR.
 *
 * Shapes   a [num_batches, m, k], b [num_batches, n, k], c and d [num_batches, m, n].
 * Layout, Types, Scales, Numerics, Errors   as gemm, without bias, heads, SCALE_ROW and SCALE_CHANNEL, per
 *          batch; *_batch_stride: elements between batches, of a, b, c, d and a_scale a multiple of 16
 *          bytes. Batches may interleave (a batch stride below the row stride).
 * Sum      With SUM_BATCHES (bf16, fp16) there is one d: d = a[0] * transpose(b[0]) + a[1] * transpose(b[1])
 *          + ... (+ c), bmk,bnk->mn. c and d are [m, n], their batch strides 0. Rounded once, as if the k
 *          of all batches were one. num_batches may be 0, which is as k == 0. Where d has few tiles,
 *          several SMs share the batches of each and meet in the workspace, in an order that does not
 *          vary; with FLAG_BATCH_INVARIANT they do not share.
 * Workspace  SUM_BATCHES only; its first state_bytes are zero before the first call and after each.
 * Sizes    as gemm; 1 <= num_batches <= 65535. SUM_BATCHES: 0 <= num_batches, and num_batches *
 *          ceil(k/64) at most 2^31 - 1.
 * Source   kernels/gemm/sm90_gemm_batched_fp8.cuh, ..._bf16.cuh */
typedef struct dgrt_gemm_batched_desc {
  dgrt_op op; /* start from DGRT_GEMM_BATCHED_DESC */
  int64_t n, k;
  int64_t max_m; /* largest args.m, of one batch */
  uint32_t num_batches;
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode; /* SCALE_NONE or SCALE_BLOCK */
  dgrt_major b_scale_major, a_major, b_major;
  uint32_t sm_budget;
  uint32_t flags; /* DGRT_FLAG_..., DGRT_GEMM_WITH_C, ..._UNALIGNED_D, ..._SUM_BATCHES */
  uint32_t max_block_m, max_block_n;
  uint32_t reserved;
} dgrt_gemm_batched_desc;
#define DGRT_GEMM_BATCHED_DESC                                                                     \
  {                                                                                                \
    {DGRT_OP_GEMM_BATCHED, sizeof(dgrt_gemm_batched_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
        0, 0                                                                                       \
  }

typedef struct dgrt_gemm_batched_args {
  dgrt_op op; /* start from DGRT_GEMM_BATCHED_ARGS */
  const void *a, *b;
  const void* c; /* WITH_C only, else NULL */
  const float *a_scale, *b_scale;
  void* d;
  int64_t m;
  int64_t lda, ldb, ldc, ldd;
  int64_t ld_a_scale, ld_b_scale;
  int64_t a_batch_stride, b_batch_stride, c_batch_stride, d_batch_stride;
  int64_t a_scale_batch_stride, b_scale_batch_stride;
} dgrt_gemm_batched_args;
#define DGRT_GEMM_BATCHED_ARGS                                                                     \
  {                                                                                                \
    {DGRT_OP_GEMM_BATCHED, sizeof(dgrt_gemm_batched_args)}, NULL, NULL, NULL, NULL, NULL, NULL, 0, \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                         \
  }

/* ---- gemm_grouped_k ---------------------------------------------------------------------------- */

/* gemm_grouped_k: weight gradients. The k of a and b is cut into groups, and each group has a product of
 * its own: d[g] = c[g] + a[g] * transpose(b[g]), where a[g] and b[g] are the ks[g] of k behind those of
 * the groups before. ks is known to the device alone.
 *
 * Shapes   c and d [num_groups, m, n], ks int32 [num_groups]. args.k: what all groups have together, or
 *          more; a group beyond it counts as shorter.
 *          bf16, fp16: a [k, m], b [k, n], rows lda, ldb apart (MN-major, as tokens lie).
 *          e4m3: a and b are flat: a[g] is row-major [m, ks[g]] and starts at element
 *          m * (ks[0] + ... + ks[g - 1]), b[g] likewise with n. lda and ldb are 0.
 * Groups   ks[g] of e4m3 a multiple of 128; the rest is left out. 0 and below: nothing is added.
 * Types    c, d fp32. dtype_ab bf16 or fp16 with SCALE_NONE, or e4m3 with SCALE_ROW.
 * Scales   SCALE_ROW over all of k: a_scale[k_block * ld_a_scale + m_idx], group g's k blocks behind those
 *          of the groups before it; b_scale likewise; strides at least m or n and multiples of 4.
 * Layout   as gemm; *_group_stride: elements between groups, a multiple of 4. c (WITH_C) may be d.
 * Sizes    m, n >= 1; 0 <= args.k <= desc.max_k; of e4m3 a multiple of 128; 1 <= num_groups <= 65535. d
 *          is written for every group, also where it has no k.
 * Workspace  256 bytes for each group and block of the grid, for tensor maps.
 * Numerics, Errors   as gemm. Equal inputs give bitwise equal d.
 * Source   kernels/gemm/sm90_gemm_grouped_k_fp8.cuh, ..._bf16.cuh */
typedef struct dgrt_gemm_grouped_k_desc {
  dgrt_op op; /* start from DGRT_GEMM_GROUPED_K_DESC */
  int64_t m, n;
  int64_t max_k; /* largest args.k, over all groups */
  uint32_t num_groups;
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode; /* SCALE_NONE or SCALE_ROW */
  uint32_t sm_budget;
  uint32_t flags; /* DGRT_FLAG_..., DGRT_GEMM_WITH_C */
  uint32_t max_block_m, max_block_n;
} dgrt_gemm_grouped_k_desc;
#define DGRT_GEMM_GROUPED_K_DESC \
  { {DGRT_OP_GEMM_GROUPED_K, sizeof(dgrt_gemm_grouped_k_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

typedef struct dgrt_gemm_grouped_k_args {
  dgrt_op op; /* start from DGRT_GEMM_GROUPED_K_ARGS */
  const void *a, *b;
  const void* c; /* WITH_C only, else NULL */
  const float *a_scale, *b_scale;
  void* d;
  const int32_t* ks;
  int64_t k;
  int64_t lda, ldb, ldc, ldd;
  int64_t ld_a_scale, ld_b_scale;
  int64_t c_group_stride, d_group_stride;
} dgrt_gemm_grouped_k_args;
#define DGRT_GEMM_GROUPED_K_ARGS                                                              \
  {                                                                                           \
    {DGRT_OP_GEMM_GROUPED_K, sizeof(dgrt_gemm_grouped_k_args)}, NULL, NULL, NULL, NULL, NULL, \
        NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                 \
  }

/* ---- gemm_fused_linear ------------------------------------------------------------------------- */

#define DGRT_MAX_SEGMENTS 8

/* gemm_fused_linear: several projections of one input in one product, each with an output of its own:
 * d[i] = a * transpose(b[i]), the weights b[i] stacked along n. Attention's q, k, v, gates.
 *
 * Shapes   a [m, k], b [n[0] + n[1] + ..., k], d[i] [m, n[i]]; 1 to DGRT_MAX_SEGMENTS segments. Further
 *          n[i], d[i] and ldd[i] are 0.
 * Types    a, b of one type, bf16 or fp16; every d[i] of that type or fp32.
 * Layout   a, b as gemm, K_MAJOR. ldd[i] >= n[i]; d[i] and ldd[i] need no more than their elements'
 *          alignment. A segment is stored fast where d[i] is on 16 bytes and ldd[i], n[i] and the sum of
 *          the n before it are multiples of 16 bytes: 8 elements, 4 of fp32. Odd ones go last. The d[i]
 *          may be column slices of one matrix; they must not overlap each other, a or b.
 * Sizes    as gemm, for the sum of n.
 * Numerics, Errors   as gemm: each d[i] has the bits of a gemm by the same kernel config.
 * Source   kernels/gemm/sm90_gemm_fused_linear_bf16.cuh */
typedef struct dgrt_gemm_fused_linear_desc {
  dgrt_op op; /* start from DGRT_GEMM_FUSED_LINEAR_DESC */
  int64_t k;
  int64_t max_m; /* largest args.m */
  int64_t n[DGRT_MAX_SEGMENTS];
  uint32_t num_segments;
  dgrt_dtype dtype_ab, dtype_d;
  uint32_t sm_budget;
  uint32_t flags; /* DGRT_FLAG_... */
  uint32_t max_block_m, max_block_n;
  uint32_t reserved;
} dgrt_gemm_fused_linear_desc;
#define DGRT_GEMM_FUSED_LINEAR_DESC                                                                \
  {                                                                                                \
    {DGRT_OP_GEMM_FUSED_LINEAR, sizeof(dgrt_gemm_fused_linear_desc)}, 0, 0, {0}, 0, 0, 0, 0, 0, 0, \
        0, 0                                                                                       \
  }

typedef struct dgrt_gemm_fused_linear_args {
  dgrt_op op; /* start from DGRT_GEMM_FUSED_LINEAR_ARGS */
  const void *a, *b;
  int64_t m;
  int64_t lda, ldb;
  void* d[DGRT_MAX_SEGMENTS];
  int64_t ldd[DGRT_MAX_SEGMENTS];
} dgrt_gemm_fused_linear_args;
#define DGRT_GEMM_FUSED_LINEAR_ARGS                                                                \
  {                                                                                                \
    {DGRT_OP_GEMM_FUSED_LINEAR, sizeof(dgrt_gemm_fused_linear_args)}, NULL, NULL, 0, 0, 0, {NULL}, \
    {                                                                                              \
      0                                                                                            \
    }                                                                                              \
  }

/* ---- quant_fp8 ------------------------------------------------------------------------------- */

/* What one scale covers. Numbers never change. */
typedef uint32_t dgrt_quant_block;
enum {
  DGRT_QUANT_1X128 = 0,  /* activations: one row, 128 columns */
  DGRT_QUANT_128X128 = 1 /* weights */
};

/* quant_fp8: q = e4m3(x / scale), one fp32 scale per block.
 *
 * Shapes   x bf16 [m, k], q e4m3 [m, k], scale fp32 [ceil(m / block rows), ceil(k/128)].
 * Scales   K_MAJOR  scale[block_row * ld_scale + k_block], ld_scale >= ceil(k/128)
 *          MN_MAJOR scale[k_block * ld_scale + block_row], ld_scale >= block rows; what gemm wants
 *                   of a_scale
 *          Elements of scale past the shape are not written.
 * Numerics amax = max(max|x|, 1e-4); scale = amax / 448, an IEEE division; q = e4m3(x * (1 / scale)),
 *          nearest even, saturating. Byte-exact with that formula. NaN in x gives NaN in q.
 * Layout   Last axis of x and q contiguous; ldx and ldq at least k and multiples of 16 bytes; x and q
 *          16-byte aligned, scale 4-byte. q must not overlap x.
 * Sizes    0 <= args.m <= desc.max_m; k >= 1. m == 0 launches nothing.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/gemm/sm90_quant_fp8.cuh */
typedef struct dgrt_quant_fp8_desc {
  dgrt_op op; /* start from DGRT_QUANT_FP8_DESC */
  int64_t k, max_m;
  dgrt_quant_block block;
  dgrt_major scale_major;
  uint32_t flags; /* DGRT_FLAG_PDL */
  uint32_t reserved;
} dgrt_quant_fp8_desc;
#define DGRT_QUANT_FP8_DESC \
  { {DGRT_OP_QUANT_FP8, sizeof(dgrt_quant_fp8_desc)}, 0, 0, 0, 0, 0, 0 }

typedef struct dgrt_quant_fp8_args {
  dgrt_op op; /* start from DGRT_QUANT_FP8_ARGS */
  const void* x;
  void* q;
  float* scale;
  int64_t m, ldx, ldq, ld_scale;
} dgrt_quant_fp8_args;
#define DGRT_QUANT_FP8_ARGS \
  { {DGRT_OP_QUANT_FP8, sizeof(dgrt_quant_fp8_args)}, NULL, NULL, NULL, 0, 0, 0, 0 }

/* ---- scale_layout ---------------------------------------------------------------------------- */

/* Rows of an MN-major tensor, rounded up to 16 bytes: the least distance that TMA allows between two
 * columns of `rows` elements. fp32 scales and packed scales: a multiple of 4. */
static inline int64_t dgrt_tma_aligned_rows(int64_t rows, int64_t element_bytes) {
  const int64_t multiple = 16 / element_bytes; /* element_bytes: 1, 2, 4, 8 or 16 */
  return (rows + multiple - 1) / multiple * multiple;
}

/* scale_layout: copies fp32 scales of either order, in any number of groups, into MN-major order: what
 * gemm wants of a_scale, or of b_scale with DGRT_MN_MAJOR. (A row-major copy of MN-major scales is the
 * same with rows and k blocks exchanged.)
 *
 * Shapes   src fp32, num_groups times [m, k_blocks]; group g begins at src + g * group_stride_src:
 *            K_MAJOR  src[row * ld_src + k_block], ld_src >= k_blocks
 *            MN_MAJOR src[k_block * ld_src + row], ld_src >= m
 *          dst fp32, dst[g * group_stride_dst + k_block * ld_dst + row];
 *            ld_dst >= dgrt_tma_aligned_rows(m, 4), multiple of 4.
 * Groups   Strides count elements and only matter if num_groups > 1. group_stride_src >= 0, so groups
 *          may interleave with src's rows, or share one src. group_stride_dst a multiple of 4 and at
 *          least k_blocks * ld_dst.
 * Numerics Bit-exact copy. Rows m .. (m rounded up to 4) - 1 of dst are written as 0; nothing else is.
 * Layout   src 4-byte aligned, dst 16-byte. They must not overlap. Strides less than 2^40.
 * Sizes    0 <= args.m <= desc.max_m; k_blocks >= 1; num_groups at most 65535, num_groups * k_blocks
 *          and max_m at most 2^31 - 1. m == 0 launches nothing.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/gemm/sm90_scale_layout.cuh */
typedef struct dgrt_scale_layout_desc {
  dgrt_op op; /* start from DGRT_SCALE_LAYOUT_DESC */
  int64_t k_blocks, max_m;
  uint32_t flags; /* DGRT_FLAG_PDL */
  dgrt_major src_major;
  int64_t num_groups; /* 0: 1 */
} dgrt_scale_layout_desc;
#define DGRT_SCALE_LAYOUT_DESC \
  { {DGRT_OP_SCALE_LAYOUT, sizeof(dgrt_scale_layout_desc)}, 0, 0, 0, 0, 1 }

typedef struct dgrt_scale_layout_args {
  dgrt_op op; /* start from DGRT_SCALE_LAYOUT_ARGS */
  const float* src;
  float* dst;
  int64_t m, ld_src, ld_dst;
  int64_t group_stride_src, group_stride_dst; /* num_groups > 1 only */
} dgrt_scale_layout_args;
#define DGRT_SCALE_LAYOUT_ARGS \
  { {DGRT_OP_SCALE_LAYOUT, sizeof(dgrt_scale_layout_args)}, NULL, NULL, 0, 0, 0, 0, 0 }

/* ---- scale_pack_ue8m0 ------------------------------------------------------------------------ */

/* scale_pack_ue8m0: fp32 scales that are powers of two, as UE8M0 bytes: four k blocks in an int32, the
 * lowest k block in the lowest byte, MN-major.
 *
 * Codes    Byte e means 2^(e - 127), for e of 0 to 254; it is the exponent field of a normal fp32.
 *          0xff is NaN. +0 becomes byte 0, the smallest scale there is. Negative numbers (-0 too),
 *          infinities and NaN become 0xff. So does what is not a power of two from 2^-127 to 2^127:
 *          a product with it is NaN and shows, instead of being slightly wrong. With SCALE_CEIL
 *          positive finite numbers are rounded up to the next such power; above 2^127: 0xff. Data
 *          must have been quantised with the rounded scales.
 * Shapes   src as scale_layout's. dst int32, one word per row and 4 k blocks:
 *            dst[g * group_stride_dst + word * ld_dst + row], word < words = ceil(k_blocks/4);
 *            ld_dst >= dgrt_tma_aligned_rows(m, 4), multiple of 4.
 *          Bytes past the last k block, and rows m .. (m rounded up to 4) - 1, are written as 0, a
 *          finite code; nothing else is written.
 * Groups   As scale_layout's, group_stride_dst at least words * ld_dst.
 * K groups With SCALE_K_GROUPED (num_groups at most 128, src MN_MAJOR) groups differ in k: src holds
 *          the k blocks of all groups one after another, args.k_blocks of them, and group g owns
 *          ceil(ks[g] / gran_k), its words beginning behind those of group g - 1. ks is int32 in
 *          device memory, read by the kernel; the ks[g] of the launch must be at least 0 and own
 *          args.k_blocks together. If they own less the rest of src is left out; if more, the last
 *          groups are cut. No ks whatever writes more words than (k_blocks + 3 * num_groups) / 4.
 *          Group strides are not used.
 * Layout   src and ks 4-byte aligned, dst 16-byte. They must not overlap. Strides less than 2^40.
 * Sizes    As scale_layout's. K-grouped, 0 <= args.k_blocks <= desc.k_blocks, and args.k_blocks == 0
 *          launches nothing.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/gemm/sm90_scale_pack_ue8m0.cuh; OCP Microscaling Formats 1.0, E8M0. */
typedef struct dgrt_scale_pack_ue8m0_desc {
  dgrt_op op;       /* start from DGRT_SCALE_PACK_UE8M0_DESC */
  int64_t k_blocks; /* of a group; SCALE_K_GROUPED: largest args.k_blocks */
  int64_t max_m;
  int64_t num_groups; /* 0: 1 */
  dgrt_major src_major;
  uint32_t gran_k; /* elements of k under one scale: 32 or 128; SCALE_K_GROUPED only, else 0 */
  uint32_t flags;  /* DGRT_FLAG_PDL, DGRT_SCALE_CEIL, DGRT_SCALE_K_GROUPED */
  uint32_t reserved;
} dgrt_scale_pack_ue8m0_desc;
#define DGRT_SCALE_PACK_UE8M0_DESC \
  { {DGRT_OP_SCALE_PACK_UE8M0, sizeof(dgrt_scale_pack_ue8m0_desc)}, 0, 0, 1, 0, 0, 0, 0 }

#define DGRT_SCALE_CEIL (1u << 16)      /* flag: round scales up to a power of two */
#define DGRT_SCALE_K_GROUPED (1u << 17) /* flag: groups follow one another along k */

typedef struct dgrt_scale_pack_ue8m0_args {
  dgrt_op op; /* start from DGRT_SCALE_PACK_UE8M0_ARGS */
  const float* src;
  int32_t* dst;
  const int32_t* ks; /* SCALE_K_GROUPED only, else NULL: num_groups numbers of elements */
  int64_t m, ld_src, ld_dst;
  int64_t group_stride_src, group_stride_dst; /* num_groups > 1 without SCALE_K_GROUPED only */
  int64_t k_blocks;                           /* SCALE_K_GROUPED only, else 0: of all groups */
} dgrt_scale_pack_ue8m0_args;
#define DGRT_SCALE_PACK_UE8M0_ARGS                                                                \
  {                                                                                               \
    {DGRT_OP_SCALE_PACK_UE8M0, sizeof(dgrt_scale_pack_ue8m0_args)}, NULL, NULL, NULL, 0, 0, 0, 0, \
        0, 0                                                                                      \
  }

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(gemm)
DGRT_TYPED_CALLS(gemm_grouped_contiguous)
DGRT_TYPED_CALLS(gemm_grouped_masked)
DGRT_TYPED_CALLS(gemm_batched)
DGRT_TYPED_CALLS(gemm_grouped_k)
DGRT_TYPED_CALLS(gemm_fused_linear)
DGRT_TYPED_CALLS(quant_fp8)
DGRT_TYPED_CALLS(scale_layout)
DGRT_TYPED_CALLS(scale_pack_ue8m0)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_GEMM_H_ */
