// SM90 gemm_bf16: d[m, n] = sum over k of a[m, k] * b[n, k] (+ bias[n] + c[m, n]), bf16 or fp16 in, fp32
// accumulate.
//
// The roles and the pipeline are in device/main_loop/half.cuh.
// Source    PTX ISA: wgmma.mma_async, cp.async.bulk.tensor.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_bf16 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/half.cuh"
#include "device/sched/dense_walk.cuh"

namespace dgrt::sm90::gemm_bf16 {

template <class Cfg>
__device__ void run(const Params& p) {
  run_half_gemm<Cfg, DenseWalk<Cfg>>(p);
}

}  // namespace dgrt::sm90::gemm_bf16
#endif
