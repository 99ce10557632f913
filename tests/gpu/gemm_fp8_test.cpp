// gemm with e4m3 operands and block scales, against the fp64 reference: every size class of m over
// the layers of models, then each odd thing on its own.
#include "tests/gpu/gemm_runner.h"

namespace dgrt::test {
namespace {

const std::vector<int64_t> all_m = {0,   1,   2,   7,   16,  17,  63,  64,   65,
                                    127, 128, 129, 200, 256, 300, 512, 1000, 4096};
const std::vector<int64_t> some_m = {1, 16, 17, 64, 129, 300};
const std::vector<int64_t> few_m = {1, 17, 129, 300};

GemmCase fp8(int64_t n, int64_t k, std::vector<int64_t> m) {
  GemmCase test;
  test.n = n, test.k = k, test.m = std::move(m);
  test.dtype_ab = DGRT_E4M3;
  return test;
}

}  // namespace

TEST_CASE("gemm_fp8: layers of models, every m", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: layers of models, every m");
  if (!gpu) return;
  run_gemm_cases(*gpu, {fp8(2112, 7168, all_m), fp8(576, 7168, all_m), fp8(24576, 1536, all_m),
                        fp8(7168, 2048, all_m)});
}

TEST_CASE("gemm_fp8: odd n and k, rows further apart than they are long", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: odd n and k, rows further apart than they are long");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const int64_t n : {1, 8, 24, 72, 1000, 2111}) cases.push_back(fp8(n, 576, some_m));
  for (const int64_t k : {1, 7, 16, 32, 100, 112, 128, 129, 144, 1000})
    cases.push_back(fp8(264, k, some_m));
  for (GemmCase& test : cases) test.pad = 40;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_fp8: k of 0 gives zeros", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: k of 0 gives zeros");
  if (!gpu) return;
  run_gemm_cases(*gpu, {fp8(264, 0, {0, 1, 17, 300})});
}

TEST_CASE("gemm_fp8: b_scale with n contiguous", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: b_scale with n contiguous");
  if (!gpu) return;
  std::vector<GemmCase> cases = {fp8(2112, 7168, some_m), fp8(1000, 576, some_m),
                                 fp8(72, 144, some_m)};
  for (GemmCase& test : cases) test.b_scale_major = DGRT_MN_MAJOR;
  cases.back().pad = 24;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_fp8: scales by row and by channel", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: scales by row and by channel");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const dgrt_scale_mode mode : {DGRT_SCALE_ROW, DGRT_SCALE_CHANNEL})
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{
             {2112, 7168}, {1000, 576}, {2111, 144}, {72, 0}}) {
      cases.push_back(fp8(n, k, {1, 16, 17, 64, 129, 1000}));
      cases.back().scale_mode = mode;
    }
  cases[2].pad = cases[6].pad = 24;
  cases.push_back(cases[5]);
  cases.back().one_scale = true;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_fp8: d of every type, c, bias, heads, unaligned d", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: d of every type, c, bias, heads, unaligned d");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const dgrt_dtype dtype_d : {DGRT_BF16, DGRT_FP16, DGRT_FP32}) {
    cases.push_back(fp8(1000, 576, few_m));
    cases.back().dtype_d = dtype_d;
    cases.push_back(cases.back());
    cases.back().c = dtype_d == DGRT_FP32 ? CMode::in_place : CMode::separate;
    cases.push_back(cases.back());
    cases.back().c = CMode::none;
    cases.back().flags = DGRT_GEMM_WITH_BIAS;
  }
  cases.push_back(fp8(333, 576, few_m));
  cases.back().c = CMode::separate;
  cases.back().flags = DGRT_GEMM_WITH_BIAS | DGRT_GEMM_UNALIGNED_D;
  cases.back().pad = 3;
  cases.push_back(fp8(8192, 512, {128}));
  cases.back().head_left = 128, cases.back().head_mid = 64, cases.back().head_right = 128;
  cases.push_back(fp8(72 * 7, 512, few_m));
  cases.back().head_left = 8, cases.back().head_mid = 24, cases.back().head_right = 64;
  cases.push_back(fp8(1000, 576, few_m));
  cases.back().max_block_m = 64, cases.back().max_block_n = 64;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_fp8: fewer SMs, odd numbers of them", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: fewer SMs, odd numbers of them");
  if (!gpu) return;
  std::vector<GemmCase> cases;
  for (const uint32_t budget : {1, 3, 7, 131}) {
    cases.push_back(fp8(2112, 1024, {1, 64, 129, 1000}));
    cases.back().sm_budget = budget;
  }
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_fp8: NaN and infinities stay where they belong", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: NaN and infinities stay where they belong");
  if (!gpu) return;
  std::vector<GemmCase> cases = {fp8(200, 512, {3, 64, 300}), fp8(200, 200, {3, 17, 129})};
  for (GemmCase& test : cases) test.values = Values::extremes;
  cases.push_back(fp8(200, 512, {3, 64, 300}));
  cases.back().values = Values::denormals;
  run_gemm_cases(*gpu, cases);
}

TEST_CASE("gemm_fp8: graphs, threads, dependent launches", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: graphs, threads, dependent launches");
  if (!gpu) return;
  test_graph_replay(*gpu, fp8(1000, 576, {17, 300}));
  test_threads(*gpu, fp8(2112, 1024, {1, 64, 200, 1000}));
  test_dependent_launch(*gpu, DGRT_E4M3);
}

TEST_CASE("gemm_fp8: rows do not depend on m or the number of SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fp8: rows do not depend on m or the number of SMs");
  if (!gpu) return;
  test_batch_invariance(*gpu, fp8(2112, 7168, {1, 17, 128, 1000}));
  test_batch_invariance(*gpu, fp8(1000, 576, {1, 17, 128, 1000}));
}

TEST_CASE("gemm_fp8: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_fp8: small sizes");
  if (!gpu) return;
  std::vector<GemmCase> cases = {fp8(200, 200, {1, 17, 129}), fp8(72, 136, {65}), fp8(72, 272, {65}),
                                 fp8(72, 3216, {8, 65})};  // k: more than once round a ring
  cases[0].pad = 40;
  cases[1].scale_mode = DGRT_SCALE_ROW, cases[1].dtype_d = DGRT_FP32, cases[1].c = CMode::in_place;
  cases[2].scale_mode = DGRT_SCALE_CHANNEL;
  run_gemm_cases(*gpu, cases);
}

}  // namespace dgrt::test
