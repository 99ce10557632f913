// SM90 attn_extend: attention of ragged queries, many for each sequence, over the sequences' paged
// cache, bf16 or fp16, the cache also e4m3: chunked prefill. Roles and pipeline: device/main_loop/attn.cuh;
// pages: device/main_loop/attn_keys.cuh, of e4m3 attn_upcast.cuh.
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
#include "device/main_loop/attn_upcast.cuh"

namespace dgrt::sm90::attn_extend {

// Cfg: besides what run_attn wants, gather and check_pages.
template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::kv_bytes == 1)
    run_attn<Cfg, UpcastKeys<Cfg, PagedRows<Cfg>>>(p);
  else if constexpr (Cfg::gather)
    run_attn<Cfg, GatheredKeys<Cfg>>(p);
  else
    run_attn<Cfg, BoxedKeys<Cfg>>(p);
}

}  // namespace dgrt::sm90::attn_extend
#endif
