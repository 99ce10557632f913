// SM90 attn_extend: attention of ragged queries, many for each sequence, over the sequences' paged
// cache, bf16 or fp16: chunked prefill. Roles and pipeline: device/main_loop/attn.cuh; pages:
// device/main_loop/attn_keys.cuh.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/attn_tile.cuh"

namespace dgrt::sm90::attn_extend {

// ---- Interface: host and NVRTC ----
using Params = AttnExtendParams;

}  // namespace dgrt::sm90::attn_extend

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/main_loop/attn.cuh"

namespace dgrt::sm90::attn_extend {

// Cfg: besides what run_attn wants, gather and check_pages.
template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::gather)
    run_attn<Cfg, GatheredKeys<Cfg>>(p);
  else
    run_attn<Cfg, BoxedKeys<Cfg>>(p);
}

}  // namespace dgrt::sm90::attn_extend
#endif
