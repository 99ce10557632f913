// Loads of the a and b tiles of one k block, multicast inside the cluster where CTAs share a tile.
#pragma once
#include "device/common/gemm_tile.cuh"
#include "device/ptx/cluster.cuh"
#include "device/ptx/mbarrier.cuh"
#include "device/ptx/tma.cuh"

namespace dgrt {

// Bits of the CTAs that hold the same tile as this one, given the rank of each coordinate.
template <class Cfg, class Walk>
__device__ __forceinline__ uint16_t a_sharers(const Walk& walk) {  // all n ranks
  const uint32_t first = walk.k_rank * GemmTile<Cfg>::multicast_ctas + walk.m_rank * Cfg::cluster_n;
  return ((1u << Cfg::cluster_n) - 1) << first;
}
template <class Cfg, class Walk>
__device__ __forceinline__ uint16_t b_sharers(const Walk& walk) {  // all m ranks
  uint32_t bits = 0;
#pragma unroll
  for (uint32_t m_rank = 0; m_rank < Cfg::cluster_m; ++m_rank)
    bits |= 1u << m_rank * Cfg::cluster_n;
  return bits << (walk.k_rank * GemmTile<Cfg>::multicast_ctas + walk.n_rank);
}

// One box, of a matrix or of one of several (`grouped`), to this CTA or to `ctas`.
template <bool grouped, bool multicast>
__device__ __forceinline__ void load_box(uint32_t smem, const TensorMap* map, uint32_t barrier,
                                         uint32_t x, uint32_t y, uint32_t group, uint16_t ctas) {
  if constexpr (grouped && multicast)
    ptx::tma_load_3d_multicast(smem, map, barrier, x, y, group, ctas);
  else if constexpr (grouped)
    ptx::tma_load_3d(smem, map, barrier, x, y, group);
  else if constexpr (multicast)
    ptx::tma_load_2d_multicast(smem, map, barrier, x, y, ctas);
  else
    ptx::tma_load_2d(smem, map, barrier, x, y);
}

// An operand's tile, or the `part`th of `parts` pieces of its rows, which go to all sharers.
template <uint32_t block, uint32_t parts, bool mn_major, bool grouped>
__device__ __forceinline__ void load_operand(uint32_t smem, const TensorMap* map, uint32_t barrier,
                                             uint32_t row, uint32_t k, uint32_t group,
                                             uint32_t part, uint16_t ctas) {
  constexpr uint32_t rows = block / parts;
  const uint32_t first = part * rows;
  if constexpr (mn_major) {
    static_assert(rows % 64 == 0, "MN-major operands come in blocks of 64 rows");
#pragma unroll
    for (uint32_t i = 0; i < rows; i += 64)
      load_box<grouped, (parts > 1)>(smem + (first + i) / 64 * mn_block_bytes, map, barrier,
                                     row + first + i, k, group, ctas);
  } else {
    load_box<grouped, (parts > 1)>(smem + first * gemm_block_k_bytes, map, barrier, k, row + first,
                                   group, ctas);
  }
}

// One thread. `k`: first element of the k block.
template <class Cfg, class Walk>
__device__ __forceinline__ void load_operands(const TensorMap* a, const TensorMap* b,
                                              uint32_t smem_a, uint32_t smem_b, uint32_t barrier,
                                              const Walk& walk, uint32_t k) {
  load_operand<Cfg::block_m, Cfg::cluster_n, Cfg::a_mn_major, Walk::a_grouped>(
      smem_a, a, barrier, walk.m_start, k, walk.group, walk.n_rank, a_sharers<Cfg>(walk));
  load_operand<Cfg::block_n, Cfg::cluster_m, Cfg::b_mn_major, Walk::b_grouped>(
      smem_b, b, barrier, walk.n_start, k, walk.group, walk.m_rank, b_sharers<Cfg>(walk));
}

// One warp, after its last read of a slot: tells every CTA that writes into it. The number of
// arrivals that an empty barrier expects is num_math_warps * multicast_ctas.
template <class Cfg, class Walk>
__device__ __forceinline__ void release_slot(uint32_t empty_barrier, const Walk& walk,
                                             uint32_t lane) {
  constexpr uint32_t ctas = GemmTile<Cfg>::multicast_ctas;
  if constexpr (ctas == 1) {
    if (lane == 0) ptx::mbarrier_arrive(empty_barrier);
  } else {
    if (lane < ctas)
      ptx::mbarrier_arrive_remote(ptx::mapa(empty_barrier, walk.k_rank * ctas + lane));
  }
}

}  // namespace dgrt
