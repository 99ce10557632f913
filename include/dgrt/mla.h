/* Multi-head latent attention over sparse, paged caches of DeepSeek-V3.2 and V4: what surrounds attention
 * itself. Read dgrt.h first. */
#ifndef DGRT_MLA_H_
#define DGRT_MLA_H_

#include "dgrt/dgrt.h"

#ifdef __cplusplus
extern "C" {
#endif

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

/* ---- Typed wrappers over the calls of dgrt.h ----------------------------------------------------- */

DGRT_TYPED_CALLS(topk_transform)

#ifdef __cplusplus
}
#endif
#endif /* DGRT_MLA_H_ */
