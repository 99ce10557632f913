// Tables of rules for tests, from text.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "heuristics/table.h"
#include "tests/support/catch.h"

namespace dgrt::test {

// rules: JSON objects, between commas. Fails the test unless all of them are taken.
inline Table parse_table(const std::string& op, const std::string& rules) {
  std::vector<std::string> warnings;
  Result<Table> table = Table::parse(
      op, R"({"op": ")" + op + R"(", "schema": 1, "rules": [)" + rules + "]}", "t.json", &warnings);
  REQUIRE(table.is_ok());
  REQUIRE(warnings.empty());
  return std::move(table).value();
}

}  // namespace dgrt::test
