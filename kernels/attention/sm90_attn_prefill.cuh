// SM90 attn_prefill: attention of ragged queries over contiguous keys and values, bf16 or fp16, keys and values
// also e4m3: causal, full or windowed, with softcap and sinks. Roles and pipeline: device/main_loop/attn.cuh.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/attn_tile.cuh"

namespace dgrt::sm90::attn_prefill {

// ---- Interface: host and NVRTC ----
using Params = AttnContiguousParams;

}  // namespace dgrt::sm90::attn_prefill

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/main_loop/attn.cuh"
#include "device/main_loop/attn_upcast.cuh"

namespace dgrt::sm90::attn_prefill {

template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::kv_bytes == 1)
    run_attn<Cfg, UpcastKeys<Cfg, ContiguousRows<Cfg>>>(p);
  else
    run_attn<Cfg, ContiguousKeys<Cfg>>(p);
}

}  // namespace dgrt::sm90::attn_prefill
#endif
