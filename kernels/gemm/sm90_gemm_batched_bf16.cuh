// SM90 gemm_batched_bf16: gemm_bf16 for each of several batches of one shape, or the sum over all batches.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_batched_bf16 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/half.cuh"
#include "device/sched/batch_sum_walk.cuh"
#include "device/sched/batched_walk.cuh"

namespace dgrt::sm90::gemm_batched_bf16 {

template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::sum_batches)
    run_half_gemm<Cfg, BatchSumWalk<Cfg>>(p);
  else
    run_half_gemm<Cfg, BatchedWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_batched_bf16
#endif
