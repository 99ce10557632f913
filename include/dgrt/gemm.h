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
 * Sizes    0 <= args.m <= desc.max_m; k_blocks >= 1; num_groups at most 65535. m == 0 launches nothing.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/gemm/sm90_scale_layout.cuh */
typedef struct dgrt_scale_layout_desc {
  dgrt_op op; /* start from DGRT_SCALE_LAYOUT_DESC */
  int64_t k_blocks, max_m;
  uint32_t flags; /* DGRT_FLAG_PDL */
  dgrt_scale_major src_major;
  int64_t num_groups; /* 0: 1 */
} dgrt_scale_layout_desc;
#define DGRT_SCALE_LAYOUT_DESC {{DGRT_OP_SCALE_LAYOUT, sizeof(dgrt_scale_layout_desc)}, 0, 0, 0, 0, 1}

typedef struct dgrt_scale_layout_args {
  dgrt_op op; /* start from DGRT_SCALE_LAYOUT_ARGS */
  const float* src;
  float* dst;
  int64_t m, ld_src, ld_dst;
  int64_t group_stride_src, group_stride_dst; /* num_groups > 1 only */
} dgrt_scale_layout_args;
#define DGRT_SCALE_LAYOUT_ARGS {{DGRT_OP_SCALE_LAYOUT, sizeof(dgrt_scale_layout_args)}, NULL, NULL, 0, 0, 0, 0, 0}

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
 * Sizes    0 <= args.m <= desc.max_m; k_blocks >= 1; num_groups at most 65535. m == 0 and, K-grouped,
 *          args.k_blocks == 0 launch nothing.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/gemm/sm90_scale_pack_ue8m0.cuh; OCP Microscaling Formats 1.0, E8M0. */
typedef struct dgrt_scale_pack_ue8m0_desc {
  dgrt_op op;       /* start from DGRT_SCALE_PACK_UE8M0_DESC */
  int64_t k_blocks; /* of a group; SCALE_K_GROUPED: largest args.k_blocks */
  int64_t max_m;
  int64_t num_groups; /* 0: 1 */
  dgrt_scale_major src_major;
  uint32_t gran_k; /* elements of k under one scale: 32 or 128; SCALE_K_GROUPED only, else 0 */
  uint32_t flags;  /* DGRT_FLAG_PDL, DGRT_SCALE_CEIL, DGRT_SCALE_K_GROUPED */
  uint32_t reserved;
} dgrt_scale_pack_ue8m0_desc;
#define DGRT_SCALE_PACK_UE8M0_DESC {{DGRT_OP_SCALE_PACK_UE8M0, sizeof(dgrt_scale_pack_ue8m0_desc)}, 0, 0, 1, 0, 0, 0, 0}

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
#define DGRT_SCALE_PACK_UE8M0_ARGS {{DGRT_OP_SCALE_PACK_UE8M0, sizeof(dgrt_scale_pack_ue8m0_args)}, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

#define DGRT_TYPED_CALLS(name)                                                                       \
  static inline dgrt_status dgrt_##name##_plan_create(                                               \
      dgrt_context* context, const dgrt_##name##_desc* desc, dgrt_plan** plan) {                     \
    return dgrt_plan_create(context, desc ? &desc->op : NULL, plan);                                 \
  }                                                                                                  \
  static inline dgrt_status dgrt_##name##_launch(const dgrt_plan* plan,                              \
                                                 const dgrt_##name##_args* args, void* workspace,    \
                                                 size_t workspace_bytes, CUstream stream) {          \
    return dgrt_launch(plan, args ? &args->op : NULL, workspace, workspace_bytes, stream);           \
  }
DGRT_TYPED_CALLS(gemm)
DGRT_TYPED_CALLS(quant_fp8)
DGRT_TYPED_CALLS(scale_layout)
DGRT_TYPED_CALLS(scale_pack_ue8m0)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_GEMM_H_ */
