// SM90 gemm_grouped_k_fp8: weight gradients, d[g] = c[g] + a[g] * transpose(b[g]), the k of each group
// read on the device. Source: DeepGEMM's k-grouped layout; see gemm.h.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_grouped_k_fp8 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/fp8.cuh"
#include "device/sched/grouped_k_walk.cuh"

namespace dgrt::sm90::gemm_grouped_k_fp8 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_fp8_gemm<Cfg, GroupedKWalk<Cfg, fp8_block_k, fp8_block_k>, true>(p);
}

}  // namespace dgrt::sm90::gemm_grouped_k_fp8
#endif
