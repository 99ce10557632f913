// SM90 gemm_fp8: d[m, n] = sum over k of a[m, k] * b[n, k] with scales, a and b e4m3, scales fp32.
//
// The roles and the pipeline are in device/main_loop/fp8.cuh.
// Needs     e4m3 operands K-major; scales of a MN-major.
// Source    PTX ISA: wgmma.mma_async, cp.async.bulk.tensor. The promotion every 128 of k is
//           DeepSeek-V3's (arXiv 2412.19437, 3.3.2).
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_fp8 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/fp8.cuh"
#include "device/sched/dense_walk.cuh"

namespace dgrt::sm90::gemm_fp8 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_fp8_gemm<Cfg, DenseWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_fp8
#endif
