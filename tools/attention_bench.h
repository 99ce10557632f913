// Attention in `dgrt bench`, against a reference in fp64.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete; its max_q_len is the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const AttnBenchDesc& desc);

}  // namespace dgrt
