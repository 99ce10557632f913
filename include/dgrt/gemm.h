/* Dense matrix products and the ops that make their inputs. Read dgrt.h first. */
#ifndef DGRT_GEMM_H_
#define DGRT_GEMM_H_

#include "dgrt/dgrt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- gemm ------------------------------------------------------------------------------------ */

/* What a_scale and b_scale hold. Numbers never change. */
typedef uint32_t dgrt_scale_mode;
enum {
  DGRT_SCALE_NONE = 0,  /* bf16 operands */
  DGRT_SCALE_BLOCK = 1  /* e4m3: one fp32 per 1 x 128 of a and per 128 x 128 of b */
};

/* Which axis of a 2-d scale tensor is contiguous. Numbers never change. */
typedef uint32_t dgrt_scale_major;
enum {
  DGRT_K_MAJOR = 0, /* [rows, k blocks], k blocks contiguous */
  DGRT_MN_MAJOR = 1 /* rows contiguous */
};

/* gemm: d = a * transpose(b), optionally + c.
 *
 * Shapes   a [m, k], b [n, k], c and d [m, n].
 * Types    dtype_ab bf16 with SCALE_NONE: d bf16 or fp32; c (WITH_C) has d's type.
 *          dtype_ab e4m3 with SCALE_BLOCK: d bf16, no c.
 * Scales   a_scale fp32, one per row and 128 of k, rows contiguous (MN-major):
 *            a_scale[(k_idx / 128) * ld_a_scale + m_idx], ld_a_scale >= m, multiple of 4.
 *          b_scale fp32, one per 128 x 128 block, ceil(n/128) by ceil(k/128):
 *            K_MAJOR  b_scale[(n_idx / 128) * ld_b_scale + k_idx / 128], ld_b_scale >= ceil(k/128)
 *            MN_MAJOR b_scale[(k_idx / 128) * ld_b_scale + n_idx / 128], ld_b_scale >= ceil(n/128)
 * Layout   Last axis contiguous. lda, ldb, ldc, ldd: elements between rows; at least the row's length
 *          and a multiple of 16 bytes. a, b, c, d and a_scale 16-byte aligned, b_scale 4-byte.
 *          d must not overlap a or b; c may be d itself.
 * Sizes    0 <= args.m <= desc.max_m, n >= 1, k >= 0, each at most 2^31 - 1. m == 0 launches nothing.
 *          k == 0 fills d with zeros, or with c. No multiple of anything is asked of m, n, k.
 * Numerics fp32 accumulation; e4m3: exact products summed by the tensor core over 128 of k, then scaled
 *          and added in fp32. c is added in fp32. One rounding to d's type, nearest even. Equal
 *          inputs and m on the same device model and library version give bitwise equal d.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 *          DGRT_UNSUPPORTED       no kernel for this device and these types.
 * Source   kernels/gemm/sm90_gemm_fp8.cuh, kernels/gemm/sm90_gemm_bf16.cuh; PTX ISA, wgmma. */
typedef struct dgrt_gemm_desc {
  dgrt_op op;                     /* start from DGRT_GEMM_DESC */
  int64_t n, k;
  int64_t max_m;                  /* largest args.m */
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode;
  dgrt_scale_major b_scale_major; /* SCALE_BLOCK only */
  uint32_t sm_budget;             /* use at most this many SMs; 0: all */
  uint32_t flags;                 /* DGRT_FLAG_PDL, DGRT_GEMM_WITH_C */
} dgrt_gemm_desc;
#define DGRT_GEMM_DESC {{DGRT_OP_GEMM, sizeof(dgrt_gemm_desc)}, 0, 0, 0, 0, 0, 0, 0, 0, 0}

#define DGRT_GEMM_WITH_C (1u << 16) /* flag: args.c is added */

typedef struct dgrt_gemm_args {
  dgrt_op op;                     /* start from DGRT_GEMM_ARGS */
  const void *a, *b;
  const void* c;                  /* WITH_C only, else NULL */
  const float *a_scale, *b_scale; /* SCALE_BLOCK only, else NULL */
  void* d;
  int64_t m;
  int64_t lda, ldb, ldc, ldd;
  int64_t ld_a_scale, ld_b_scale;
} dgrt_gemm_args;
#define DGRT_GEMM_ARGS {{DGRT_OP_GEMM, sizeof(dgrt_gemm_args)}, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0}

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
  dgrt_scale_major scale_major;
  uint32_t flags; /* DGRT_FLAG_PDL */
  uint32_t reserved;
} dgrt_quant_fp8_desc;
#define DGRT_QUANT_FP8_DESC {{DGRT_OP_QUANT_FP8, sizeof(dgrt_quant_fp8_desc)}, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_quant_fp8_args {
  dgrt_op op; /* start from DGRT_QUANT_FP8_ARGS */
  const void* x;
  void* q;
  float* scale;
  int64_t m, ldx, ldq, ld_scale;
} dgrt_quant_fp8_args;
#define DGRT_QUANT_FP8_ARGS {{DGRT_OP_QUANT_FP8, sizeof(dgrt_quant_fp8_args)}, NULL, NULL, NULL, 0, 0, 0, 0}

/* ---- scale_layout ---------------------------------------------------------------------------- */

/* scale_layout: turns row-major scales into what gemm wants of a_scale.
 *
 * Shapes   src fp32 [m, k_blocks], row-major, ld_src >= k_blocks.
 *          dst fp32, dst[k_block * ld_dst + row], ld_dst >= m rounded up to 4, multiple of 4.
 * Numerics Bit-exact copy. Rows m .. (m rounded up to 4) - 1 of dst are written as 0; nothing else is.
 * Layout   src 4-byte aligned, dst 16-byte. They must not overlap.
 * Sizes    0 <= args.m <= desc.max_m; k_blocks >= 1. m == 0 launches nothing.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/gemm/sm90_scale_layout.cuh */
typedef struct dgrt_scale_layout_desc {
  dgrt_op op; /* start from DGRT_SCALE_LAYOUT_DESC */
  int64_t k_blocks, max_m;
  uint32_t flags; /* DGRT_FLAG_PDL */
  uint32_t reserved;
} dgrt_scale_layout_desc;
#define DGRT_SCALE_LAYOUT_DESC {{DGRT_OP_SCALE_LAYOUT, sizeof(dgrt_scale_layout_desc)}, 0, 0, 0, 0}

typedef struct dgrt_scale_layout_args {
  dgrt_op op; /* start from DGRT_SCALE_LAYOUT_ARGS */
  const float* src;
  float* dst;
  int64_t m, ld_src, ld_dst;
} dgrt_scale_layout_args;
#define DGRT_SCALE_LAYOUT_ARGS {{DGRT_OP_SCALE_LAYOUT, sizeof(dgrt_scale_layout_args)}, NULL, NULL, 0, 0, 0}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(gemm)
DGRT_TYPED_CALLS(quant_fp8)
DGRT_TYPED_CALLS(scale_layout)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_GEMM_H_ */
