// The helper ops around sparse MLA in `dgrt bench`: checked on the CPU.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete; m is rows, up to its max_rows.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_topk_transform_desc& desc);

}  // namespace dgrt
