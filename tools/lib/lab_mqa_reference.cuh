// What mqa_logits and paged_mqa_logits must give, naively: a thread computes one logit, products of a head in
// fp32, sums over heads in fp64. Shares no code with the kernels that it judges.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::mqa_reference {

constexpr uint32_t num_threads = 128;

struct Params {
  const uint8_t *q, *kv;      // e4m3 [rows][num_heads][head_dim]; contiguous keys, or pages
  const float *kv_scale, *w;  // kv_scale: of contiguous keys
  const int32_t *begin, *end;  // of each row's keys; begin null: 0
  const int32_t* page_table;   // null: keys are contiguous
  double* want;                // [gridDim.y][columns]; minus infinity: no logit
  uint64_t w_row, table_row, page_bytes;
  uint32_t num_heads, head_dim, columns;
  uint32_t num_keys;  // ranges are cut there
  uint32_t row_step;  // between the rows that are computed
  uint32_t page_size, num_pages, next_n;
  uint32_t compressed;
};

#ifdef __CUDACC_RTC__

__device__ __forceinline__ float decode(uint8_t code) {
  float v;
  asm("{.reg .b32 pair; .reg .b16 low, high; cvt.rn.f16x2.e4m3x2 pair, %1; mov.b32 {low, high}, pair;"
      "cvt.f32.f16 %0, low;}"
      : "=f"(v)
      : "h"(static_cast<uint16_t>(code)));
  return v;
}

// Null: a key of zeros.
__device__ __forceinline__ const uint8_t* key_of(const Params& p, uint32_t row, int32_t key, float* scale) {
  if (p.page_table == nullptr) {
    *scale = p.kv_scale[key];
    return p.kv + static_cast<uint64_t>(key) * p.head_dim;
  }
  const uint32_t slot = key % p.page_size;
  const int32_t page = p.page_table[row / p.next_n * p.table_row + key / p.page_size];
  *scale = 0.0f;
  if (page < 0 || page >= static_cast<int32_t>(p.num_pages)) return nullptr;
  const uint8_t* start = p.kv + page * p.page_bytes;
  *scale = reinterpret_cast<const float*>(start + p.page_size * p.head_dim)[slot];
  return start + slot * p.head_dim;
}

template <class Cfg>
__device__ void run(const Params& p) {
  const uint32_t row = blockIdx.y * p.row_step, column = blockIdx.x * num_threads + threadIdx.x;
  __shared__ float q[64 * 128];
  for (uint32_t i = threadIdx.x; i < p.num_heads * p.head_dim; i += num_threads)
    q[i] = decode(p.q[static_cast<uint64_t>(row) * p.num_heads * p.head_dim + i]);
  __syncthreads();
  if (column >= p.columns) return;
  const auto most = static_cast<int32_t>(p.num_keys);
  const int32_t begin = p.begin == nullptr ? 0 : min(max(p.begin[row], 0), most);
  const int32_t end = min(max(p.end[row], 0), most);
  const int32_t key = static_cast<int32_t>(column) + (p.compressed != 0 ? begin : 0);
  double logit = -__longlong_as_double(0x7ff0000000000000);
  if (key >= begin && key < end) {
    float scale = 0.0f;
    const uint8_t* k = key_of(p, row, key, &scale);
    double sum = 0.0;
    for (uint32_t head = 0; k != nullptr && head < p.num_heads; ++head) {
      float dot = 0.0f;
      for (uint32_t d = 0; d < p.head_dim; ++d) dot += q[head * p.head_dim + d] * decode(k[d]);
      if (!(dot <= 0.0f)) sum += static_cast<double>(p.w[row * p.w_row + head]) * dot;
    }
    logit = sum * scale;
  }
  p.want[static_cast<uint64_t>(blockIdx.y) * p.columns + column] = logit;
}

#endif
}  // namespace dgrt::lab::mqa_reference
