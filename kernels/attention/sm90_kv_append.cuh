// SM90 kv_append: copies keys and values of new tokens to their slots of a paged cache, as they are or as
// e4m3(x / scale). Bound by memory: each byte is read once and written once.
//
// Roles     A thread moves 8 elements (16 bytes) of one head's key or value, for `tokens_per_thread` tokens
//           whose loads are in flight together; slots are loaded beside what goes there. `lanes` threads
//           that differ in the elements make a token, as many tokens as fit make a thread block.
// Needs     rows of k and v 16-byte aligned, those of the cache on 8 elements.
// Source    PTX ISA: cvt.rn.satfinite.e4m3x2.f32, griddepcontrol.
#pragma once
#include "device/common/gemm_params.cuh"  // dtype_fp16
#ifdef __CUDACC_RTC__
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::kv_append {

// ---- Interface: host and NVRTC ----

// Keys or values. Strides in elements.
struct Tensor {
  const void* from;    // [tokens, heads, columns]
  void* to;            // [pages, page_size, heads, columns]
  const float* scale;  // e4m3: [heads], or null: 1
  uint64_t from_token, from_head, page, slot, head;
  uint64_t scale_head;  // 0: all heads share one
  uint32_t head_vectors;
};

struct Params {
  Tensor k, v;
  const void* slots;  // int32 or int64 [tokens]
  uint32_t num_tokens, num_slots, page_size;
  uint32_t k_vectors, num_vectors;  // of a token: of all its keys, of keys and values
  uint32_t lanes, block_tokens;     // block_tokens: at a time
};

constexpr uint32_t num_threads = 256;
constexpr uint32_t vector_columns = 8;

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// x / scale as the IEEE division gives it, wherever e4m3 tells the difference: a guess and its remainder's
// part. The bounds keep an overflow from becoming NaN; a zero keeps its sign.
__device__ __forceinline__ float divide(float x, float scale, float reciprocal) {
  const float guess = fminf(fmaxf(ptx::mul_rn_f32(x, reciprocal), -1e30f), 1e30f);
  const float rest = ptx::fma_rn_f32(-guess, scale, x);
  return copysignf(ptx::fma_rn_f32(rest, reciprocal, guess), x);
}

template <int dtype>
__device__ __forceinline__ uint32_t quantise_2(uint32_t pair, float scale, float reciprocal) {
  return ptx::cvt_e4m3x2(divide(ptx::half_high<dtype>(pair), scale, reciprocal),
                         divide(ptx::half_low<dtype>(pair), scale, reciprocal));
}

template <int dtype>
__device__ __forceinline__ void store_quantised(void* to, uint4 v, float scale, float reciprocal) {
  const uint32_t low =
      quantise_2<dtype>(v.x, scale, reciprocal) | quantise_2<dtype>(v.y, scale, reciprocal) << 16;
  const uint32_t high =
      quantise_2<dtype>(v.z, scale, reciprocal) | quantise_2<dtype>(v.w, scale, reciprocal) << 16;
  ptx::store_f32x2(to, make_float2(__uint_as_float(low), __uint_as_float(high)));  // 8 bytes
}

template <bool wide>
__device__ __forceinline__ int64_t load_slot(const void* slots, uint32_t token) {
  if constexpr (wide) return static_cast<const int64_t*>(slots)[token];
  return static_cast<const int32_t*>(slots)[token];
}

// Cfg: dtype, quantised, wide_slots, tokens_per_thread.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  constexpr uint32_t tokens = Cfg::tokens_per_thread, to_bytes = Cfg::quantised ? 1 : 2;
  const uint32_t token_lane = threadIdx.x / p.lanes;
  const uint32_t vector = blockIdx.y * p.lanes + threadIdx.x - token_lane * p.lanes;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  if (token_lane >= p.block_tokens || vector >= p.num_vectors) return;

  const bool is_k = vector < p.k_vectors;
  const Tensor& t = is_k ? p.k : p.v;
  const uint32_t place = is_k ? vector : vector - p.k_vectors;
  const uint32_t head = place / t.head_vectors;
  const uint32_t column = (place - head * t.head_vectors) * vector_columns;
  const uint8_t* from = static_cast<const uint8_t*>(t.from) + (head * t.from_head + column) * 2;
  uint8_t* to = static_cast<uint8_t*>(t.to) + (head * t.head + column) * to_bytes;

  const uint32_t first = blockIdx.x * p.block_tokens * tokens + token_lane;
  int64_t slots[tokens];
  uint4 data[tokens];
#pragma unroll
  for (uint32_t i = 0; i < tokens; ++i) {
    const uint32_t token = first + i * p.block_tokens;
    slots[i] = -1;
    if (token >= p.num_tokens) continue;
    slots[i] = load_slot<Cfg::wide_slots>(p.slots, token);
    data[i] = ptx::load_stream_b32x4(from + token * t.from_token * 2);
  }
  float scale = 1.0f, reciprocal = 1.0f;
  if (Cfg::quantised && t.scale != nullptr) {
    scale = t.scale[head * t.scale_head];
    reciprocal = 1.0f / scale;
  }
#pragma unroll
  for (uint32_t i = 0; i < tokens; ++i) {
    if (slots[i] < 0 || slots[i] >= p.num_slots) continue;
    const uint32_t slot = static_cast<uint32_t>(slots[i]), page = slot / p.page_size;
    uint8_t* row = to + (page * t.page + (slot - page * p.page_size) * t.slot) * to_bytes;
    if constexpr (Cfg::quantised)
      store_quantised<Cfg::dtype>(row, data[i], scale, reciprocal);
    else
      ptx::store_b32x4(row, data[i]);
  }
}
#endif

}  // namespace dgrt::sm90::kv_append
