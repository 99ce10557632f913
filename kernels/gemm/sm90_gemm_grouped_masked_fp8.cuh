// SM90 gemm_grouped_masked_fp8: gemm_fp8 for each group g over its first masked_m[g] rows, the counts
// read on the device. Source: DeepGEMM's masked layout; see gemm.h.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_grouped_masked_fp8 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/fp8.cuh"
#include "device/sched/masked_walk.cuh"

namespace dgrt::sm90::gemm_grouped_masked_fp8 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_fp8_gemm<Cfg, MaskedWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_grouped_masked_fp8
#endif
