// gemm_batched_fp8: batches of one shape, e4m3 operands and block scales, against the fp64 reference.
#include "tests/gpu/grouped_cases.h"

namespace dgrt::test {
namespace {

constexpr Grouping grouping = Grouping::batched;
constexpr dgrt_dtype dtype = DGRT_E4M3;

}  // namespace

TEST_CASE("gemm_batched_fp8: layers of models", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: layers of models");
  if (!gpu) return;
  run_gemm_cases(*gpu, layer_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_fp8: one to many batches", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: one to many batches");
  if (!gpu) return;
  run_gemm_cases(*gpu, group_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_fp8: odd sizes, types, strides", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: odd sizes, types, strides");
  if (!gpu) return;
  run_gemm_cases(*gpu, odd_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_fp8: few SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: few SMs");
  if (!gpu) return;
  run_gemm_cases(*gpu, budget_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_fp8: NaN, infinities and denormals", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: NaN, infinities and denormals");
  if (!gpu) return;
  run_gemm_cases(*gpu, value_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_fp8: graphs, threads, batch invariance", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: graphs, threads, batch invariance");
  if (!gpu) return;
  test_grouped_launches(*gpu, grouping, dtype);
}

TEST_CASE("gemm_batched_fp8: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_batched_fp8: small sizes");
  if (!gpu) return;
  run_gemm_cases(*gpu, small_cases(grouping, dtype));
}

}  // namespace dgrt::test
