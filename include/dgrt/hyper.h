/* Hyper-connections: several residual streams per token, mixed around each sublayer. Read dgrt.h first. */
#ifndef DGRT_HYPER_H_
#define DGRT_HYPER_H_

#include "dgrt/dgrt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- hc_prenorm ------------------------------------------------------------------------------ */

/* hc_prenorm: the mixing logits before normalisation and the sum of squares that normalises them, in
 * one pass over the residual streams:
 *   z[i, j] = sum over k of x[i, k] * f[j, k],  q[i] = sum over k of x[i, k]^2.
 *
 * Shapes   x bf16 [m, k], z fp32 [m, n], q fp32 [m]. w: f as hc_prenorm_weights makes it from fp32.
 * Splits   num_splits 0: z and q are the sums; the library decides how k is shared out.
 *          num_splits s >= 1: blocks of 64 of k are dealt to s splits in order, evenly, the first ones
 *          get one more; split i writes its part of the sums to z + i * z_split_stride and
 *          q + i * q_split_stride, zeros if no block fell to it. The caller adds them up.
 * Layout   Last axis contiguous. ldx: elements between rows of x, at least k and a multiple of 8. ldz:
 *          between rows of z, at least n and a multiple of 4. With s > 1 splits z_split_stride is at
 *          least m * ldz and a multiple of 4, q_split_stride at least m; else neither is read.
 *          x, w, z 16-byte aligned, q 4-byte. Outputs must not overlap inputs.
 * Sizes    0 <= args.m <= desc.max_m <= 2^31 - 1, 0 <= num_splits <= desc.max_splits <= 65535. n a
 *          multiple of 4 up to 32; k >= 64 and a multiple of 64. m == 0 launches nothing.
 * Numerics Products of x with the two bf16 parts of f (16 bits of f), fp32 sums: the relative error of
 *          z as a whole is about 1e-6, of each q below 2e-6. Equal inputs, m and num_splits give
 *          bitwise equal sums, however often. A row's sums may depend on m, unless
 *          DGRT_FLAG_BATCH_INVARIANT is set: then they depend on the row, w, k and num_splits alone.
 *          What is not finite in x or f makes what it goes into not finite: an infinity may become NaN in
 *          z, not in q.
 * Memory   num_splits 0 may need a workspace, whose first state_bytes are zero before the first call
 *          and again after every call. Parts of few rows pass through them (1.3 MB at n = 24 on 132 SMs): a
 *          workspace that other plans write to, beyond their own state, must not be this plan's.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/hyper/sm90_hc_prenorm.cuh */
typedef struct dgrt_hc_prenorm_desc {
  dgrt_op op; /* start from DGRT_HC_PRENORM_DESC */
  int64_t n, k;
  int64_t max_m;      /* largest args.m */
  int64_t max_splits; /* largest args.num_splits */
  uint32_t flags;     /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT */
  uint32_t reserved;
} dgrt_hc_prenorm_desc;
#define DGRT_HC_PRENORM_DESC {{DGRT_OP_HC_PRENORM, sizeof(dgrt_hc_prenorm_desc)}, 0, 0, 0, 0, 0, 0}

typedef struct dgrt_hc_prenorm_args {
  dgrt_op op; /* start from DGRT_HC_PRENORM_ARGS */
  const void *x, *w;
  float *z, *q;
  int64_t m, num_splits;
  int64_t ldx, ldz;
  int64_t z_split_stride, q_split_stride;
} dgrt_hc_prenorm_args;
#define DGRT_HC_PRENORM_ARGS {{DGRT_OP_HC_PRENORM, sizeof(dgrt_hc_prenorm_args)}, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}

/* ---- hc_prenorm_weights ---------------------------------------------------------------------- */

/* hc_prenorm_weights: fp32 weights to what hc_prenorm wants of w; once, when a model is loaded.
 *
 * Shapes   f fp32 [n, k]. w bf16 [2 * p, k], dense, p = n rounded up to a multiple of 8:
 *            row j      high[j] = bf16(f[j]), nearest even; the largest bf16 where that overflows
 *            row p + j  low[j] = bf16(f[j] - high[j]); 0 where f is not finite
 *          for j < n; the other rows are zeros.
 * Layout   ldf: elements between rows of f, at least k and a multiple of 4. f and w 16-byte aligned.
 *          w must not overlap f.
 * Sizes    as hc_prenorm.
 * Numerics Byte-exact with the formula; NaN stays NaN.
 * Needs    SM90.
 * Errors   DGRT_INVALID_ARGUMENT  a rule above is broken; dgrt_last_error() names the field.
 * Source   kernels/hyper/sm90_hc_prenorm_weights.cuh */
typedef struct dgrt_hc_prenorm_weights_desc {
  dgrt_op op; /* start from DGRT_HC_PRENORM_WEIGHTS_DESC */
  int64_t n, k;
  uint32_t flags; /* DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT */
  uint32_t reserved;
} dgrt_hc_prenorm_weights_desc;
#define DGRT_HC_PRENORM_WEIGHTS_DESC {{DGRT_OP_HC_PRENORM_WEIGHTS, sizeof(dgrt_hc_prenorm_weights_desc)}, 0, 0, 0, 0}

typedef struct dgrt_hc_prenorm_weights_args {
  dgrt_op op; /* start from DGRT_HC_PRENORM_WEIGHTS_ARGS */
  const float* f;
  void* w;
  int64_t ldf;
} dgrt_hc_prenorm_weights_args;
#define DGRT_HC_PRENORM_WEIGHTS_ARGS {{DGRT_OP_HC_PRENORM_WEIGHTS, sizeof(dgrt_hc_prenorm_weights_args)}, NULL, NULL, 0}

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(hc_prenorm)
DGRT_TYPED_CALLS(hc_prenorm_weights)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_HYPER_H_ */
