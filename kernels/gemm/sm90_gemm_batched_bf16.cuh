// SM90 gemm_batched_bf16: gemm_bf16 for each of several batches of one shape.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_batched_bf16 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/half.cuh"
#include "device/sched/batched_walk.cuh"

namespace dgrt::sm90::gemm_batched_bf16 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_half_gemm<Cfg, BatchedWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_batched_bf16
#endif
