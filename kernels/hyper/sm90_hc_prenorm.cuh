// SM90 hc_prenorm: z[m, n] = sum_k x[m, k] * f[n, k] and q[m] = sum_k x[m, k]^2 in one pass over x.
// x bf16; f as two bf16 matrices, f = high + low, made once by hc_prenorm_weights. n is 24 in the
// models and 32 at most, so the kernel is a stream of x from memory: everything else hides behind.
//
// Roles     last warp, one thread: TMA loads. Math warpgroups, 64 rows each: one wgmma chain of
//           N = 2 * padded n gives high and low products of a k block; meanwhile the same threads
//           square the tile from shared memory; then both are added in fp32, nearest even. (The
//           tensor core truncates when it adds; over 28672 of k that alone would cost 1e-5.)
// Pipeline  `stages` slots of an x tile and a w tile. full[s]: bytes landed. empty[s]: every math
//           warp has left it.
// Split     k blocks are dealt to num_groups groups of one cluster each, in it to the CTAs by rank.
//           Sums meet in distributed shared memory, added in rank order; each CTA of the cluster
//           writes a slice. What several groups wrote is a result of its own (the caller's split),
//           or is added in group order by the group that comes last at the slice's counter.
// Source    PTX ISA: wgmma.mma_async, cp.async.bulk.tensor, barrier.cluster, atom.inc.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::sm90::hc_prenorm {

// ---- Interface: host and NVRTC ----

// Where sums go: z[group * z_group + row * ldz + column], q[group * q_group + row].
struct Sums {
  float *z, *q;
  uint64_t ldz, z_group, q_group;  // elements
};

struct Params {
  TensorMap x, w;      // [m, k], [2 * padded n, k]; boxes of 64 columns
  Sums parts;          // one per group
  Sums total;          // counters != null only
  uint32_t* counters;  // [row tile][cluster rank], zero; null: the parts are the result
  uint32_t m, num_k_blocks;
  uint32_t num_groups, cluster;  // CTAs per cluster: 1 to 8
};

constexpr uint32_t block_k = 64;  // one swizzle row of 128 bytes
constexpr uint32_t row_bytes = block_k * 2;
constexpr uint32_t max_cluster = 8;

DGRT_HD constexpr uint32_t padded(uint32_t n) { return align_up(n, 8); }
DGRT_HD constexpr uint32_t num_math_threads(uint32_t block_m) { return block_m * 2; }
DGRT_HD constexpr uint32_t num_threads(uint32_t block_m) { return num_math_threads(block_m) + 32; }
DGRT_HD constexpr uint32_t stage_bytes(uint32_t block_m, uint32_t n) {
  return (block_m + 2 * padded(n)) * row_bytes;
}
// Floats between rows of staged sums: an odd multiple of 8, so that a fragment's writes of 8 bytes
// meet no bank twice.
DGRT_HD constexpr uint32_t staging_pitch(uint32_t n) {
  return padded(n) / 8 % 2 == 1 ? padded(n) : padded(n) + 8;
}
// z, then q of either half of the tile's columns.
DGRT_HD constexpr uint32_t staging_bytes(uint32_t block_m, uint32_t n) {
  return block_m * (staging_pitch(n) + 2) * 4;
}
DGRT_HD constexpr uint32_t smem_bytes(uint32_t block_m, uint32_t n, uint32_t stages) {
  const uint32_t barriers = stages * 16 + 16;  // and the last arriver's word
  return align_up(stages * stage_bytes(block_m, n) + staging_bytes(block_m, n) + barriers,
                  smem_alignment);
}

}  // namespace dgrt::sm90::hc_prenorm

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/last_arriver.cuh"
#include "device/mma/slab_product.cuh"
#include "device/pipeline/ring.cuh"
#include "device/ptx/cluster.cuh"
#include "device/ptx/convert.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/wgmma_bf16.gen.cuh"

