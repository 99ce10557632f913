// Tiles of one product whose d is cut into segments by columns.
#pragma once
#include "device/common/gemm_segments.cuh"
#include "device/sched/dense_walk.cuh"

namespace dgrt {

template <class Cfg>
struct SegmentedWalk : DenseWalk<Cfg> {
  static constexpr bool segmented = true;
  const GemmSegmentParams& segments;

  // `p` is the base of the kernel's GemmSegmentParams.
  __device__ SegmentedWalk(const GemmParams& p, uint32_t k_group)
      : DenseWalk<Cfg>(p, k_group), segments(static_cast<const GemmSegmentParams&>(p)) {}
};

}  // namespace dgrt
