// The shapes that `dgrt bench` runs, read from bench/shapes/<stem>.json: which layers of which
// models, with how many rows. The files travel inside the program; --shapes takes another one.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dgrt/gemm.h"
#include "runtime/base/status.h"

namespace dgrt {

struct BenchShape {
  std::string model;  // of the first layer with this n and k: "DeepSeek-V3"
  std::string layer;  // "self_attn.o_proj"
  int64_t n = 0, k = 0;
};

struct BenchShapes {
  std::string stem;     // "gemm_fp8"
  dgrt_gemm_desc desc;  // types and scale mode; n, k and max_m are 0
  std::vector<int64_t> m;
  std::vector<BenchShape> shapes;  // distinct in (n, k), in the file's order
};

// INVALID_ARGUMENT names the field. UNSUPPORTED: shapes of an op that bench does not run.
Result<BenchShapes> parse_bench_shapes(std::string_view json);

// The file that is embedded for a stem.
Result<BenchShapes> builtin_bench_shapes(std::string_view stem);

}  // namespace dgrt