namespace dgrt::sm90::hc_prenorm {

template <class Cfg>
struct Smem {
  static constexpr uint32_t x_bytes = Cfg::block_m * row_bytes;
  static constexpr uint32_t slot_bytes = stage_bytes(Cfg::block_m, Cfg::n);
  static constexpr uint32_t pitch_bytes = staging_pitch(Cfg::n) * 4;
  static constexpr uint32_t q_offset = Cfg::stages * slot_bytes + Cfg::block_m * pitch_bytes;
  static constexpr uint32_t barrier_offset =
      Cfg::stages * slot_bytes + staging_bytes(Cfg::block_m, Cfg::n);

  uint32_t base;  // shared address

  __device__ uint32_t x(uint32_t slot) const { return base + slot * slot_bytes; }
  __device__ uint32_t w(uint32_t slot) const { return x(slot) + x_bytes; }
  __device__ uint32_t z(uint32_t row, uint32_t column) const {
    return base + Cfg::stages * slot_bytes + row * pitch_bytes + column * 4;
  }
  __device__ uint32_t q(uint32_t half, uint32_t row) const {
    return base + q_offset + (half * Cfg::block_m + row) * 4;
  }
  __device__ uint32_t barriers() const { return base + barrier_offset; }
  __device__ uint32_t flag() const { return barriers() + Cfg::stages * 16; }
};

// What this CTA adds up.
struct Share {
  uint32_t tile, group, rank;
  uint32_t k_begin, k_end;  // blocks

