// gemm_grouped_masked_bf16: groups whose rows the device counts, bf16 and fp16 operands, against the fp64 reference.
#include "tests/gpu/grouped_cases.h"

namespace dgrt::test {
namespace {

constexpr Grouping grouping = Grouping::masked;
constexpr dgrt_dtype dtype = DGRT_BF16;

}  // namespace

TEST_CASE("gemm_grouped_masked_bf16: layers of models", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: layers of models");
  if (!gpu) return;
  run_gemm_cases(*gpu, layer_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_masked_bf16: one to many groups, any counts and hints", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: one to many groups, any counts and hints");
  if (!gpu) return;
  run_gemm_cases(*gpu, group_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_masked_bf16: odd sizes, types, strides", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: odd sizes, types, strides");
  if (!gpu) return;
  run_gemm_cases(*gpu, odd_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_masked_bf16: few SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: few SMs");
  if (!gpu) return;
  run_gemm_cases(*gpu, budget_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_masked_bf16: NaN, infinities and denormals", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: NaN, infinities and denormals");
  if (!gpu) return;
  run_gemm_cases(*gpu, value_cases(grouping, dtype));
}

TEST_CASE("gemm_grouped_masked_bf16: graphs, threads, batch invariance", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: graphs, threads, batch invariance");
  if (!gpu) return;
  test_grouped_launches(*gpu, grouping, dtype);
}

TEST_CASE("gemm_grouped_masked_bf16: signals", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: signals");
  if (!gpu) return;
  std::vector<GemmCase> cases = {grouped_case(grouping, dtype, 6, 4096, 2048, {1024}),
                                 grouped_case(grouping, dtype, 16, 1000, 1024, {100}),
                                 grouped_case(grouping, dtype, 32, 7168, 512, {64}),
                                 grouped_case(grouping, dtype, 5, 2111, 576, {300})};
  cases[1].dtype_d = DGRT_FP32;
  cases[2].max_block_n = 96;
  for (GemmCase& test : cases) {
    test.flags |= DGRT_GEMM_SIGNAL;
    test.sm_budget = 100;  // the consumer gets the others
  }
  run_gemm_cases(*gpu, cases);
  for (const GemmCase& test : cases) test_signal(*gpu, test);
}

TEST_CASE("gemm_grouped_masked_bf16: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_grouped_masked_bf16: small sizes");
  if (!gpu) return;
  run_gemm_cases(*gpu, small_cases(grouping, dtype));
}

}  // namespace dgrt::test
