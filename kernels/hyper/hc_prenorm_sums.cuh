// How the sums of CTAs that share the k of a row tile become one result. Each CTA leaves its part in
// the workspace. Of few rows, CTAs of their own add them up as they come (hc_prenorm_adders.cuh). Of many, the
// one that comes last at the tile's counter adds all of them, in order. One SM
// reads those parts: how long that takes is in their bytes, and in how many loads are under way.
#pragma once
#include "device/epilogue/last_arriver.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/shared.cuh"
#include "hyper/hc_prenorm_params.cuh"

namespace dgrt::sm90::hc_prenorm {

// What this CTA adds up.
struct Share {
  uint32_t tile, group;

  // First block of a part of k.
  static __device__ uint32_t first_block(const Params& p, uint32_t part) {
    return part * p.least_k_blocks + (part < p.num_longer_parts ? part : p.num_longer_parts);
  }
  __device__ uint32_t first_part(const Params& p) const { return group * p.parts_per_cta; }
};

// The sums of a row tile as groups of four floats: z row by row, then q.
template <class Cfg>
struct TileSums {
  static constexpr uint32_t per_row = Cfg::n / 4;
  static constexpr uint32_t part = part_floats(Cfg::block_m, Cfg::n);
  uint32_t first_row, rows, num_z, count;

  __device__ TileSums(const Params& p, uint32_t tile)
      : first_row(tile * Cfg::block_m),
        rows(p.m - first_row < Cfg::block_m ? p.m - first_row : Cfg::block_m),
        num_z(rows * per_row),
        count(num_z + ceil_div(rows, 4)) {}

  static __device__ float* parts(const Params& p, uint32_t tile) {
    return p.parts + uint64_t{tile} * p.num_groups * part;
  }
  // Where group i lies in a part, in floats.
  __device__ uint32_t offset(uint32_t i) const {
    return i < num_z ? i * 4 : Cfg::block_m * Cfg::n + (i - num_z) * 4;
  }

  __device__ __forceinline__ void store(const Sums& to, uint32_t split, uint32_t i,
                                        float4 v) const {
    if (i < num_z) {
      const uint64_t row = first_row + i / per_row;
      ptx::store_f32x4(to.z + split * to.z_split + row * to.ldz + i % per_row * 4, v);
      return;
    }
    const uint32_t row = (i - num_z) * 4;
    const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j)
      if (row + j < rows)
        ptx::store_f32(to.q + split * to.q_split + first_row + row + j, values[j]);
  }
};

// Slices' sums of four floats lie side by side in shared memory: for the i-th of `count` fours, the sum over slices.
__device__ __forceinline__ float4 sum_of_slices(uint32_t scratch, uint32_t slices, uint32_t count,
                                                uint32_t i) {
  float4 total = ptx::load_shared_f32x4(scratch + i * 16);
#pragma unroll
  for (uint32_t slice = 1; slice < most_slices; ++slice) {
    float4 term = no_term();
    if (slice < slices) term = ptx::load_shared_f32x4(scratch + (slice * count + i) * 16);
    total = plus(total, term);
  }
  return total;
}

// The last CTA: all parts of the tile, cut into slices so that every thread has some to load.
template <class Cfg>
__device__ __forceinline__ void store_total(const Params& p, const TileSums<Cfg>& sums,
                                            const float* parts, uint32_t scratch) {
  constexpr uint32_t num_threads = Cfg::warps * 32;
  const uint32_t fitting = num_threads / sums.count;
  const uint32_t slices = fitting == 0 ? 1 : fitting < p.max_slices ? fitting : p.max_slices;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < sums.count * slices; i += num_threads) {
    const uint32_t slice = i / sums.count, group = i % sums.count;
    const float* from = parts + sums.offset(group);
    const float4 v = sum_in_order(
        p.num_groups * slice / slices, p.num_groups * (slice + 1) / slices,
        [&](uint32_t part) { return ptx::load_relaxed_f32x4(from + part * sums.part); });
    if (slices == 1)
      sums.store(p.out, 0, group, v);
    else
      ptx::store_shared_f32x4(scratch + i * 16, v);
  }
  if (slices == 1) return;
  ptx::named_barrier_sync(1, num_threads);
  const uint32_t i = threadIdx.x;
  if (i < sums.count) sums.store(p.out, 0, i, sum_of_slices(scratch, slices, sums.count, i));
}

// Math threads, when own(i) gives the i-th four of the CTA's sums: leave(address, four) those where parts
// are added up, or the result.
template <class Cfg, class Own, class Leave>
__device__ __forceinline__ void store_sums(const Params& p, const Share& share,
                                           const TileSums<Cfg>& sums, const Own& own,
                                           const Leave& leave) {
  float* part = sums.parts(p, share.tile) + share.group * sums.part;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < sums.count; i += Cfg::warps * 32) {
    if (p.parts)
      leave(part + sums.offset(i), own(i));
    else
      sums.store(p.out, share.group, i, own(i));
  }
}

}  // namespace dgrt::sm90::hc_prenorm
