// gemm_grouped_k with fp8 operands: groups of every length, none among them, and the shapes that make
// neighbouring groups share a cluster or a tensor map where a kernel lets them.
#include "tests/gpu/grouped_k_runner.h"

namespace dgrt::test {
namespace {

GroupedKCase make(int64_t m, int64_t n, std::vector<int32_t> ks) {
  return {.dtype_ab = DGRT_E4M3, .m = m, .n = n, .ks = std::move(ks)};
}

}  // namespace

TEST_CASE("gemm_grouped_k_fp8: weight gradients of experts", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_k_fp8: weight gradients of experts");
  if (!gpu) return;
  run_grouped_k_cases(
      *gpu, {make(4096, 7168, {8192, 6144, 10240, 7808}), make(7168, 2048, {4096, 0, 5120, 2944}),
             make(768, 2048, {2048, 128, 1408, 0, 0, 2816, 640, 1024})});
}

TEST_CASE("gemm_grouped_k_fp8: an odd number of tiles in every group", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_k_fp8: an odd number of tiles in every group");
  if (!gpu) return;
  run_grouped_k_cases(*gpu, {make(192, 3072, {128, 256}), make(1408, 1408, {384, 256}),
                             make(320, 320, {256, 128, 384})});
}

TEST_CASE("gemm_grouped_k_fp8: short groups give the same bits 200 times", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_k_fp8: short groups give the same bits 200 times");
  if (!gpu) return;
  GroupedKCase test = make(768, 2048, {128, 256, 128, 128, 256, 256, 128, 256});
  test.repeats = 200;
  GroupedKCase many = make(768, 256, std::vector<int32_t>(128, 128));
  many.repeats = 20;
  run_grouped_k_cases(*gpu, {test, many});
}

TEST_CASE("gemm_grouped_k_fp8: tails, strides, c or none, fewer SMs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_grouped_k_fp8: tails, strides, c or none, fewer SMs");
  if (!gpu) return;
  std::vector<GroupedKCase> cases;
  for (const int64_t m : {1, 7, 64, 200})
    for (const int64_t n : {1, 30, 129, 1000}) {
      GroupedKCase test = make(m, n, {256, 0, 128, 640});
      cases.push_back(test);
      test.in_place = false, test.pad = 8;
      cases.push_back(test);
      test.with_c = false, test.spare_k = 256;
      cases.push_back(test);
    }
  for (const uint32_t sms : {1u, 7u}) {
    cases.push_back(make(520, 392, {384, 256, 0, 128}));
    cases.back().sm_budget = sms;
  }
  cases.push_back(make(264, 136, {0, 0}));
  cases.back().in_place = false;
  cases.back().spare_k = 128;
  run_grouped_k_cases(*gpu, cases);
}

TEST_CASE("gemm_grouped_k_fp8: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_grouped_k_fp8: small sizes");
  if (!gpu) return;
  GroupedKCase test = make(72, 129, {256, 0, 128});
  test.in_place = false, test.pad = 8;
  run_grouped_k_cases(*gpu, {make(64, 136, {128, 0, 256}), test});
}

}  // namespace dgrt::test
