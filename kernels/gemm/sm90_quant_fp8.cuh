// SM90 quant_fp8: q = e4m3(x / scale), one fp32 scale per 1 x 128 or 128 x 128 block of a bf16
// matrix. amax = max(max|x|, 1e-4), scale = amax / 448, q = e4m3(x * (1 / scale)): both divisions
// IEEE, so the bytes are those of the formula. NaN anywhere in a block makes its scale and all its
// q NaN. Bound by memory: 3 bytes per element; each byte is read once and written once.
//
// Roles     8 lanes share one row of one block: 16 elements each, as two 16-byte loads that
//           neighbours interleave (128 contiguous bytes per load and row). A lane pair swaps halves
//           before the store, so that each lane writes 16 contiguous bytes. 4 of these row slots
//           make a warp; `block_m` rows by `k_blocks` blocks of k make a thread block;
//           `rows_per_thread` row slots per thread keep that many times 32 bytes in flight.
// Tails     16 bytes that reach past k are moved element by element; nothing past k is touched.
// Needs     x, q 16-byte aligned, ldx and ldq multiples of 16 bytes.
// Source    PTX ISA: cvt.rn.satfinite.e4m3x2.f32, griddepcontrol.
#pragma once
#include "device/common/interface.cuh"
#ifdef __CUDACC_RTC__
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
#endif

