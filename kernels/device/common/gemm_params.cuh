// Kernel parameters of every op of the GEMM family: one struct, so that one piece of host code binds
// them all. An op leaves zero what it does not have.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// Element types as the kernels' configs number them: the values of dgrt_dtype.
constexpr int dtype_bf16 = 1;
constexpr int dtype_fp16 = 2;
constexpr int dtype_fp32 = 3;
// Of one element of d.
template <int dtype>
constexpr uint32_t dtype_bytes = dtype == dtype_fp32 ? 4 : 2;

// What scales multiply: the values of dgrt_scale_mode.
constexpr int scale_block = 1;    // a per 1 x 128, b per 128 x 128
constexpr int scale_row = 2;      // both per 1 x 128
constexpr int scale_channel = 3;  // a per row or one, b per row or one; applied to the sums

// d and what is added to it, as plain pointers. Of several groups, the first one's.
struct GemmOutput {
  uint32_t m, n;
  void* d;            // [m, n]
  const void* c;      // [m, n] of d's type, or null
  const void* bias;   // [n] of d's type, or null
  uint64_t ldd, ldc;  // elements
  uint64_t d_group_stride, c_group_stride;
  // Column insertion: n is cut into heads of head_width columns; head_mid columns that are not
  // written come after the first head_left of each.
  uint32_t head_left, head_width, head_mid;
};

// Scales that are read through plain pointers.
struct GemmScales {
  const float* b;  // scale_block: [n blocks, k blocks]; scale_channel: [n]
  uint64_t b_n_stride, b_k_stride, b_group_stride;
  const float* a;  // scale_channel: [m]
  uint64_t a_stride;
};

struct GemmGroups {
  // contiguous: group of each row, or end row of each group. masked: rows of each group. grouped_k:
  // k of each group.
  const int32_t* ids;
  int32_t* signal;  // masked: one counter per group and m tile, or null
  uint32_t count;
  uint32_t alignment;  // contiguous, end rows: where groups start
  // grouped_k: k of all groups, the operands, bytes between their rows (MN-major), and room for two maps
  // of every group in every CTA.
  uint32_t k;
  const void *a, *b;
  uint64_t a_row_bytes, b_row_bytes;
  TensorMap* maps;
};

// Batches that are summed: clusters that share the k of one tile, each a part of it.
struct GemmParts {
  uint32_t count;      // of every tile; 1: no exchange
  uint32_t* counters;  // [tile][k rank], zero before and after
  float* sums;         // [part][tile][block_m][block_n]
};

// What every thread looks at before its first load stands in front, in one line of constants.
struct GemmParams {
  uint32_t num_k_blocks;
  uint32_t band;  // see TileWalk
  GemmOutput out;
  GemmScales scales;
  GemmGroups groups;
  GemmParts parts;
  TensorMap a, b;     // boxes of 128 bytes of k, or of 64 rows and 64 k (MN-major)
  TensorMap a_scale;  // [k blocks, m]; boxes of one k block
  TensorMap b_scale;  // scale_row: [k blocks, n]
  TensorMap d;        // GemmStore::tma only
};

}  // namespace dgrt
