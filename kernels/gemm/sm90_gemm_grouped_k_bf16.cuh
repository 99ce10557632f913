// SM90 gemm_grouped_k_bf16: weight gradients, d[g] = c[g] + transpose(a[g]) * b[g], the k of each group
// read on the device.
#pragma once
#include "device/common/gemm_params.cuh"

namespace dgrt::sm90::gemm_grouped_k_bf16 {
using Params = GemmParams;
}

#ifdef __CUDACC_RTC__
#include "device/main_loop/half.cuh"
#include "device/sched/grouped_k_walk.cuh"

namespace dgrt::sm90::gemm_grouped_k_bf16 {

template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::a_mn_major && Cfg::b_mn_major, "groups are rows of both operands");
  run_half_gemm<Cfg, GroupedKWalk<Cfg, half_block_k, 1>, true>(p);
}

}  // namespace dgrt::sm90::gemm_grouped_k_bf16
#endif
