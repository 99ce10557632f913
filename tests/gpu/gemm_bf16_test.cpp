// gemm with bf16 and fp16 operands, d of their type or fp32, with and without c, against the fp64 reference.
#include "tests/gpu/gemm_runner.h"

namespace dgrt::test {
namespace {

const std::vector<int64_t> all_m = {0,   1,   2,   7,   16,  17,  63,  64,   65,
                                    127, 128, 129, 200, 256, 300, 512, 1000, 4096};
const std::vector<int64_t> some_m = {1, 16, 17, 64, 129, 300};
const std::vector<int64_t> few_m = {1, 17, 129, 300};

GemmCase bf16(int64_t n, int64_t k, std::vector<int64_t> m) {
  GemmCase test;
  test.n = n, test.k = k, test.m = std::move(m);
  return test;
}

// Each case with d of either type, without c, with a separate one, and in place.
std::vector<GemmCase> with_outputs(const std::vector<GemmCase>& cases) {
  std::vector<GemmCase> all;
  for (const GemmCase& test : cases)
    for (const dgrt_dtype dtype_d : {DGRT_BF16, DGRT_FP32})
      for (const CMode c : {CMode::none, CMode::separate, CMode::in_place}) {
        all.push_back(test);
        all.back().dtype_d = dtype_d;
        all.back().c = c;
      }
  return all;
}

}  // namespace

TEST_CASE("gemm_bf16: layers of models, every m", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: layers of models, every m");
  if (!gpu) return;
  run_gemm_cases(*gpu, {bf16(2112, 7168, all_m), bf16(576, 7168, all_m), bf16(24576, 1536, all_m),
                        bf16(7168, 2048, all_m), bf16(256, 7168, all_m)});
}

TEST_CASE("gemm_bf16: d of either type, with and without c", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: d of either type, with and without c");
  if (!gpu) return;
  run_gemm_cases(*gpu, with_outputs({bf16(2112, 1536, some_m), bf16(256, 7168, {7, 128, 4096}),
                                     bf16(264, 0, {0, 1, 17, 300})}));
}

TEST_CASE("gemm_bf16: odd n and k, rows further apart than they are long", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: odd n and k, rows further apart than they are long");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const int64_t n : {1, 8, 24, 72, 1000, 2111}) cases.push_back(bf16(n, 576, some_m));
  for (const int64_t k : {1, 7, 16, 32, 100, 112, 128, 129, 144, 1000})
    cases.push_back(bf16(264, k, some_m));
  for (GemmCase& test : cases) test.pad = 40;
  run_gemm_cases(*gpu, cases);
  run_gemm_cases(*gpu, with_outputs({cases[0], cases[3], cases[5]}));
}

TEST_CASE("gemm_bf16: fp16, every majorness", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: fp16, every majorness");
  if (!gpu) return;
  std::vector<GemmCase> cases = {bf16(2112, 7168, {1, 16, 64, 128, 1000}), bf16(1000, 576, few_m)};
  for (GemmCase& test : cases) test.dtype_ab = test.dtype_d = DGRT_FP16;
  for (const auto& [a, b] :
       std::vector<std::pair<dgrt_major, dgrt_major>>{{DGRT_K_MAJOR, DGRT_MN_MAJOR},
                                                      {DGRT_MN_MAJOR, DGRT_K_MAJOR},
                                                      {DGRT_MN_MAJOR, DGRT_MN_MAJOR}})
    for (const auto& [n, k] :
         std::vector<std::pair<int64_t, int64_t>>{{2112, 1024}, {1000, 577}, {72, 7}}) {
      cases.push_back(bf16(n, k, few_m));
      cases.back().a_major = a, cases.back().b_major = b;
      if (n == 1000) cases.back().pad = 40, cases.back().dtype_d = DGRT_FP32;
    }
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_bf16: bias, heads, unaligned d, small tiles", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: bias, heads, unaligned d, small tiles");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const dgrt_dtype dtype_d : {DGRT_BF16, DGRT_FP32})
    for (const CMode c : {CMode::none, CMode::separate}) {
      cases.push_back(bf16(1000, 576, few_m));
      cases.back().dtype_d = dtype_d;
      cases.back().c = c;
      cases.back().flags = DGRT_GEMM_WITH_BIAS;
      cases.push_back(cases.back());
      cases.back().n = 333, cases.back().pad = 3;
      cases.back().flags |= DGRT_GEMM_UNALIGNED_D;
    }
  cases.push_back(bf16(8192, 512, {128}));
  cases.back().head_left = 128, cases.back().head_mid = 64, cases.back().head_right = 128;
  cases.push_back(bf16(72 * 7, 512, few_m));
  cases.back().head_left = 8, cases.back().head_mid = 24, cases.back().head_right = 64;
  cases.back().flags = DGRT_GEMM_WITH_BIAS;
  cases.push_back(bf16(1000, 576, few_m));
  cases.back().max_block_m = 64, cases.back().max_block_n = 64;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_bf16: fewer SMs, odd numbers of them", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: fewer SMs, odd numbers of them");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const uint32_t budget : {1, 3, 7, 131}) {
    cases.push_back(bf16(2112, 1024, {1, 64, 129, 1000}));
    cases.back().sm_budget = budget;
  }
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_bf16: NaN and infinities stay where they belong", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: NaN and infinities stay where they belong");
  if (!gpu) return;
  std::vector<GemmCase> cases = {bf16(200, 512, {3, 64, 300}), bf16(200, 200, {3, 17, 129})};
  for (GemmCase& test : cases) test.values = Values::extremes;
  cases.push_back(cases[0]);
  cases.back().dtype_d = DGRT_FP32;
  cases.push_back(cases[0]);
  cases.back().dtype_ab = cases.back().dtype_d = DGRT_FP16;
  cases.push_back(bf16(200, 512, {3, 64, 300}));
  cases.back().values = Values::denormals;
  cases.push_back(cases.back());
  cases.back().dtype_ab = DGRT_FP16, cases.back().dtype_d = DGRT_FP32;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_bf16: graphs, threads, dependent launches", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: graphs, threads, dependent launches");
  if (!gpu) return;
  GemmCase in_place = bf16(1000, 576, {17, 300});
  in_place.c = CMode::in_place;
  test_graph_replay(*gpu, in_place);
  test_threads(*gpu, bf16(2112, 1024, {1, 64, 200, 1000}));
  test_dependent_launch(*gpu, DGRT_BF16);
}

TEST_CASE("gemm_bf16: rows do not depend on m or the number of SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_bf16: rows do not depend on m or the number of SMs");
  if (!gpu) return;
  test_batch_invariance(*gpu, bf16(2112, 7168, {1, 17, 128, 1000}));
  test_batch_invariance(*gpu, bf16(1000, 576, {1, 17, 128, 1000}));
}

TEST_CASE("gemm_bf16: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_bf16: small sizes");
  if (!gpu) return;
  std::vector<GemmCase> cases = {bf16(200, 200, {1, 17, 129}), bf16(72, 136, {65}), bf16(136, 72, {65}),
                                 bf16(72, 1672, {8, 65})};  // k: more than once round a ring
  cases[0].pad = 40;
  cases[1].dtype_d = DGRT_FP32, cases[1].c = CMode::in_place;
  cases[2].dtype_ab = cases[2].dtype_d = DGRT_FP16, cases[2].a_major = cases[2].b_major = DGRT_MN_MAJOR;
  run_gemm_cases(*gpu, cases);
}

}  // namespace dgrt::test
