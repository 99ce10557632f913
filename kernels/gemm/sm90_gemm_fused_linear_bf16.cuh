// SM90 gemm_fused_linear_bf16: gemm_bf16 with the columns of d cut into matrices of their own.
#pragma once
#include "device/common/gemm_segments.cuh"

namespace dgrt::sm90::gemm_fused_linear_bf16 {
using Params = GemmSegmentParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/half.cuh"
#include "device/sched/segmented_walk.cuh"

namespace dgrt::sm90::gemm_fused_linear_bf16 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_half_gemm<Cfg, SegmentedWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_fused_linear_bf16
#endif
