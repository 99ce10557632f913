// SM90 gemm_grouped_contiguous_fp8: gemm_fp8 over rows that are sorted by group, each group with its
// own b. Source: DeepGEMM's contiguous layouts; see gemm.h.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_grouped_contiguous_fp8 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/fp8.cuh"
#include "device/sched/contiguous_walk.cuh"

namespace dgrt::sm90::gemm_grouped_contiguous_fp8 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_fp8_gemm<Cfg, ContiguousWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_grouped_contiguous_fp8
#endif
