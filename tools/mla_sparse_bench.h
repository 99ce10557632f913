// mla_sparse_decode in `dgrt bench`, against a reference on the CPU.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// m is tokens of each request.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const SparseDecodeBenchDesc& desc);

}  // namespace dgrt
