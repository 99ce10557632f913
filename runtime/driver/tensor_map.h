// Tensor maps: how a TMA load or store sees a matrix in global memory.
#pragma once
#include <cstdint>

#include "device/common/interface.cuh"
#include "dgrt/dgrt.h"
#include "runtime/base/status.h"

namespace dgrt {

class Driver;

enum class Swizzle : uint8_t { none, b32, b64, b128 };

// A row-major matrix [rows, cols], or several of one shape, and the box that one TMA instruction moves, as a rule
// within one of them. With pages: as many groups of matrices. Out-of-range elements of a box read as zero and are
// not stored.
struct TmaMatrix {
  dgrt_dtype dtype;             // bf16, fp16, fp32, e4m3
  const void* base;             // 16-byte aligned
  uint64_t rows, cols;          // elements, >= 1
  uint64_t row_stride;          // elements; in bytes a multiple of 16
  uint32_t box_rows, box_cols;  // <= 256 each; box_cols * size <= swizzle span
  Swizzle swizzle;
  uint32_t groups = 0;        // 0: a map of two dimensions; else of three
  uint64_t group_stride = 0;  // elements between groups; in bytes a multiple of 16
  uint32_t pages = 0;         // 0: none; else a map of four dimensions, with groups
  uint64_t page_stride = 0;   // elements between pages; in bytes a multiple of 16
  uint32_t box_groups = 1, box_pages = 1;
};

// DRIVER_ERROR names the map's fields. Does not allocate. About 0.08 us.
Status encode_tensor_map(const Driver& driver, const TmaMatrix& matrix, TensorMap* map);

}  // namespace dgrt
