// SM90 mla_kv_append: quantises the latent rows of new tokens into their slots of a paged cache of sparse MLA.
// Bound by memory: each byte is read once and written once.
//
// Scales    amax: of a group, at least 1e-4, at most the largest number; NaN does not count.
//           V32: scale = amax / 448, q = e4m3(x * (1 / scale)), both divisions IEEE.
//           V4: scale = 2^ceil(log2(amax / 448)), q = e4m3(x / scale), which is exact but for the last rounding.
// Roles     A warp moves a token: a lane has 16 columns of a group, 8 from each of its halves, so that the lanes'
//           loads and stores lie side by side; 8 lanes copy the rotary columns. `tokens_per_warp` tokens' loads
//           are in flight together.
// Needs     rows and pages 16-byte aligned.
// Source    PTX ISA: cvt.rn.satfinite.e4m3x2.f32, griddepcontrol.
#pragma once
#include "device/common/gemm_params.cuh"  // dtype_bf16
#include "device/common/latent_row.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::mla_kv_append {

// ---- Interface: host and NVRTC ----

struct Params {
  const void* latent;  // bf16 [tokens, 512 or 448]
  const void* rotary;  // bf16 [tokens, 64]
  void* cache;
  const void* slots;                     // int32 or int64 [tokens]
  uint64_t latent_token, rotary_token;   // elements
  uint64_t page_bytes;                   // between pages
  uint32_t num_tokens, num_slots, page_size;
};

constexpr uint32_t num_threads = 256;
DGRT_HD constexpr uint32_t block_tokens(uint32_t tokens_per_warp) { return num_threads / 32 * tokens_per_warp; }

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// What a lane has of a token.
struct Slice {
  uint4 near, far;  // of a group's halves
  uint4 rotary;
};

__device__ __forceinline__ float max_abs(uint4 v) {
  const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
  float most = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
    most = fmaxf(most, fmaxf(fabsf(ptx::half_low<dtype_bf16>(pairs[i])),
                             fabsf(ptx::half_high<dtype_bf16>(pairs[i]))));
  return most;
}

__device__ __forceinline__ uint32_t quantise_2(uint32_t pair, float factor) {
  return ptx::cvt_e4m3x2(ptx::mul_rn_f32(ptx::half_high<dtype_bf16>(pair), factor),
                         ptx::mul_rn_f32(ptx::half_low<dtype_bf16>(pair), factor));
}

__device__ __forceinline__ void store_quantised(void* to, uint4 v, float factor) {
  const uint32_t low = quantise_2(v.x, factor) | quantise_2(v.y, factor) << 16;
  const uint32_t high = quantise_2(v.z, factor) | quantise_2(v.w, factor) << 16;
  ptx::store_f32x2(to, make_float2(__uint_as_float(low), __uint_as_float(high)));  // 8 bytes
}

// Called by whole warps.
template <int format>
__device__ __forceinline__ void store_token(const LatentPlace& to, const Slice& v, uint32_t lane) {
  using Row = LatentRow<format>;
  constexpr uint32_t group_lanes = Row::group_columns / 16;
  const uint32_t group = lane / group_lanes, column = group * Row::group_columns + lane % group_lanes * 8;
  float amax = fmaxf(max_abs(v.near), max_abs(v.far));
#pragma unroll
  for (uint32_t step = group_lanes / 2; step > 0; step /= 2)
    amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, step));
  const float quotient = fminf(fmaxf(amax, 1e-4f), 3.402823466e38f) / 448.0f;
  const bool has_group = group < Row::num_groups;
  float factor;
  if constexpr (Row::is_planar) {
    const uint32_t exponent = (__float_as_uint(quotient) + 0x7fffff) >> 23;  // rounded up
    factor = __uint_as_float((254 - exponent) << 23);
    // The byte that no group has is 0, as serving engines write it.
    if (lane % group_lanes == 0) ptx::store_b8(to.scales + group, has_group ? exponent : 0);
  } else {
    factor = 1.0f / quotient;
    if (lane % group_lanes == 0) ptx::store_f32(to.scales + group * 4, quotient);
  }
  if (has_group) {
    store_quantised(to.row + column, v.near, factor);
    store_quantised(to.row + column + Row::group_columns / 2, v.far, factor);
  }
  if (lane < latent_rotary_columns / 8) ptx::store_b32x4(to.row + Row::rotary_at + lane * 16, v.rotary);
}

// Cfg: format, wide_slots, tokens_per_warp.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  using Row = LatentRow<Cfg::format>;
  constexpr uint32_t tokens = Cfg::tokens_per_warp, num_warps = num_threads / 32;
  constexpr uint32_t group_lanes = Row::group_columns / 16;
  const uint32_t lane = threadIdx.x % 32, group = lane / group_lanes;
  const uint32_t column = group * Row::group_columns + lane % group_lanes * 8;
  const uint32_t first = blockIdx.x * block_tokens(tokens) + threadIdx.x / 32;
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  int64_t slots[tokens];
  Slice slices[tokens];
#pragma unroll
  for (uint32_t i = 0; i < tokens; ++i) {
    const uint32_t token = first + i * num_warps;
    slots[i] = -1;
    slices[i] = {};
    if (token >= p.num_tokens) continue;
    slots[i] = load_slot<Cfg::wide_slots>(p.slots, token);
    const uint16_t* latent = static_cast<const uint16_t*>(p.latent) + token * p.latent_token + column;
    if (group < Row::num_groups) {
      slices[i].near = ptx::load_stream_b32x4(latent);
      slices[i].far = ptx::load_stream_b32x4(latent + Row::group_columns / 2);
    }
    if (lane < latent_rotary_columns / 8)
      slices[i].rotary = ptx::load_stream_b32x4(static_cast<const uint16_t*>(p.rotary) +
                                                token * p.rotary_token + lane * 8);
  }
#pragma unroll
  for (uint32_t i = 0; i < tokens; ++i) {
    if (slots[i] < 0 || slots[i] >= p.num_slots) continue;
    const uint32_t slot = static_cast<uint32_t>(slots[i]), page = slot / p.page_size;
    store_token<Cfg::format>(
        latent_place<Cfg::format>(p.cache, p.page_bytes, p.page_size, page, slot - page * p.page_size),
        slices[i], lane);
  }
}
#endif

}  // namespace dgrt::sm90::mla_kv_append
