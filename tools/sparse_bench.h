// The helper ops around sparse MLA in `dgrt bench`: checked on the CPU.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete; m is rows, up to its max_rows.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_topk_transform_desc& desc);
// m is tokens, up to its max_tokens.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_mla_kv_append_desc& desc);
// m is rows, by sequence of each of max_batch, up to its max_rows.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_kv_dequant_paged_desc& desc);
// m is new tokens of max_batch requests together, as many as fit max_capacity.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_build_swa_token_ids_desc& desc);
// m is tokens, up to its max_tokens.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const CombineBenchDesc& desc);

}  // namespace dgrt
