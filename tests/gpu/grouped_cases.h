// What the stems of the grouped and batched ops are tested with, alike for every element type; the
// tests of each stem add what is its own.
#pragma once
#include "tests/gpu/gemm_runner.h"

namespace dgrt::test {

// A case of an op, with d of bf16.
GemmCase grouped_case(Grouping grouping, dgrt_dtype dtype_ab, uint32_t num_groups, int64_t n,
                      int64_t k, std::vector<int64_t> m);

// Layers of MoE models; of batched, the absorbed projections of latent attention.
std::vector<GemmCase> layer_cases(Grouping grouping, dgrt_dtype dtype_ab);
// 1 to 129 groups, every layout and alignment that an op has.
std::vector<GemmCase> group_cases(Grouping grouping, dgrt_dtype dtype_ab);
// Odd n and k, k of 0, types of d, tensors that are not dense or not aligned, limits of tiles.
std::vector<GemmCase> odd_cases(Grouping grouping, dgrt_dtype dtype_ab);
// Little work, with tails of every dimension.
std::vector<GemmCase> small_cases(Grouping grouping, dgrt_dtype dtype_ab);
// Few SMs; NaN, infinities and denormals.
std::vector<GemmCase> budget_cases(Grouping grouping, dgrt_dtype dtype_ab);
std::vector<GemmCase> value_cases(Grouping grouping, dgrt_dtype dtype_ab);
// Graphs whose groups change between replays, threads, rows that must not depend on m.
void test_grouped_launches(Gpu& gpu, Grouping grouping, dgrt_dtype dtype_ab);

}  // namespace dgrt::test
