// Configurations of examples/models.
#pragma once
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/catch.h"

namespace dgrt::test {

inline nlohmann::json example_model(const std::string& name) {
  std::ifstream file(std::string(DGRT_SOURCE_DIR) + "/examples/models/" + name);
  REQUIRE(file);
  return nlohmann::json::parse(file);
}

}  // namespace dgrt::test
