#include "tools/lib/lab_topk_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dgrt::lab {

std::vector<int32_t> top_positions(std::span<const float> scores, int64_t top_k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto is_before = [&](int32_t x, int32_t y) {
    const bool nan_x = std::isnan(scores[x]), nan_y = std::isnan(scores[y]);
    if (nan_x != nan_y) return nan_y;
    if (!nan_x && scores[x] != scores[y]) return scores[x] > scores[y];
    return x < y;
  };
  const auto taken = static_cast<size_t>(std::min<int64_t>(top_k, order.size()));
  if (taken < order.size())
    std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(taken), order.end(), is_before);
  order.resize(taken);
  std::sort(order.begin(), order.end());
  order.resize(static_cast<size_t>(top_k), -1);
  return order;
}

std::vector<int32_t> slots_of(std::span<const int32_t> positions, std::span<const int32_t> page_table,
                              int64_t page_size) {
  std::vector<int32_t> slots;
  for (const int64_t position : positions) {
    const int64_t page = position / page_size;
    int64_t slot = -1;
    if (position >= 0 && page < static_cast<int64_t>(page_table.size()) && page_table[page] >= 0)
      slot = page_table[page] * page_size + position % page_size;
    slots.push_back(slot > INT32_MAX ? -1 : static_cast<int32_t>(slot));
  }
  return slots;
}

Status check_row(const char* what, int64_t row, std::span<const int32_t> got,
                 std::span<const int32_t> want) {
  const auto [wrong, right] = std::mismatch(got.begin(), got.end(), want.begin(), want.end());
  if (wrong == got.end() && right == want.end()) return ok();
  if (wrong == got.end() || right == want.end())
    return error(DGRT_INTERNAL, "{}[{}] has {} elements, must have {}", what, row, got.size(), want.size());
  return error(DGRT_INTERNAL, "{}[{}, {}] is {}, must be {}", what, row, wrong - got.begin(), *wrong,
               *right);
}

}  // namespace dgrt::lab