  __device__ explicit Share(const Params& p)
      : tile(blockIdx.x / p.cluster / p.num_groups),
        group(blockIdx.x / p.cluster % p.num_groups),
        rank(blockIdx.x % p.cluster) {
    const uint32_t num_splits = p.num_groups * p.cluster, split = group * p.cluster + rank;
    const uint32_t least = p.num_k_blocks / num_splits, extra = p.num_k_blocks % num_splits;
    k_begin = split * least + (split < extra ? split : extra);
    k_end = k_begin + least + (split < extra ? 1 : 0);
  }
};

template <class Cfg>
__device__ void load(const Params& p, const Smem<Cfg>& smem, const Share& share) {
  Ring<Cfg::stages> ring(smem.barriers());
  for (uint32_t kb = share.k_begin; kb < share.k_end; ++kb) {
    ring.wait_empty();
    ptx::mbarrier_arrive_expect_tx(ring.full(), Smem<Cfg>::slot_bytes);
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
// neighbouring threads read eight rows: all banks, none twice.
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

// Leaves this CTA's sums in the staging area.
template <class Cfg>
__device__ void math(const Smem<Cfg>& smem, const Share& share) {
  constexpr uint32_t n = padded(Cfg::n), count = n / 2;  // count: of z per thread
  using Wgmma = ptx::WgmmaBf16<2 * n>;
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const uint32_t thread = threadIdx.x % 128, lane = thread % 32;
  const uint32_t first_row = warpgroup * 64, half = thread / 64;
  Ring<Cfg::stages> ring(smem.barriers());
  float z[count] = {}, q = 0.0f, product[2 * count] = {};
  for (uint32_t kb = share.k_begin; kb < share.k_end; ++kb) {
    ring.wait_full();
    const uint32_t x = smem.x(ring.slot) + first_row * row_bytes;
    keep_all(product);
    ptx::wgmma_fence();
    issue_slab_product<Wgmma>(product, x, smem.w(ring.slot), false);
    ptx::wgmma_commit();
    keep_all(product);
    q += square_sum(x, thread % 64, half);
    ptx::wgmma_wait<0>();
    keep_all(product);
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(ring.empty());
#pragma unroll
    for (uint32_t i = 0; i < count; ++i) z[i] += product[i] + product[count + i];
    ring.advance();
  }
  // The fragment's rows and columns: see issue_slab_product.
  const uint32_t row = first_row + thread / 32 * 16 + lane / 4;
#pragma unroll
  for (uint32_t i = 0; i < count; i += 2)
    ptx::store_shared_f32x2(smem.z(row + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2),
                            make_float2(z[i], z[i + 1]));
  ptx::store_shared_f32(smem.q(half, first_row + thread % 64), q);
}

// This CTA's slice of a tile: groups of four columns of z, and rows of q, dealt over the cluster.
template <class Cfg>
struct Slice {
  static constexpr uint32_t groups_per_row = Cfg::n / 4;
  static constexpr uint32_t num_threads = num_math_threads(Cfg::block_m);
  uint32_t first, step, first_row, rows;

  __device__ Slice(const Params& p, const Share& share)
      : first(share.rank * num_threads + threadIdx.x),
        step(p.cluster * num_threads),
        first_row(share.tile * Cfg::block_m),
        rows(p.m - first_row < Cfg::block_m ? p.m - first_row : Cfg::block_m) {}

  // Stores z(row, column) -> float4 and q(row) -> float; rows count from the tile's first.
  template <class Z, class Q>
  __device__ __forceinline__ void store(const Sums& to, uint32_t group, const Z& z,
                                        const Q& q) const {
    float* to_z = to.z + group * to.z_group + first_row * to.ldz;
    float* to_q = to.q + group * to.q_group + first_row;
#pragma unroll 1
    for (uint32_t i = first; i < rows * groups_per_row; i += step) {
      const uint32_t row = i / groups_per_row, column = i % groups_per_row * 4;
      ptx::store_f32x4(to_z + row * to.ldz + column, z(row, column));
    }
#pragma unroll 1
    for (uint32_t row = first; row < rows; row += step) ptx::store_f32(to_q + row, q(row));
  }
};

// The cluster's sums, from everyone's staging area.
template <class Cfg>
__device__ __forceinline__ void store_parts(const Params& p, const Smem<Cfg>& smem,
                                            const Share& share, const Slice<Cfg>& slice) {
  const auto z = [&](uint32_t row, uint32_t column) {
    return sum_in_order<float4, 8>(p.cluster, [&](uint32_t rank) {
      return ptx::load_cluster_f32x4(ptx::mapa(smem.z(row, column), rank));
    });
  };
  const auto q = [&](uint32_t row) {
    return sum_in_order<float, 8>(p.cluster, [&](uint32_t rank) {
      return ptx::load_cluster_f32(ptx::mapa(smem.q(0, row), rank)) +
             ptx::load_cluster_f32(ptx::mapa(smem.q(1, row), rank));
    });
  };
  slice.store(p.parts, share.group, z, q);
}

template <class Cfg>
__device__ __forceinline__ void store_total(const Params& p, const Slice<Cfg>& slice) {
  const Sums& from = p.parts;
  const auto z = [&](uint32_t row, uint32_t column) {
    const float* first = from.z + (slice.first_row + row) * from.ldz + column;
    return sum_in_order<float4, 8>(p.num_groups, [&](uint32_t group) {
      return ptx::load_relaxed_f32x4(first + group * from.z_group);
    });
  };
  const auto q = [&](uint32_t row) {
    const float* first = from.q + slice.first_row + row;
    return sum_in_order<float, 8>(p.num_groups, [&](uint32_t group) {
      return ptx::load_relaxed_f32(first + group * from.q_group);
    });
  };
  slice.store(p.total, 0, z, q);
}

// Cfg: block_m (64 or 128), n, stages.
template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_m == 64 || Cfg::block_m == 128, "one or two math warpgroups");
  static_assert(Cfg::n % 4 == 0 && Cfg::n <= 32, "z is stored in groups of four columns");
  constexpr uint32_t math_warps = num_math_threads(Cfg::block_m) / 32;
  const Smem<Cfg> smem{ptx::dynamic_shared_address()};
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

  const Share share(p);
  if (warp == math_warps) {
    if (ptx::elect_one()) load<Cfg>(p, smem, share);
  } else {
    math<Cfg>(smem, share);
  }
  __syncwarp();
  ptx::cluster_arrive();
  ptx::cluster_wait();
  const Slice<Cfg> slice(p, share);
  if (warp < math_warps) store_parts<Cfg>(p, smem, share, slice);
  __syncwarp();
  ptx::cluster_arrive_relaxed();  // has read the others' shared memory
  if (warp < math_warps && p.counters) {
    uint32_t* counter = p.counters + share.tile * p.cluster + share.rank;
    if (arrives_last(counter, p.num_groups, smem.flag(), 1, num_math_threads(Cfg::block_m)))
      store_total<Cfg>(p, slice);
  }
  __syncwarp();
  ptx::cluster_wait();
}

}  // namespace dgrt::sm90::hc_prenorm
#endif
