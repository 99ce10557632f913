// The attention ops that only move memory in `dgrt bench`: checked on the CPU.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete; m is tokens, up to its max_tokens.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_attn_merge_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_kv_append_desc& desc);

}  // namespace dgrt
