// hc_prenorm of few rows: x and w go from global memory straight to the registers that multiply them.
// Every load of a warp is on its way before the first barrier, tensor map or slot of a ring could be.
#pragma once
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/mma.cuh"
#include "hyper/hc_prenorm_adders.cuh"

namespace dgrt::sm90::hc_prenorm {

template <class Cfg>
struct RegisterTile {
  static constexpr uint32_t slabs = Cfg::block_m / 16;     // of 16 rows
  static constexpr uint32_t columns = padded(Cfg::n) / 8;  // groups of 8 of z
  static constexpr uint32_t w_groups = 2 * columns;        // high, then low
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float z[slabs][columns][4] = {};
  float q[slabs][2] = {};

  // Half a k block: a lane holds 8 neighbouring columns of a row, which the product takes for any 8
  // of k as long as x and w agree.
  struct Operands {
    uint4 x[slabs][2][2];  // slab, half of its rows, half of the block
    uint4 w[w_groups][2];
  };

  __device__ __forceinline__ void load(const Params& p, uint32_t first_row, uint32_t k_block,
                                       Operands& o) const {
    const uint32_t row = lane / 4, column = k_block * block_k + lane % 4 * 8;
    const auto* x = static_cast<const uint16_t*>(p.x_rows) + column;
    const auto* w = static_cast<const uint16_t*>(p.w_rows) + row * p.ldw + column;
#pragma unroll
    for (uint32_t group = 0; group < w_groups; ++group)
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half)
        o.w[group][half] = ptx::load_stream_b32x4(w + group * 8 * p.ldw + half * 32);
#pragma unroll
    for (uint32_t i = 0; i < slabs * 2; ++i) {
      const uint32_t x_row = first_row + i * 8 + row;
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half)
        o.x[i / 2][i % 2][half] = x_row < p.m
                                      ? ptx::load_stream_b32x4(x + x_row * p.ldx + half * 32)
                                      : make_uint4(0, 0, 0, 0);
    }
  }

  __device__ __forceinline__ void add(const Operands& o) {
#pragma unroll
    for (uint32_t slab = 0; slab < slabs; ++slab) {
      float product[w_groups][4] = {};
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        const uint4 &top = o.x[slab][0][half], &bottom = o.x[slab][1][half];
#pragma unroll
        for (uint32_t g = 0; g < w_groups; ++g)
          ptx::mma_m16n8k16_bf16(product[g], top.x, bottom.x, top.y, bottom.y, o.w[g][half].x,
                                 o.w[g][half].y);
#pragma unroll
        for (uint32_t g = 0; g < w_groups; ++g)
          ptx::mma_m16n8k16_bf16(product[g], top.z, bottom.z, top.w, bottom.w, o.w[g][half].z,
                                 o.w[g][half].w);
        add_squares(top, q[slab][0]);
        add_squares(bottom, q[slab][1]);
      }
#pragma unroll
      for (uint32_t g = 0; g < columns; ++g)
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) z[slab][g][i] += product[g][i] + product[columns + g][i];
    }
  }

  static __device__ __forceinline__ void add_squares(const uint4& v, float& sum) {
    const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const float low = ptx::half_low<dtype_bf16>(pairs[i]);
      const float high = ptx::half_high<dtype_bf16>(pairs[i]);
      sum = ptx::fma_rn_f32(high, high, ptx::fma_rn_f32(low, low, sum));
    }
  }
};

// Every warp's sums, until the CTA adds them in order.
template <class Cfg>
struct WarpCopies {
  static constexpr uint32_t pitch = staging_pitch(Cfg::n) * 4;
  static constexpr uint32_t copy = copy_bytes(Cfg::block_m, Cfg::n);
  uint32_t base;

  __device__ uint32_t z(uint32_t row, uint32_t column) const {
    return base + row * pitch + column * 4;
  }
  __device__ uint32_t q(uint32_t row) const { return base + Cfg::block_m * pitch + row * 4; }

  __device__ __forceinline__ void write(const RegisterTile<Cfg>& sums) const {
    const uint32_t row = sums.lane / 4, offset = sums.warp * copy;
#pragma unroll
    for (uint32_t i = 0; i < sums.slabs * 2; ++i) {
      const auto& z_of = sums.z[i / 2];
#pragma unroll
      for (uint32_t g = 0; g < sums.columns; ++g)
        ptx::store_shared_f32x2(offset + z(i * 8 + row, g * 8 + sums.lane % 4 * 2),
                                make_float2(z_of[g][i % 2 * 2], z_of[g][i % 2 * 2 + 1]));
      float squares = sums.q[i / 2][i % 2];
      squares += __shfl_xor_sync(0xffffffff, squares, 1);
      squares += __shfl_xor_sync(0xffffffff, squares, 2);
      if (sums.lane % 4 == 0) ptx::store_shared_f32(offset + q(i * 8 + row), squares);
    }
  }

  __device__ __forceinline__ float4 sum(uint32_t address) const {
    float4 total = ptx::load_shared_f32x4(address);
#pragma unroll
    for (uint32_t warp = 1; warp < Cfg::warps; ++warp)
      total = plus(total, ptx::load_shared_f32x4(address + warp * copy));
    return total;
  }
};

// A CTA that multiplies.
template <class Cfg>
__device__ __forceinline__ void multiply(const Params& p, const Share& share, uint32_t smem) {
  RegisterTile<Cfg> tile;
  const uint32_t end = Share::first_block(p, share.group + 1);
#pragma unroll 1
  for (uint32_t kb = Share::first_block(p, share.group) + tile.warp; kb < end; kb += Cfg::warps) {
    typename RegisterTile<Cfg>::Operands operands;
    tile.load(p, share.tile * Cfg::block_m, kb, operands);
    tile.add(operands);
  }
  const WarpCopies<Cfg> copies{smem};
  copies.write(tile);
  __syncthreads();
  const TileSums<Cfg> sums(p, share.tile);
  const auto own = [&](uint32_t i) {
    return copies.sum(i < sums.num_z ? copies.z(i / sums.per_row, i % sums.per_row * 4)
                                     : copies.q((i - sums.num_z) * 4));
  };
  store_sums<Cfg>(p, share, sums, own, [](float* to, float4 v) { send(to, v); });
}

// blockIdx.x: row tile; blockIdx.y: group, then adder, so that all adders come last.
template <class Cfg>
__device__ __forceinline__ void run_in_registers(const Params& p) {
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const uint32_t smem = ptx::dynamic_shared_address();
  uint32_t number = blockIdx.y;
  if (number < p.num_groups) multiply<Cfg>(p, {blockIdx.x, number}, smem);
  ptx::renew(
      number);  // else adders' code stands in front, and those who multiply must fetch more before they load
  if (number >= p.num_groups) add_parts<Cfg>(p, blockIdx.x, number - p.num_groups, smem);
}

}  // namespace dgrt::sm90::hc_prenorm
