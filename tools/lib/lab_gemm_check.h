// Reference for the ops of the GEMM family: each checked tile of d is recomputed naively, in fp64,
// from the operands that the kernel saw, and compared on the spot. No reference matrix is stored, so
// the largest shapes fit; a list of tiles bounds the time of big ones. A global measure can hide one
// wrong tile, hence the per-tile and the per-element one.
//
// What is checked is one product; calls of several are turned into theirs by product_of().
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "dgrt/gemm.h"
#include "tools/lib/lab_device.h"

namespace dgrt::lab {

constexpr uint32_t check_tile = 64;  // rows and columns of one checked tile

struct GemmTile {
  uint32_t row, col;  // of the tile's first element; multiples of check_tile
};

// d = a * transpose(b) + bias + c with scales, as plain pointers and strides in elements.
struct GemmProduct {
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode;
  int64_t m, n, k;
  const void *a, *b, *c, *bias, *d;  // c, bias may be null
  int64_t a_row, a_k, b_row, b_k, ldc, ldd;
  const float *a_scale, *b_scale;
  // Between scales of neighbouring rows (of b, SCALE_BLOCK: of neighbouring 128 rows) and of k blocks.
  int64_t a_scale_row, a_scale_k, b_scale_row, b_scale_k;
  uint32_t head_left, head_mid, head_right;
  // Products that are added up, and elements between their operands.
  int64_t num_summed = 1, a_summed = 0, b_summed = 0;
};

GemmProduct product_of(const dgrt_gemm_desc& desc, const dgrt_gemm_args& args);
// The rows [first_row, first_row + num_rows), which belong to `group`.
GemmProduct product_of(const dgrt_gemm_grouped_contiguous_desc& desc,
                       const dgrt_gemm_grouped_contiguous_args& args, uint32_t group,
                       int64_t first_row, int64_t num_rows);
// The first `num_rows` rows of a group.
GemmProduct product_of(const dgrt_gemm_grouped_masked_desc& desc,
                       const dgrt_gemm_grouped_masked_args& args, uint32_t group, int64_t num_rows);
// SUM_BATCHES: the sum, whatever the batch.
GemmProduct product_of(const dgrt_gemm_batched_desc& desc, const dgrt_gemm_batched_args& args,
                       uint32_t batch);

struct GemmError {
  double calc_diff = 0;      // 1 - 2xy / (x^2 + y^2) over all checked elements; 0 if both are all 0
  double worst_tile = 0;     // ||d - ref|| / ||ref|| of the worst tile; more counts than ref where sums cancel
  double worst_element = 0;  // |d - ref| / (|ref| + rms(ref of its tile)), the worst; where sums cancel, as above
  GemmTile worst_tile_at{};
  uint32_t worst_row = 0, worst_col = 0;  // of the worst element
  double worst_got = 0, worst_want = 0;
  uint64_t checked = 0;  // elements
  // Elements of which exactly one of d and ref is NaN or infinite, or which are infinities of
  // different sign. They count in nothing else.
  uint64_t class_mismatches = 0;
  uint32_t mismatch_row = 0, mismatch_col = 0;  // of one of them
  double mismatch_got = 0, mismatch_want = 0;

  std::string to_string() const;
};

// Checks the whole of d, or only `tiles`. Requires: `c`, where d was written in place, points at a
// copy of what c held before. Waits for the device.
Result<GemmError> check_gemm(const Device& device, const GemmProduct& product,
                             const std::vector<GemmTile>& tiles = {});

// At most `count` tiles of an m x n matrix: corners, edges and a fixed pseudo-random selection. All
// of them, when there are no more than `count`.
std::vector<GemmTile> sample_tiles(uint64_t m, uint64_t n, size_t count, uint64_t seed);

// What a correct kernel stays below, from the number formats; lab_gemm_check.cpp derives them.
struct GemmLimits {
  double calc_diff, worst_tile, worst_element;
};
GemmLimits gemm_limits(const GemmProduct& product);
// INTERNAL: says which limit is broken, and where. Mismatches of class are never within limits.
Status check_limits(const GemmError& error, const GemmLimits& limits);

// The bytes [first_byte, end_byte) of each row.
struct ByteColumns {
  const void* base;
  uint64_t rows, row_stride;  // bytes
  uint64_t first_byte, end_byte;
};
// Do they still hold what they held before: 0xff, or what stands at the same place of `before`?
// INTERNAL names the first place. Waits for the device.
Status check_untouched(const Device& device, const ByteColumns& columns,
                       const void* before = nullptr);

// Index of the first byte that differs, or -1. Waits for the device.
Result<int64_t> first_difference(const Device& device, const void* x, const void* y,
                                 uint64_t bytes);

}  // namespace dgrt::lab
