// gemm_batched with SUM_BATCHES: one d, the sum of the products of all batches, against the fp64
// reference. Each call runs twice on one workspace: bits that differ, or counters that a call leaves behind,
// show in the second.
#include "tests/gpu/grouped_cases.h"

namespace dgrt::test {
namespace {

GemmCase sum_case(uint32_t num_batches, int64_t n, int64_t k, std::vector<int64_t> m) {
  return grouped_case(Grouping::batch_sum, DGRT_BF16, num_batches, n, k, std::move(m));
}

}  // namespace

TEST_CASE("gemm_batched sum: gradients of models", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched sum: gradients of models");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const uint32_t batches : {129, 4096}) {
    cases.push_back(sum_case(batches, 384, 128, {128}));
    cases.push_back(sum_case(batches, 256, 256, {256}));
    cases.push_back(sum_case(batches, 128, 384, {384}));
  }
  cases.push_back(sum_case(16, 4096, 1024, {2048}));
  cases.push_back(sum_case(64, 1024, 512, {1024}));
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_batched sum: none to many batches, k that ends inside a block", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched sum: none to many batches, k that ends inside a block");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const auto& [batches, k] : std::vector<std::pair<uint32_t, int64_t>>{{0, 64},
                                                                            {1, 0},
                                                                            {5, 0},
                                                                            {1, 64},
                                                                            {1, 4096},
                                                                            {2, 1},
                                                                            {3, 72},
                                                                            {64, 64},
                                                                            {300, 72},
                                                                            {7, 1000},
                                                                            {2000, 8},
                                                                            {65535, 16}})
    cases.push_back(sum_case(batches, 200, k, {0, 1, 17, 64, 130, 300}));
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_batched sum: odd sizes, types, strides", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched sum: odd sizes, types, strides");
  if (!gpu) return;
  std::vector<GemmCase> cases = odd_cases(Grouping::batch_sum, DGRT_BF16);
  // The same with so many batches that clusters share a tile's.
  const size_t count = cases.size();
  for (size_t i = 0; i < count; ++i) {
    cases.push_back(cases[i]);
    cases.back().num_groups = 150;
  }
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_batched sum: few SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched sum: few SMs");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const uint32_t budget : {1, 7, 33, 131}) {
    cases.push_back(sum_case(200, 333, 136, {1, 64, 300}));
    cases.back().sm_budget = budget;
  }
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_batched sum: NaN, infinities and denormals", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched sum: NaN, infinities and denormals");
  if (!gpu) return;
  std::vector<GemmCase> cases = value_cases(Grouping::batch_sum, DGRT_BF16);
  for (size_t i = 0; i < 3; ++i) {
    cases.push_back(cases[i]);
    cases.back().num_groups = 64;
  }
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_batched sum: graphs, threads, batch invariance", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_batched sum: graphs, threads, batch invariance");
  if (!gpu) return;
  const GemmCase test = sum_case(150, 200, 136, {300});
  test_graph_replay(*gpu, test);
  test_threads(*gpu, test);
  GemmCase invariant = sum_case(40, 1000, 128, {2, 17, 128, 1000});
  invariant.interleaved = true;  // a row of a lies where it lies, whatever m is
  test_batch_invariance(*gpu, invariant);
}

TEST_CASE("gemm_batched sum: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_batched sum: small sizes");
  if (!gpu) return;
  run_gemm_cases(*gpu, small_cases(Grouping::batch_sum, DGRT_BF16));
}

}  // namespace dgrt::test
