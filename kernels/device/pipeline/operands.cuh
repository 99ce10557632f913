// Loads of the a and b tiles of one k block, multicast inside the cluster where CTAs share a tile.
#pragma once
#include "device/common/gemm_tile.cuh"
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

// One thread. Box heights are block_m / cluster_n and block_n / cluster_m: each CTA fetches its
// part. `k`: first element of the k block.
template <class Cfg, class Walk>
__device__ __forceinline__ void load_operands(const TensorMap* a, const TensorMap* b,
                                              uint32_t smem_a, uint32_t smem_b, uint32_t barrier,
                                              const Walk& walk, uint32_t k) {
  if constexpr (Cfg::cluster_n == 1) {
    ptx::tma_load_2d(smem_a, a, barrier, k, walk.m_start);
  } else {
    constexpr uint32_t rows = Cfg::block_m / Cfg::cluster_n;
    ptx::tma_load_2d_multicast(smem_a + walk.n_rank * rows * gemm_block_k_bytes, a, barrier, k,
                               walk.m_start + walk.n_rank * rows, a_sharers<Cfg>(walk));
  }
  if constexpr (Cfg::cluster_m == 1) {
    ptx::tma_load_2d(smem_b, b, barrier, k, walk.n_start);
  } else {
    constexpr uint32_t rows = Cfg::block_n / Cfg::cluster_m;
    ptx::tma_load_2d_multicast(smem_b + walk.m_rank * rows * gemm_block_k_bytes, b, barrier, k,
                               walk.n_start + walk.m_rank * rows, b_sharers<Cfg>(walk));
  }
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
