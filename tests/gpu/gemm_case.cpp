#include "tests/gpu/gemm_case.h"

#include <algorithm>

#include "runtime/base/format.h"

namespace dgrt::test {
namespace {

const char* dtype_name(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3   ? "e4m3"
         : dtype == DGRT_FP32 ? "fp32"
         : dtype == DGRT_FP16 ? "fp16"
                              : "bf16";
}

const char* op_name(Grouping grouping) {
  switch (grouping) {
    case Grouping::contiguous:
      return "gemm_grouped_contiguous";
    case Grouping::masked:
      return "gemm_grouped_masked";
    case Grouping::batched:
      return "gemm_batched";
    case Grouping::batch_sum:
      return "gemm_batched sum";
    default:
      return "gemm";
  }
}

template <class Desc>
Desc common_desc(const GemmCase& t, int64_t max_m, Desc desc) {
  desc.n = t.n, desc.k = t.k, desc.max_m = max_m;
  desc.dtype_ab = t.dtype_ab, desc.dtype_d = t.dtype_d;
  desc.scale_mode = t.scales();
  desc.b_scale_major = t.b_scale_major, desc.b_major = t.b_major;
  desc.sm_budget = t.sm_budget;
  desc.flags = t.flags | (t.c == CMode::none ? 0u : uint32_t{DGRT_GEMM_WITH_C});
  desc.max_block_m = t.max_block_m, desc.max_block_n = t.max_block_n;
  return desc;
}

// 0.7 .. 1.3 of `mean` rows; every fifth group is empty.
int64_t contiguous_count(int64_t mean, uint32_t group) {
  if (group % 5 == 3) return 0;
  return std::max<int64_t>(mean > 0, mean * (70 + static_cast<int64_t>(group) * 37 % 61) / 100);
}

// What devices may say, wrong numbers too.
int32_t masked_count(int64_t m, uint32_t group) {
  const int64_t counts[] = {m, 1, 0, m / 2 + 1, 65, 17, -3, m + 5, 64, m - 1, 128, 130};
  return static_cast<int32_t>(counts[group % std::size(counts)]);
}

void deal_contiguous(const GemmCase& t, int64_t mean, uint32_t draw, GemmRows* rows) {
  int64_t end = 0;  // of the last group, unpadded
  for (uint32_t g = 0; g < t.num_groups; ++g) {
    rows->first.push_back((end + t.alignment - 1) / t.alignment * t.alignment);
    rows->counts.push_back(contiguous_count(mean, (g + draw) % t.num_groups));
    end = rows->first.back() + rows->counts.back();
  }
  rows->m = t.tail < 0 ? end : (end + t.alignment - 1) / t.alignment * t.alignment + t.tail;
  if (t.group_layout == DGRT_GROUP_END_ROW) {
    for (uint32_t g = 0; g < t.num_groups; ++g)
      rows->groups.push_back(static_cast<int32_t>(rows->first[g] + rows->counts[g]));
    return;
  }
  // Padding is -1, or a group that does not exist.
  rows->groups.assign(std::max<int64_t>(rows->m, 1), -1);
  for (int64_t row = end; row < rows->m; ++row)
    if (row % 2) rows->groups[row] = static_cast<int32_t>(t.num_groups + row);
  for (uint32_t g = 0; g < t.num_groups; ++g)
    std::fill_n(rows->groups.begin() + rows->first[g], rows->counts[g], static_cast<int32_t>(g));
}

}  // namespace

int64_t element_bytes(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? 1 : dtype == DGRT_FP32 ? 4 : 2;
}

std::string GemmCase::name() const {
  std::string text = fmt::format("{} {} n={} k={} d={}", op_name(grouping), dtype_name(dtype_ab), n,
                                 k, dtype_name(dtype_d));
  const auto add = [&text](bool has, const std::string& what) {
    if (has) text += " " + what;
  };
  add(grouping != Grouping::none, fmt::format("groups={}", num_groups));
  add(grouping == Grouping::contiguous,
      fmt::format("align={} {} tail={}", alignment,
                  group_layout == DGRT_GROUP_END_ROW ? "ends" : "rows", tail));
  add(hint != 1, fmt::format("hint={}", hint));
  add(interleaved, "interleaved");
  add(scales() == DGRT_SCALE_ROW, "scales=row");
  add(scales() == DGRT_SCALE_CHANNEL, one_scale ? "scales=one" : "scales=channel");
  add(b_scale_major == DGRT_MN_MAJOR, "b_scale=mn");
  add(a_major == DGRT_MN_MAJOR, "a=mn");
  add(b_major == DGRT_MN_MAJOR, "b=mn");
  add(c != CMode::none, c == CMode::separate ? "c" : "c=d");
  add(has(DGRT_GEMM_WITH_BIAS), "bias");
  add(has(DGRT_GEMM_UNALIGNED_D), "unaligned");
  add(has(DGRT_GEMM_SIGNAL), "signal");
  add(has(DGRT_FLAG_PDL), "pdl");
  add(has(DGRT_FLAG_BATCH_INVARIANT), "invariant");
  add(head_mid != 0, fmt::format("heads={}+{}+{}", head_left, head_mid, head_right));
  add(pad != 0, fmt::format("pad={}", pad));
  add(sm_budget != 0, fmt::format("sm_budget={}", sm_budget));
  add(max_block_m != 0 || max_block_n != 0, fmt::format("most={}x{}", max_block_m, max_block_n));
  add(values != Values::normal, values == Values::extremes ? "extremes" : "denormals");
  return text;
}

AnyGemmDesc GemmCase::desc(int64_t max_m) const {
  switch (grouping) {
    case Grouping::contiguous: {
      auto desc = common_desc<dgrt_gemm_grouped_contiguous_desc>(*this, max_m,
                                                                 DGRT_GEMM_GROUPED_CONTIGUOUS_DESC);
      desc.num_groups = num_groups;
      desc.group_layout = group_layout, desc.alignment = alignment;
      return desc;
    }
    case Grouping::masked: {
      auto desc =
          common_desc<dgrt_gemm_grouped_masked_desc>(*this, max_m, DGRT_GEMM_GROUPED_MASKED_DESC);
      desc.num_groups = num_groups;
      return desc;
    }
    case Grouping::batched:
    case Grouping::batch_sum: {
      auto desc = common_desc<dgrt_gemm_batched_desc>(*this, max_m, DGRT_GEMM_BATCHED_DESC);
      desc.num_batches = num_groups;
      desc.a_major = a_major;
      if (grouping == Grouping::batch_sum) desc.flags |= DGRT_GEMM_SUM_BATCHES;
      return desc;
    }
    default: {
      auto desc = common_desc<dgrt_gemm_desc>(*this, max_m, DGRT_GEMM_DESC);
      desc.a_major = a_major;
      desc.head_left = head_left, desc.head_mid = head_mid, desc.head_right = head_right;
      return desc;
    }
  }
}

GemmRows GemmCase::rows(int64_t m, uint32_t draw) const {
  GemmRows rows;
  rows.m = m;
  if (grouping == Grouping::contiguous) {
    deal_contiguous(*this, m, draw, &rows);
  } else if (grouping == Grouping::masked) {
    for (uint32_t g = 0; g < num_groups; ++g) {
      rows.groups.push_back(masked_count(m, g + draw));
      rows.counts.push_back(std::clamp<int64_t>(rows.groups.back(), 0, m));
    }
  } else {
    rows.counts.assign(num_outputs(), m);
  }
  return rows;
}

}  // namespace dgrt::test
