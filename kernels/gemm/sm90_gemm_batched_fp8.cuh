// SM90 gemm_batched_fp8: gemm_fp8 for each of several batches of one shape.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_batched_fp8 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/fp8.cuh"
#include "device/sched/batched_walk.cuh"

namespace dgrt::sm90::gemm_batched_fp8 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_fp8_gemm<Cfg, BatchedWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_batched_fp8
#endif
