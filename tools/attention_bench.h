// Attention in `dgrt bench`, against a reference in fp64.
#pragma once
#include <memory>

#include "tools/bench_shapes.h"
#include "tools/lib/lab_attn_check.h"
#include "tools/op_bench.h"

namespace dgrt {

// Requires: desc is complete; its max_q_len is the largest m that run() will see.
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const AttnBenchDesc& desc);

// Pairs of a query and a key that it sees, of a sequence of `prefix` keys and m queries with keys of their
// own.
double visible_pairs(int64_t prefix, int64_t window_left, int64_t window_right, int64_t m);

// What a check of attention found, for the record.
void set_attn_check(const lab::AttnError& error, BenchCheck* check);

// bf16, fp16: like normal numbers; e4m3: 100 times that, for which bench_kv_scale makes up.
Result<lab::DeviceBuffer> make_bench_input(const lab::Device& device, dgrt_dtype dtype, int64_t elements,
                                           uint64_t seed);
constexpr float bench_kv_scale = 0.01f;

}  // namespace dgrt
