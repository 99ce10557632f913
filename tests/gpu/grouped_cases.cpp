#include "tests/gpu/grouped_cases.h"

#include <algorithm>

namespace dgrt::test {
namespace {

using Cases = std::vector<GemmCase>;

// Both layouts of groups, one of them with the smaller alignment.
Cases both_layouts(const Cases& cases) {
  Cases all = cases;
  for (const GemmCase& test : cases) {
    if (test.grouping != Grouping::contiguous) continue;
    all.push_back(test);
    all.back().group_layout = DGRT_GROUP_END_ROW;
    all.back().alignment = 64;
  }
  return all;
}

}  // namespace

GemmCase grouped_case(Grouping grouping, dgrt_dtype dtype_ab, uint32_t num_groups, int64_t n,
                      int64_t k, std::vector<int64_t> m) {
  GemmCase test;
  test.grouping = grouping, test.num_groups = num_groups;
  test.dtype_ab = dtype_ab;
  test.n = n, test.k = k, test.m = std::move(m);
  return test;
}

std::vector<GemmCase> layer_cases(Grouping grouping, dgrt_dtype dtype_ab) {
  const auto make = [&](uint32_t groups, int64_t n, int64_t k, std::vector<int64_t> m) {
    return grouped_case(grouping, dtype_ab, groups, n, k, std::move(m));
  };
  if (grouping == Grouping::contiguous) {
    Cases cases = {make(4, 6144, 7168, {1024}), make(8, 7168, 3072, {100, 4096}),
                   make(4, 4096, 4096, {0, 1, 1000}), make(4, 4096, 2048, {16, 8192}),
                   make(32, 4096, 7168, {20, 192})};
    cases[1].group_layout = cases[3].group_layout = DGRT_GROUP_END_ROW;
    return cases;
  }
  if (grouping == Grouping::masked) {
    Cases cases = {make(6, 6144, 7168, {20, 1024}), make(32, 7168, 3072, {20, 192}),
                   make(6, 4096, 4096, {0, 1, 20}), make(32, 4096, 2048, {4096})};
    cases.back().hint = 0.05;  // as if the rows were few
    return cases;
  }
  // bhr,hdr->bhd and bhd,hdr->bhr: heads lie side by side in a row; rows of the weight have more
  // room than they need.
  const int64_t heads = 8, rank = 4096, head = 1024;
  Cases cases = {make(heads, head, rank, {4, 32, 128, 2048})};
  if (dtype_ab != DGRT_E4M3) {
    cases.push_back(make(128, 128, 512, {4, 128, 1024}));
    cases.push_back(make(128, 512, 128, {4, 128, 1024}));
    cases.push_back(make(heads, rank, head, {4, 32, 128}));
    cases[2].b_major = cases[3].b_major = DGRT_MN_MAJOR;
  }
  for (GemmCase& test : cases) test.interleaved = true, test.pad = 112;
  return cases;
}

std::vector<GemmCase> group_cases(Grouping grouping, dgrt_dtype dtype_ab) {
  Cases cases;
  for (const uint32_t groups : {1, 4, 32, 129})
    cases.push_back(grouped_case(grouping, dtype_ab, groups, 640, 512, {1, 63, 129, 300}));
  if (grouping == Grouping::contiguous) {
    // Rows behind the last group, and too few for its padding.
    for (const int64_t tail : {-1, 384, 1000}) {
      cases.push_back(grouped_case(grouping, dtype_ab, 5, 640, 512, {0, 17, 200}));
      cases.back().tail = tail;
    }
  }
  if (grouping == Grouping::masked) {
    // m is no multiple of any tile; the hint is right and wrong by ten.
    for (const double hint : {1.0, 10.0, 0.1}) {
      cases.push_back(grouped_case(grouping, dtype_ab, 13, 640, 512, {100, 200, 1000}));
      cases.back().hint = hint;
    }
  }
  return both_layouts(cases);
}

std::vector<GemmCase> odd_cases(Grouping grouping, dgrt_dtype dtype_ab) {
  const bool fp8 = dtype_ab == DGRT_E4M3;
  Cases cases;
  const auto add = [&](int64_t n, int64_t k) -> GemmCase& {
    cases.push_back(grouped_case(grouping, dtype_ab, 5, n, k, {1, 17, 130}));
    if (grouping == Grouping::contiguous && cases.size() % 2 == 0) {
      cases.back().group_layout = DGRT_GROUP_END_ROW;
      cases.back().alignment = 64;
    }
    return cases.back();
  };
  for (const int64_t n : {1, 72, 1000, 2111}) add(n, 576).pad = 40;
  for (const int64_t k : {0, 1, 16, 100, 129, 1000}) add(264, k).pad = 24;
  add(1000, 576).dtype_d = DGRT_FP32;
  add(72, 129).dtype_d = DGRT_FP32;
  if (fp8) {
    add(1000, 576).dtype_d = DGRT_FP16;
    add(1000, 576).b_scale_major = DGRT_MN_MAJOR;
  } else {
    GemmCase& fp16 = add(1000, 576);
    fp16.dtype_ab = fp16.dtype_d = DGRT_FP16;
    add(1000, 576).b_major = DGRT_MN_MAJOR;
    add(72, 100).b_major = DGRT_MN_MAJOR;
  }
  GemmCase& unaligned = add(333, 576);
  unaligned.flags = DGRT_GEMM_UNALIGNED_D;
  unaligned.pad = 3;
  GemmCase& small_tiles = add(1000, 576);
  small_tiles.max_block_m = 64, small_tiles.max_block_n = 128;
  add(1000, 576).flags = DGRT_FLAG_PDL;
  if (grouping != Grouping::batched && grouping != Grouping::batch_sum) return cases;
  for (const CMode c : {CMode::separate, CMode::in_place})
    for (const dgrt_dtype dtype_d : {DGRT_BF16, DGRT_FP32}) {
      GemmCase& with_c = add(1000, 576);
      with_c.c = c, with_c.dtype_d = dtype_d, with_c.interleaved = true;
    }
  if (!fp8) {
    add(1000, 576).a_major = DGRT_MN_MAJOR;
    GemmCase& both = add(264, 100);
    both.a_major = both.b_major = DGRT_MN_MAJOR;
  }
  return cases;
}

std::vector<GemmCase> small_cases(Grouping grouping, dgrt_dtype dtype_ab) {
  Cases cases(2, grouped_case(grouping, dtype_ab, 3, 72, 136, {1, 72}));
  cases[1].n = 129, cases[1].pad = 40, cases[1].dtype_d = DGRT_FP32;
  return cases;
}

std::vector<GemmCase> budget_cases(Grouping grouping, dgrt_dtype dtype_ab) {
  Cases cases;
  for (const uint32_t budget : {1, 7, 131}) {
    cases.push_back(grouped_case(grouping, dtype_ab, 5, 1000, 512, {1, 64, 300}));
    cases.back().sm_budget = budget;
  }
  return cases;
}

std::vector<GemmCase> value_cases(Grouping grouping, dgrt_dtype dtype_ab) {
  Cases cases(2, grouped_case(grouping, dtype_ab, 4, 200, 512, {6, 64, 300}));
  cases[0].values = Values::extremes;
  cases[1].values = Values::denormals;
  if (dtype_ab != DGRT_E4M3) {  // types by turns
    cases[0].dtype_ab = cases[0].dtype_d = DGRT_FP16;
    cases.push_back(cases[0]);
    cases[2].dtype_ab = cases[2].dtype_d = DGRT_BF16;
  }
  return cases;
}

void test_grouped_launches(Gpu& gpu, Grouping grouping, dgrt_dtype dtype_ab) {
  for (const GemmCase& test :
       both_layouts({grouped_case(grouping, dtype_ab, 9, 1000, 576, {300})})) {
    test_graph_replay(gpu, test);
    test_threads(gpu, test);
  }
  // One group each, whose rows are the call's.
  GemmCase test = grouped_case(grouping, dtype_ab, 1, 1000, 1024, {2, 17, 128, 1000});
  if (dtype_ab == DGRT_E4M3) test.b_scale_major = DGRT_MN_MAJOR;
  test_batch_invariance(gpu, test);
}

}  // namespace dgrt::test
