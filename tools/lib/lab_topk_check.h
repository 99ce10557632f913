// Did topk_transform take the positions and slots that dgrt/mla.h says? On the CPU, from a copy of a row.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "dgrt/mla.h"
#include "runtime/base/status.h"

namespace dgrt::lab {

// The top_k positions of the largest of `scores` (those below the row's length), ascending, padded with -1.
std::vector<int32_t> top_positions(std::span<const float> scores, int64_t top_k);

// What a page table makes of them.
std::vector<int32_t> slots_of(std::span<const int32_t> positions, std::span<const int32_t> page_table,
                              int64_t page_size);

// INTERNAL names the first place that differs. `what`: "positions"
Status check_row(const char* what, int64_t row, std::span<const int32_t> got,
                 std::span<const int32_t> want);

}  // namespace dgrt::lab
