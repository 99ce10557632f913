// hc_prenorm of many rows: a ring of tiles in shared memory, filled by TMA, read by wgmma.
//
// Roles     last warp, one thread: TMA loads. Two math warpgroups: every other k block each. One wgmma chain of N = 2 * padded n gives high and low
//           products of a k block; meanwhile the same threads square the tile from shared memory; then
//           both are added in fp32, nearest even. (The tensor core truncates when it adds; over 28672
//           of k that alone would cost 1e-5.)
// Pipeline  `stages` slots of an x tile and a w tile. full[s]: bytes landed. empty[s]: every math
//           warp has left it.
#pragma once
#include "device/mma/slab_product.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/wgmma_bf16.gen.cuh"
#include "hyper/hc_prenorm_sums.cuh"

namespace dgrt::sm90::hc_prenorm {

template <class Cfg>
struct TileSmem {
  static constexpr uint32_t x_bytes = Cfg::block_m * row_bytes;
  static constexpr uint32_t slot_bytes = stage_bytes(Cfg::block_m, Cfg::n);
  static constexpr uint32_t pitch = staging_pitch(Cfg::n) * 4;

  uint32_t base;  // shared address

  __device__ uint32_t x(uint32_t slot) const { return base + slot * slot_bytes; }
  __device__ uint32_t w(uint32_t slot) const { return x(slot) + x_bytes; }
  __device__ uint32_t staging() const { return base + Cfg::stages * slot_bytes; }
  __device__ uint32_t z(uint32_t row, uint32_t column) const {
    return staging() + row * pitch + column * 4;
  }
  __device__ uint32_t q(uint32_t row) const { return staging() + Cfg::block_m * pitch + row * 4; }
  __device__ uint32_t barriers() const {
    return staging() + staging_bytes(Cfg::block_m, Cfg::n, Cfg::warps);
  }
  __device__ uint32_t flag() const { return barriers() + Cfg::stages * 16; }
};

template <class Cfg>
__device__ void load(const Params& p, const TileSmem<Cfg>& smem, const Share& share) {
  Ring<Cfg::stages> ring(smem.barriers());
  const uint32_t first = share.first_part(p);
  const uint32_t end = Share::first_block(p, first + p.parts_per_cta);
  for (uint32_t kb = Share::first_block(p, first); kb < end; ++kb) {
    ring.wait_empty();
    ptx::mbarrier_arrive_expect_tx(ring.full(), smem.slot_bytes);
    ptx::tma_load_2d(smem.x(ring.slot), &p.x, ring.full(), kb * block_k, share.tile * Cfg::block_m);
    ptx::tma_load_2d(smem.w(ring.slot), &p.w, ring.full(), kb * block_k, 0);
    ring.advance();
  }
}

__device__ __forceinline__ void add_squares(uint32_t pair, float& even, float& odd) {
  even = ptx::fma_rn_f32(ptx::half_low<dtype_bf16>(pair), ptx::half_low<dtype_bf16>(pair), even);
  odd = ptx::fma_rn_f32(ptx::half_high<dtype_bf16>(pair), ptx::half_high<dtype_bf16>(pair), odd);
}

// Sum of squares of 32 columns, the first or second half of a row of a swizzled tile. Eight
// neighbouring threads read both halves of four rows: all banks, none twice.
__device__ __forceinline__ float square_sum(uint32_t tile, uint32_t row, uint32_t half) {
  float sums[4] = {};
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    const uint4 v =
        ptx::load_shared_b32x4(tile + row * row_bytes + ((half * 4 + i) ^ (row & 7)) * 16);
    add_squares(v.x, sums[0], sums[1]);
    add_squares(v.y, sums[2], sums[3]);
    add_squares(v.z, sums[0], sums[1]);
    add_squares(v.w, sums[2], sums[3]);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// A math warpgroup's sums, in the fragments of wgmma: see issue_slab_product.
template <class Cfg>
struct Fragments {
  static constexpr uint32_t n = padded(Cfg::n), count = n / 2;  // count: of z per thread
  float z[count] = {};
  float q = 0.0f;  // in thread 2 i, of row i

  __device__ __forceinline__ void add(const Fragments& other) {
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) z[i] += other.z[i];
    q += other.q;
  }

  // for_each(address, index): where z[index] and its neighbour belong in the staging area.
  template <class Do>
  static __device__ __forceinline__ void for_each(const TileSmem<Cfg>& smem, const Do& act) {
    const uint32_t thread = threadIdx.x % 128, lane = thread % 32;
    const uint32_t row = thread / 32 * 16 + lane / 4;
#pragma unroll
    for (uint32_t i = 0; i < count; i += 2)
      act(smem.z(row + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2), i);
  }
  __device__ __forceinline__ void write(const TileSmem<Cfg>& smem) const {
    for_each(smem, [&](uint32_t address, uint32_t i) {
      ptx::store_shared_f32x2(address, make_float2(z[i], z[i + 1]));
    });
    const uint32_t thread = threadIdx.x % 128;
    if (thread % 2 == 0) ptx::store_shared_f32(smem.q(thread / 2), q);
  }
  __device__ __forceinline__ void add_written(const TileSmem<Cfg>& smem) {
    for_each(smem, [&](uint32_t address, uint32_t i) {
      const float2 v = ptx::load_shared_f32x2(address);
      z[i] += v.x, z[i + 1] += v.y;
    });
    const uint32_t thread = threadIdx.x % 128;
    if (thread % 2 == 0) q += ptx::load_shared_f32(smem.q(thread / 2));
  }
};

// Also those who do not multiply a block wait for it and leave it: a phase that one of them skipped
// could be taken for the next but one.
template <class Cfg>
__device__ __forceinline__ void leave(const Ring<Cfg::stages>& ring) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(ring.empty());
}

