// Runs gemm_grouped_k cases, whatever their element types: every group against the fp64 reference of
// gemm, guards and padding, bitwise repetition. A case is data; the tests are lists of cases.
#pragma once
#include <string>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt::test {

struct GroupedKCase {
  dgrt_dtype dtype_ab = DGRT_BF16;
  int64_t m = 0, n = 0;
  std::vector<int32_t> ks;
  bool with_c = true, in_place = true;
  int64_t pad = 0;      // elements between rows beyond their length, multiple of 8
  int64_t spare_k = 0;  // of args.k beyond the sum of ks
  uint32_t sm_budget = 0;
  int repeats = 1;  // launches whose bits must equal the first one's

  std::string name() const;
};

// One record per case.
void run_grouped_k_cases(Gpu& gpu, const std::vector<GroupedKCase>& cases);

}  // namespace dgrt::test
