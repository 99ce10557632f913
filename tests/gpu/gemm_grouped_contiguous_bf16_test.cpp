// gemm_grouped_contiguous_bf16: rows sorted by group, bf16 and fp16 operands, against the fp64 reference.
#include "tests/gpu/grouped_cases.h"

namespace dgrt::test {
namespace {

constexpr Grouping grouping = Grouping::contiguous;
constexpr dgrt_dtype dtype = DGRT_BF16;

}  // namespace

TEST_CASE("gemm_grouped_contiguous_bf16: layers of models", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: layers of models");
  if (!gpu) return;
  run_gemm_cases(*gpu, layer_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_contiguous_bf16: one to many groups, both layouts, dead rows", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: one to many groups, both layouts, dead rows");
  if (!gpu) return;
  run_gemm_cases(*gpu, group_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_contiguous_bf16: odd sizes, types, strides", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: odd sizes, types, strides");
  if (!gpu) return;
  run_gemm_cases(*gpu, odd_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_contiguous_bf16: few SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: few SMs");
  if (!gpu) return;
  run_gemm_cases(*gpu, budget_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_contiguous_bf16: NaN, infinities and denormals", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: NaN, infinities and denormals");
  if (!gpu) return;
  run_gemm_cases(*gpu, value_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_contiguous_bf16: graphs, threads, batch invariance", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: graphs, threads, batch invariance");
  if (!gpu) return;
  test_grouped_launches(*gpu, grouping, dtype);
}

TEST_CASE("gemm_grouped_contiguous_bf16: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_grouped_contiguous_bf16: small sizes");
  if (!gpu) return;
  run_gemm_cases(*gpu, small_cases(grouping, dtype));
}

}  // namespace dgrt::test