// The k block of the ring's slot, which is full: z and, of half a row, q.
template <class Cfg>
__device__ __forceinline__ void add_block(const TileSmem<Cfg>& smem, const Ring<Cfg::stages>& ring,
                                          float (&product)[2 * Fragments<Cfg>::count],
                                          Fragments<Cfg>& sums) {
  constexpr uint32_t count = Fragments<Cfg>::count;
  const uint32_t thread = threadIdx.x % 128;
  const uint32_t x = smem.x(ring.slot);
  keep_all(product);
  ptx::wgmma_fence();
  issue_slab_product<ptx::WgmmaBf16<4 * count>>(product, x, smem.w(ring.slot), false);
  ptx::wgmma_commit();
  keep_all(product);
  sums.q += square_sum(x, thread / 2, thread % 2);
  ptx::wgmma_wait<0>();
  keep_all(product);
  leave<Cfg>(ring);
#pragma unroll
  for (uint32_t i = 0; i < count; ++i) sums.z[i] += product[i] + product[count + i];
}

// Leaves this CTA's sums in the staging area.
template <class Cfg>
__device__ void math(const Params& p, const TileSmem<Cfg>& smem, const Share& share) {
  constexpr uint32_t k_ranks = tile_warpgroups;
  constexpr uint32_t num_math = Cfg::warps * 32;
  const uint32_t k_rank = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  Ring<Cfg::stages> ring(smem.barriers());
  Fragments<Cfg> total;
  float product[2 * Fragments<Cfg>::count] = {};
#pragma unroll 1
  for (uint32_t part = 0; part < p.parts_per_cta; ++part) {
    Fragments<Cfg> sums;
    const uint32_t first = Share::first_block(p, share.first_part(p) + part);
    const uint32_t end = Share::first_block(p, share.first_part(p) + part + 1);
    for (uint32_t kb = first; kb < end; ++kb) {
      ring.wait_full();
      if ((kb - first) % k_ranks == k_rank)
        add_block<Cfg>(smem, ring, product, sums);
      else
        leave<Cfg>(ring);
      ring.advance();
    }
    sums.q += __shfl_xor_sync(0xffffffff, sums.q, 1);
    if (part > 0) ptx::named_barrier_sync(1, num_math);  // the last part's sums were read
    if (k_rank == 1) sums.write(smem);
    ptx::named_barrier_sync(1, num_math);
    if (k_rank == 0) sums.add_written(smem);
    total.add(sums);
  }
  // Each thread overwrites only what it has read itself.
  if (k_rank == 0) total.write(smem);
  ptx::named_barrier_sync(1, num_math);
}

template <class Cfg>
__device__ __forceinline__ void run_in_tiles(const Params& p) {
  constexpr uint32_t math_warps = Cfg::warps;
  static_assert(math_warps == tile_warpgroups * 4, "two warpgroups take k blocks in turn");
  const TileSmem<Cfg> smem{ptx::dynamic_shared_address()};
  const uint32_t warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp == math_warps && ptx::elect_one()) {
    ptx::prefetch_tensor_map(&p.x);
    ptx::prefetch_tensor_map(&p.w);
    Ring<Cfg::stages>(smem.barriers()).init(math_warps);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const Share share{blockIdx.x / p.num_groups, blockIdx.x % p.num_groups};
  if (warp == math_warps) {
    if (ptx::elect_one()) load<Cfg>(p, smem, share);
    return;
  }
  math<Cfg>(p, smem, share);
  const TileSums<Cfg> sums(p, share.tile);
  const auto own = [&](uint32_t i) {
    return ptx::load_shared_f32x4(i < sums.num_z ? smem.z(i / sums.per_row, i % sums.per_row * 4)
                                                 : smem.q((i - sums.num_z) * 4));
  };
  store_sums<Cfg>(p, share, sums, own, [](float* to, float4 v) { ptx::store_f32x4(to, v); });
  if (p.parts &&
      arrives_last(p.counters + share.tile, p.num_groups, smem.flag(), 1, math_warps * 32))
    store_total<Cfg>(p, sums, sums.parts(p, share.tile), smem.staging());
}

}  // namespace dgrt::sm90::hc_prenorm
