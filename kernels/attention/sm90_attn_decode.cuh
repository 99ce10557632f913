// SM90 attn_decode: attention of the last few tokens of every sequence over its paged cache, bf16 or fp16, the
// cache also e4m3: decode and speculative verify. Maths, pipeline and split:
// device/main_loop/attn_paged_teams.cuh, and of more than 16 rows attn_paged.cuh.
#pragma once
#include "device/common/attn_paged_params.cuh"

namespace dgrt::sm90::attn_decode {

// ---- Interface: host and NVRTC ----
using Params = AttnPagedParams;

}  // namespace dgrt::sm90::attn_decode

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/main_loop/attn_paged.cuh"
#include "device/main_loop/attn_paged_teams.cuh"

namespace dgrt::sm90::attn_decode {

template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::block_m == attn_team_rows)
    run_attn_paged_teams<Cfg>(p);
  else
    run_attn_paged<Cfg>(p);
}

}  // namespace dgrt::sm90::attn_decode
#endif
