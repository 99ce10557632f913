// SM90 gemm_grouped_masked_bf16: gemm_bf16 for each group g over its first masked_m[g] rows, the counts
// read on the device. Source: DeepGEMM's masked layout; see gemm.h.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_grouped_masked_bf16 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/half.cuh"
#include "device/sched/masked_walk.cuh"

namespace dgrt::sm90::gemm_grouped_masked_bf16 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_half_gemm<Cfg, MaskedWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_grouped_masked_bf16
#endif
