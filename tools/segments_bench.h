// gemm_grouped_k and gemm_fused_linear in `dgrt bench`: random operands, every group or segment checked
// against the laboratory's reference on sampled tiles.
//
// gemm_grouped_k's m is the k of each group, about: groups draw theirs between 0.7 m and 1.3 m, in
// multiples of 128; c is d, which a repetition adds to again.
#pragma once
#include <memory>

#include "dgrt/gemm.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete, with room for the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_k_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_fused_linear_desc& desc);

// The k of each group for about `k` each.
std::vector<int32_t> bench_group_ks(uint32_t num_groups, int64_t k);

}  // namespace dgrt
