// Masks of trees of draft tokens, for benchmarks: encoded as attn_decode and attn_extend take them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dgrt::lab {

// Of one sequence whose last `queries` keys are a binary tree's, breadth first: each sees the `prefix`, its
// ancestors and itself. A byte, or with is_bits a bit, for each element; the last byte is filled up.
std::vector<uint8_t> tree_mask(int64_t queries, int64_t prefix, bool is_bits);

}  // namespace dgrt::lab
