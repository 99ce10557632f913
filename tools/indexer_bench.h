// The indexer's ops in `dgrt bench`, some of their rows checked against a naive reference.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// Require: desc is complete; its max_tokens or max_batch is the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const LogitsBenchDesc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const PagedLogitsBenchDesc& desc);

}  // namespace dgrt
