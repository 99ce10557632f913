// Runs gemm cases, whatever their element types: random operands in guarded memory, poisoned
// outputs, the fp64 reference of the laboratory, bitwise repetition. A case is data; the tests are
// lists of cases.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt::test {

enum class CMode { none, separate, in_place };

struct GemmCase {
  int64_t n = 0, k = 0;
  std::vector<int64_t> m;
  dgrt_dtype dtype_ab = DGRT_BF16, dtype_d = DGRT_BF16;
  dgrt_major b_scale_major = DGRT_K_MAJOR;
  CMode c = CMode::none;
  int64_t pad = 0;  // elements between rows beyond what the row length asks for, before rounding
  uint32_t sm_budget = 0;
  uint32_t flags = 0;     // DGRT_FLAG_PDL
  bool extremes = false;  // NaN and infinities among the operands

  std::string name() const;  // "gemm_fp8 n=2112 k=7168 d=bf16 ..."
};

// The largest rows that tests use.
constexpr int64_t max_test_m = 4096;

// The operands of a case, for its largest m, and a plan for max_test_m rows.
class GemmRun {
 public:
  static Result<GemmRun> make(Gpu& gpu, const GemmCase& test);

  // Poisons d (or copies c there), launches, waits, and checks against the reference, the guards
  // and the padding; then launches again into a second d and compares bits. The string names kernel
  // and errors.
  Result<std::string> check(int64_t m);

  // Parts of the above, for tests that launch in other ways.
  dgrt_gemm_args args(int64_t m) const;  // into the first d
  dgrt_gemm_args args_into(const lab::DeviceBuffer& d, int64_t m) const;
  Status prepare_d(const lab::DeviceBuffer& d) const;  // poisoned, or c's contents
  Status check_d(const lab::DeviceBuffer& d, int64_t m, std::string* summary) const;
  Status refill(uint64_t seed) const;  // new numbers in a and b
  Result<lab::DeviceBuffer> make_d() const;
  const Plan& plan() const { return plan_; }
  void drop_plan() { plan_ = Plan(); }
  const lab::DeviceBuffer& d() const { return d_; }

 private:
  Status allocate();
  Status plant_extremes() const;

  Gpu* gpu_ = nullptr;
  GemmCase test_;
  dgrt_gemm_desc desc_{};
  int64_t rows_ = 0;  // of a, c and d
  int64_t lda_ = 0, ldb_ = 0, ldc_ = 0, ldd_ = 0, ld_a_scale_ = 0, ld_b_scale_ = 0;
  Plan plan_;
  lab::DeviceBuffer a_, b_, c_, d_, d_again_, a_scale_, b_scale_;
};

// Checks every m of every case, one record per case with the worst errors seen.
void run_gemm_cases(Gpu& gpu, const std::vector<GemmCase>& cases);

// Launching in other ways than one call at a time; for every element type alike.
// Captured once for two sizes, replayed on changed operands after the plan is gone.
void test_graph_replay(Gpu& gpu, const GemmCase& test);
// 4 threads, each with its own stream and output, on one plan.
void test_threads(Gpu& gpu, const GemmCase& test);
// Launches that feed each other (quant_fp8 before each e4m3 gemm), with and without dependent
// launch.
void test_dependent_launch(Gpu& gpu, dgrt_dtype dtype_ab);

}  // namespace dgrt::test
