// The ops of the GEMM family in `dgrt bench`: random operands, checked against the laboratory's
// reference on sampled tiles of sampled groups.
//
// m is the rows of each group, about: groups draw theirs between 0.7 m and 1.3 m. Masked groups have
// room for max_m rows and are told to expect 1.2 m; contiguous ones are padded to the alignment, and
// the padding counts as work.
#pragma once
#include <memory>

#include "dgrt/gemm.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete, with room for the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_gemm_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_contiguous_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_masked_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_batched_desc& desc);

}  // namespace dgrt
