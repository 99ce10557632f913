// gemm_batched_bf16: batches of one shape, bf16 and fp16 operands, against the fp64 reference.
#include "tests/gpu/grouped_cases.h"

namespace dgrt::test {
namespace {

constexpr Grouping grouping = Grouping::batched;
constexpr dgrt_dtype dtype = DGRT_BF16;

}  // namespace

TEST_CASE("gemm_batched_bf16: layers of models", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: layers of models");
  if (!gpu) return;
  run_gemm_cases(*gpu, layer_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_bf16: one to many batches", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: one to many batches");
  if (!gpu) return;
  run_gemm_cases(*gpu, group_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_bf16: odd sizes, types, strides", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: odd sizes, types, strides");
  if (!gpu) return;
  run_gemm_cases(*gpu, odd_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_bf16: few SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: few SMs");
  if (!gpu) return;
  run_gemm_cases(*gpu, budget_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_bf16: NaN, infinities and denormals", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: NaN, infinities and denormals");
  if (!gpu) return;
  run_gemm_cases(*gpu, value_cases(grouping, dtype));
}

TEST_CASE("gemm_batched_bf16: graphs, threads, batch invariance", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: graphs, threads, batch invariance");
  if (!gpu) return;
  test_grouped_launches(*gpu, grouping, dtype);
}

TEST_CASE("gemm_batched_bf16: more than 2^31 elements of d", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: more than 2^31 elements of d");
  if (!gpu) return;
  run_gemm_cases(*gpu, {grouped_case(grouping, dtype, 17, 8192, 64, {16384})});
}

TEST_CASE("gemm_batched_bf16: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_batched_bf16: small sizes");
  if (!gpu) return;
  run_gemm_cases(*gpu, small_cases(grouping, dtype));
}

}  // namespace dgrt::test
