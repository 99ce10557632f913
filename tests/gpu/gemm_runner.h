// Runs cases of the GEMM family, whatever their op and element types: random operands in guarded
// memory, poisoned outputs, the fp64 reference of the laboratory for every group, bitwise
// repetition.
#pragma once
#include <string>
#include <vector>

#include "tests/gpu/gemm_case.h"
#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt::test {

// The largest rows of dense tests.
constexpr int64_t max_test_m = 4096;

// The operands of a case, for its largest m, and a plan.
class GemmRun {
 public:
  static Result<GemmRun> make(Gpu& gpu, const GemmCase& test);

  // Poisons d (or copies c there), launches, waits, and checks against the reference, the guards
  // and the padding; then launches again into a second d and compares bits. The string names kernel
  // and errors.
  Result<std::string> check(int64_t m);

  // Parts of the above, for tests that launch in other ways.
  // Uploads what the device says of the groups of a call of m; args and check_d then mean that
  // call.
  Status deal(int64_t m, uint32_t draw = 0);
  AnyGemmArgs args(int64_t m) const { return args_into(d_, m); }  // into the first d
  AnyGemmArgs args_into(const lab::DeviceBuffer& d, int64_t m) const;
  Status prepare_d(const lab::DeviceBuffer& d) const;  // poisoned, or c's contents
  Status check_d(const lab::DeviceBuffer& d, int64_t m, std::string* summary) const;
  Status check_signal(int64_t m) const;
  Status refill(uint64_t seed) const;  // new numbers in a and b
  Result<lab::DeviceBuffer> make_d() const;
  const Plan& plan() const { return plan_; }
  void drop_plan() { plan_ = Plan(); }
  const lab::DeviceBuffer& d() const { return d_; }
  const lab::DeviceBuffer& signal() const { return signal_; }
  const GemmRows& rows() const { return dealt_; }
  const GemmCase& test() const { return test_; }
  int64_t ldd() const { return ldd_; }  // elements between rows; interleaved: of neighbours

 private:
  // How one call of m lays its tensors out; strides in elements, 0 where an op has none.
  struct Strides {
    int64_t lda, ldb, ldc, ldd, a, b, c, d, a_scale, b_scale;
  };
  Strides strides(int64_t m) const;
  Status allocate();
  Status allocate_scales();
  Status plant_extremes() const;
  Status upload_bits(const lab::DeviceBuffer& to, int64_t at, uint16_t bits) const;
  void* output(const lab::DeviceBuffer& buffer) const;  // d, c, bias: one element in, if unaligned
  std::vector<lab::GemmProduct> products(const lab::DeviceBuffer& d, int64_t m) const;
  Status check_columns(const lab::DeviceBuffer& d, int64_t m) const;
  Status check_rows(const lab::DeviceBuffer& d, int64_t m) const;
  int64_t d_size() const { return element_bytes(test_.dtype_d); }
  int64_t d_across() const { return test_.interleaved ? test_.num_outputs() : 1; }  // side by side

  Gpu* gpu_ = nullptr;
  GemmCase test_;
  AnyGemmDesc desc_;
  GemmRows dealt_;
  uint32_t block_m_ = 0;  // masked: of the call that deal() was told of
  int64_t rows_ = 0;      // most args.m
  // Elements between rows that lie one behind the other. lda_ is that of k columns, K-major.
  int64_t lda_ = 0, ldb_ = 0, ldc_ = 0, ldd_ = 0, ld_a_scale_ = 0, ld_b_scale_ = 0;
  Plan plan_;
  lab::DeviceBuffer a_, b_, c_, bias_, d_, d_again_, a_scale_, b_scale_, groups_, signal_;
};

// Checks every m of every case, one record per case with the worst errors seen. The kernels of all
// are compiled first, side by side.
void run_gemm_cases(Gpu& gpu, const std::vector<GemmCase>& cases);

// Launching in other ways than one call at a time; for every op and element type alike.
// Captured once for two sizes (of grouped ops, one), replayed on changed operands and groups after
// the plan is gone.
void test_graph_replay(Gpu& gpu, const GemmCase& test);
// 4 threads, each with its own stream and output, on one plan.
void test_threads(Gpu& gpu, const GemmCase& test);
// Launches that feed each other (quant_fp8 before each e4m3 gemm), with and without dependent
// launch.
void test_dependent_launch(Gpu& gpu, dgrt_dtype dtype_ab);
// FLAG_BATCH_INVARIANT: the first group's rows have the same bits for every m of the case, on all SMs and on 57.
void test_batch_invariance(Gpu& gpu, const GemmCase& test);
// GEMM_SIGNAL: a kernel on another stream, launched first, copies each tile as soon as it is
// signalled; the copies are compared with the finished d.
void test_signal(Gpu& gpu, const GemmCase& test);

}  // namespace dgrt::test
