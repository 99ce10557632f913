// The CPU references of the helper ops around sparse MLA, against results worked out by hand.
#include <cmath>
#include <limits>

#include "tests/support/catch.h"
#include "tools/lib/lab_topk_check.h"

namespace dgrt::lab {

TEST_CASE("lab_topk_check: order, ties, NaN and padding", "[unit]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> scores = {1, nan, 2, 1, -inf, 1, -0.0f, 0};
  CHECK(top_positions(scores, 1) == std::vector<int32_t>{2});
  CHECK(top_positions(scores, 3) == std::vector<int32_t>{0, 2, 3});
  CHECK(top_positions(scores, 5) == std::vector<int32_t>{0, 2, 3, 5, 6});
  CHECK(top_positions(scores, 7) == std::vector<int32_t>{0, 2, 3, 4, 5, 6, 7});
  CHECK(top_positions(std::span(scores).first(2), 4) == std::vector<int32_t>{0, 1, -1, -1});
  const std::vector<int32_t> table = {7, -1, 1 << 30};
  CHECK(slots_of(std::vector<int32_t>{0, 4, 9, 12, 16, -1}, table, 5) ==
        std::vector<int32_t>{35, 39, -1, -1, -1, -1});
  CHECK(check_row("x", 0, table, table).is_ok());
  CHECK_FALSE(check_row("x", 0, table, std::vector<int32_t>{7, -1}).is_ok());
  CHECK_FALSE(check_row("x", 0, table, std::vector<int32_t>{7, 0, 1 << 30}).is_ok());
}

}  // namespace dgrt::lab
