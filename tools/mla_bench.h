// MLA in `dgrt bench`, against a reference in fp64.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: as for AttnBenchDesc.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const MlaBenchDesc& desc);
// m is tokens, up to its max_tokens.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const SparseMlaBenchDesc& desc);

}  // namespace dgrt