namespace dgrt::sm90::quant_fp8 {

// ---- Interface: host and NVRTC ----

struct Params {
  const void* x;     // bf16 [m, k]
  void* q;           // e4m3 [m, k]
  float* scale;      // scale[block_row * scale_row_stride + k_block * scale_k_stride]
  int64_t ldx, ldq;  // elements
  int64_t scale_row_stride, scale_k_stride;  // elements; one of them is 1
  uint32_t m, k;
};

constexpr uint32_t block_k = 128;       // columns under one scale
constexpr uint32_t lanes_per_row = 8;   // 16 elements each
constexpr uint32_t max_grid_y = 65535;  // CUDA's limit; blocks loop over the rows beyond

DGRT_HD constexpr uint32_t num_threads(uint32_t block_m, uint32_t k_blocks,
                                       uint32_t rows_per_thread) {
  return block_m / rows_per_thread * k_blocks * lanes_per_row;
}

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----

// 16 elements of one row: two runs of 8, 64 columns apart.
struct Slice {
  uint4 near, far;
};

// Elements [col, col + 8) of a row; those at k and beyond are 0.
__device__ __forceinline__ uint4 load_8(const uint16_t* row, uint32_t col, uint32_t k) {
  if (col + 8 <= k) return ptx::load_stream_b32x4(row + col);
  uint64_t low = 0, high = 0;
#pragma unroll 1  // rare: small code, few registers
  for (uint32_t i = 0; col + i < k; ++i) {
    const uint64_t element = ptx::load_stream_b16(row + col + i);
    (i < 4 ? low : high) |= element << (i % 4 * 16);
  }
  return make_uint4(low, low >> 32, high, high >> 32);
}

// This lane's 16 elements of the block that begins at `first_col`.
__device__ __forceinline__ Slice load_slice(const uint16_t* row, uint32_t first_col, uint32_t lane,
                                            uint32_t k) {
  const uint32_t near = first_col + lane * 8, far = near + 64;
  if (first_col + block_k <= k)
    return {ptx::load_stream_b32x4(row + near), ptx::load_stream_b32x4(row + far)};
  return {load_8(row, near, k), load_8(row, far, k)};
}

// Largest |element|, NaN if there is one, as the bits of a bf16 in the upper half of a float.
__device__ __forceinline__ float max_abs(const Slice& v) {
  const uint32_t near = ptx::max_abs_bf16x2(ptx::max_abs_bf16x2(v.near.x, v.near.y),
                                            ptx::max_abs_bf16x2(v.near.z, v.near.w));
  const uint32_t far = ptx::max_abs_bf16x2(ptx::max_abs_bf16x2(v.far.x, v.far.y),
                                           ptx::max_abs_bf16x2(v.far.z, v.far.w));
  const uint32_t both = ptx::max_abs_bf16x2(near, far);
  return ptx::max_nan_f32(fabsf(__uint_as_float(both << 16)),
                          fabsf(__uint_as_float(both & 0xffff0000u)));
}

// The largest value of `num_lanes` neighbouring lanes, a power of two, in all of them.
template <uint32_t num_lanes>
__device__ __forceinline__ float max_over_lanes(float value) {
#pragma unroll
  for (uint32_t step = num_lanes / 2; step > 0; step /= 2)
    value = ptx::max_nan_f32(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

// amax / 448 and its reciprocal as IEEE divisions give them. amax is at least 1e-4, so no value in
// here is subnormal and the two corrections that division would make suffice; tests/gpu tries every
// bf16.
struct Scale {
  float scale, reciprocal;
};
__device__ __forceinline__ Scale make_scale(float amax) {
  constexpr float inverse_448 = 1.0f / 448.0f;
  const float quotient = ptx::mul_rn_f32(amax, inverse_448);
  const float scale =
      ptx::fma_rn_f32(ptx::fma_rn_f32(quotient, -448.0f, amax), inverse_448, quotient);
  const float guess = ptx::rcp_approx_f32(scale);
  const float reciprocal = ptx::fma_rn_f32(guess, ptx::fma_rn_f32(-scale, guess, 1.0f), guess);
  // The corrections of an infinite amax are NaN, unlike the quotients.
  const bool infinite = amax == __int_as_float(0x7f800000);
  return {infinite ? amax : scale, infinite ? 0.0f : reciprocal};
}

__device__ __forceinline__ uint32_t quantise_2(uint32_t pair, float factor) {
  const float low = __uint_as_float(pair << 16), high = __uint_as_float(pair & 0xffff0000u);
  return ptx::cvt_e4m3x2(ptx::mul_rn_f32(high, factor), ptx::mul_rn_f32(low, factor));
}

__device__ __forceinline__ uint2 quantise_8(uint4 v, float factor) {
  return make_uint2(quantise_2(v.x, factor) | quantise_2(v.y, factor) << 16,
                    quantise_2(v.z, factor) | quantise_2(v.w, factor) << 16);
}

// Columns [col, col + 16) of a row, except those at k and beyond.
__device__ __forceinline__ void store_16(uint8_t* row, uint32_t col, uint32_t k, uint4 v) {
  if (col + 16 <= k) {
    ptx::store_b32x4(row + col, v);
    return;
  }
  uint64_t low = v.x | uint64_t{v.y} << 32, high = v.z | uint64_t{v.w} << 32;
#pragma unroll 1  // rare, as above
  for (; col < k; ++col) {
    ptx::store_b8(row + col, low);
    low = low >> 8 | high << 56;
    high >>= 8;
  }
}

// Multiplies by `factor` and stores. Even lanes end up with the near half of the pair, odd ones
// with the far half. Called by whole warps; `active` says whether this lane's row exists.
__device__ __forceinline__ void store_slice(uint8_t* row, uint32_t first_col, uint32_t k,
                                            uint32_t lane, const Slice& v, float factor,
                                            bool active) {
  const uint2 near = quantise_8(v.near, factor), far = quantise_8(v.far, factor);
  const bool odd = lane % 2 != 0;
  const uint2 mine = odd ? far : near, other = odd ? near : far;
  const uint2 partner = make_uint2(__shfl_xor_sync(0xffffffffu, other.x, 1),
                                   __shfl_xor_sync(0xffffffffu, other.y, 1));
  const uint32_t col = first_col + lane / 2 * 16 + (odd ? 64 : 0);
  if (active)
    store_16(row, col, k,
             odd ? make_uint4(partner.x, partner.y, mine.x, mine.y)
                 : make_uint4(mine.x, mine.y, partner.x, partner.y));
}

// amax of the 128 x 128 block that this thread block holds. `shared` has one float per warp.
template <uint32_t num_warps>
__device__ __forceinline__ float max_over_block(float value, float* shared) {
  value = max_over_lanes<32>(value);
  __syncthreads();  // the previous round's readers are done
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
#pragma unroll
  for (uint32_t i = 0; i < num_warps; ++i) value = ptx::max_nan_f32(value, shared[i]);
  return value;
}

// Cfg: group_m (rows under one scale: 1 or 128), block_m, k_blocks, rows_per_thread.
template <class Cfg>
__device__ __forceinline__ void run(const Params& p) {
  constexpr uint32_t rows = Cfg::rows_per_thread, row_slots = Cfg::block_m / rows;
  constexpr uint32_t threads = num_threads(Cfg::block_m, Cfg::k_blocks, rows);
  static_assert(Cfg::block_m % rows == 0, "a thread's row slots must divide the block's rows");
  static_assert(threads % 32 == 0 && threads <= 1024, "warps must be whole: their shuffles are");
  static_assert(Cfg::group_m == 1 || (Cfg::group_m == Cfg::block_m && Cfg::k_blocks == 1),
                "a block of more than one row must be exactly one thread block's");
  __shared__ float warp_max[threads / 32];
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();

  const uint32_t lane = threadIdx.x % lanes_per_row, slot = threadIdx.x / lanes_per_row;
  const uint32_t row_slot = slot % row_slots;
  const uint32_t k_block = blockIdx.x * Cfg::k_blocks + slot / row_slots;
  const uint32_t first_col = k_block * block_k;
  const uint32_t num_row_blocks = ceil_div(p.m, Cfg::block_m);
  for (uint32_t row_block = blockIdx.y; row_block < num_row_blocks; row_block += gridDim.y) {
    const uint32_t first_row = row_block * Cfg::block_m + row_slot;
    Slice v[rows];
#pragma unroll
    for (uint32_t i = 0; i < rows; ++i) {
      v[i] = Slice{make_uint4(0, 0, 0, 0), make_uint4(0, 0, 0, 0)};
      const uint32_t row = first_row + i * row_slots;
      if (row >= p.m || first_col >= p.k) continue;
      const uint16_t* x = static_cast<const uint16_t*>(p.x) + row * p.ldx;
      v[i] = load_slice(x, first_col, lane, p.k);
    }
    float amax[rows];
#pragma unroll
    for (uint32_t i = 0; i < rows; ++i) amax[i] = max_abs(v[i]);
    if constexpr (Cfg::group_m == 1) {
#pragma unroll
      for (uint32_t i = 0; i < rows; ++i) amax[i] = max_over_lanes<lanes_per_row>(amax[i]);
    } else {
#pragma unroll
      for (uint32_t i = 1; i < rows; ++i) amax[0] = ptx::max_nan_f32(amax[0], amax[i]);
      amax[0] = max_over_block<threads / 32>(amax[0], warp_max);
    }
    Scale s;
#pragma unroll
    for (uint32_t i = 0; i < rows; ++i) {
      const uint32_t row = first_row + i * row_slots;
      const bool active = row < p.m && first_col < p.k;
      if (Cfg::group_m == 1 || i == 0) s = make_scale(ptx::max_nan_f32(amax[i], 1e-4f));
      store_slice(static_cast<uint8_t*>(p.q) + row * p.ldq, first_col, p.k, lane, v[i],
                  s.reciprocal, active);
      const bool owns_scale = Cfg::group_m == 1 ? lane == 0 : threadIdx.x == 0 && i == 0;
      if (active && owns_scale)
        ptx::store_f32(
            p.scale + row / Cfg::group_m * p.scale_row_stride + k_block * p.scale_k_stride,
            s.scale);
    }
  }
}
#endif

}  // namespace dgrt::sm90::quant_fp8
