// One case of the GEMM family as data: which op, types, sizes, layouts. Tests are lists of cases;
// gemm_runner.h runs them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "dgrt/gemm.h"

namespace dgrt::test {

enum class CMode { none, separate, in_place };
enum class Grouping { none, contiguous, masked, batched, batch_sum };
// extremes: NaN, infinities, the largest numbers among the operands. denormals: a of nothing else.
enum class Values { normal, extremes, denormals };

using AnyGemmDesc = std::variant<dgrt_gemm_desc, dgrt_gemm_grouped_contiguous_desc,
                                 dgrt_gemm_grouped_masked_desc, dgrt_gemm_batched_desc>;
using AnyGemmArgs = std::variant<dgrt_gemm_args, dgrt_gemm_grouped_contiguous_args,
                                 dgrt_gemm_grouped_masked_args, dgrt_gemm_batched_args>;

template <class Any>
const dgrt_op* op_of(const Any& any) {
  return std::visit([](const auto& x) { return &x.op; }, any);
}

// Rows of one call.
struct GemmRows {
  int64_t m = 0;                // args.m
  std::vector<int64_t> counts;  // of each group
  std::vector<int64_t> first;   // contiguous: where each begins
  std::vector<int32_t> groups;  // contiguous, masked: what args.groups or args.masked_m holds
};

struct GemmCase {
  Grouping grouping = Grouping::none;
  uint32_t num_groups = 1;
  int64_t n = 0, k = 0;
  std::vector<int64_t> m;  // args.m; contiguous: rows of each group, about
  dgrt_dtype dtype_ab = DGRT_BF16, dtype_d = DGRT_BF16;
  std::optional<dgrt_scale_mode> scale_mode;  // else: BLOCK for e4m3
  bool one_scale = false;                     // SCALE_CHANNEL: strides of 0
  dgrt_major b_scale_major = DGRT_K_MAJOR, a_major = DGRT_K_MAJOR, b_major = DGRT_K_MAJOR;
  CMode c = CMode::none;
  int64_t pad = 0;  // elements between rows beyond what the row length asks for, before rounding
  uint32_t sm_budget = 0;
  uint32_t flags = 0;
  uint32_t max_block_m = 0, max_block_n = 0;
  uint32_t head_left = 0, head_mid = 0, head_right = 0;
  Values values = Values::normal;
  // contiguous
  dgrt_group_layout group_layout = DGRT_GROUP_OF_ROW;
  uint32_t alignment = 128;
  int64_t tail = 0;  // rows behind the last group's padding; -1: that padding is missing
  // masked
  double hint = 1;  // expected_m, in means of the counts
  // batched: batches lie side by side in the rows of a, c and d; batch_sum: of a
  bool interleaved = false;

  bool has(uint32_t flag) const { return (flags & flag) != 0; }
  bool is_fp8() const { return dtype_ab == DGRT_E4M3; }
  dgrt_scale_mode scales() const {
    return scale_mode.value_or(is_fp8() ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE);
  }
  int64_t d_columns() const {
    return head_mid == 0 ? n : n + n / (head_left + head_right) * head_mid;
  }
  // Matrices of a, and of c and d.
  uint32_t num_inputs() const {
    return grouping == Grouping::batch_sum ? num_groups : num_outputs();
  }
  uint32_t num_outputs() const {
    return grouping == Grouping::masked || grouping == Grouping::batched ? num_groups : 1;
  }
  std::string name() const;  // "gemm e4m3 n=2112 k=7168 d=bf16 ..."
  AnyGemmDesc desc(int64_t max_m) const;
  // Another `draw` deals the same counts to other groups.
  GemmRows rows(int64_t m, uint32_t draw = 0) const;
};

int64_t element_bytes(dgrt_dtype dtype);

}  // namespace dgrt::test
