// gemm in `dgrt bench`: random operands, checked against the laboratory's reference on sampled
// tiles.
#pragma once
#include <memory>

#include "dgrt/gemm.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete; its max_m is the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_gemm_desc& desc);

}  // namespace dgrt
