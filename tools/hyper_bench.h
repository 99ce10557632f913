// The hyper-connection ops in `dgrt bench`: hc_prenorm against a reference in fp64, its weights byte
// for byte.
#pragma once
#include <memory>

#include "dgrt/hyper.h"
#include "tools/op_bench.h"

namespace dgrt {

// Require: desc is complete; its max_m, if it has one, is the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_hc_prenorm_desc& desc);
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_hc_prenorm_weights_desc& desc);

}  // namespace dgrt
