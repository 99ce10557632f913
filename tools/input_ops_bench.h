// The ops that make gemm's inputs in `dgrt bench`: quant_fp8, scale_layout and scale_pack_ue8m0. Each
// has one right answer, so every byte is checked.
#pragma once
#include <memory>

#include "dgrt/gemm.h"
#include "tools/op_bench.h"

namespace dgrt {

// Require: desc is complete; its max_m is the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_quant_fp8_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_scale_layout_desc& desc);
// Not for SCALE_K_GROUPED.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_scale_pack_ue8m0_desc& desc);

}  // namespace dgrt
