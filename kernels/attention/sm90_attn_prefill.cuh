// SM90 attn_prefill: attention of ragged queries over contiguous keys and values, bf16 or fp16: causal,
// full or windowed, with softcap and sinks. Roles and pipeline: device/main_loop/attn.cuh.
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

namespace dgrt::sm90::attn_prefill {

template <class Cfg>
__device__ void run(const Params& p) {
  run_attn<Cfg, ContiguousKeys<Cfg>>(p);
}

}  // namespace dgrt::sm90::attn_prefill
#endif
