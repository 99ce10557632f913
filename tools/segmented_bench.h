// The products that are cut into segments in `dgrt bench`: gemm_grouped_k along k, gemm_fused_linear
// along n. Each segment is checked as a gemm of its own.
#pragma once
#include <memory>

#include "dgrt/gemm.h"
#include "tools/op_bench.h"

namespace dgrt {

// run() takes k, of all groups together; each has between 0.7 and 1.3 of its share.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_k_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_fused_linear_desc& desc);

}  // namespace dgrt
