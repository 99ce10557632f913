// Kernel parameters of gemm_fused_linear: d is cut by columns into segments, each a matrix of its own.
// Tiles know nothing of that, they are those of one product over all columns; only the stores do.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt {

constexpr uint32_t max_gemm_segments = 8;

struct GemmSegment {
  void* d;
  uint64_t ldd;         // elements
  uint32_t begin, end;  // columns of the product, [begin, end)
  // A boundary or a row of d is not on 16 bytes: no TMA and no vectors.
  uint32_t unaligned;
};

struct GemmSegmentParams : GemmParams {
  TensorMap d_maps[max_gemm_segments];  // GemmStore::tma, aligned segments
  GemmSegment segments[max_gemm_segments];
  uint32_t num_segments;
  uint32_t any_copied;  // a segment is unaligned, or begins inside a chunk that TMA stores
};

}  // namespace dgrt
