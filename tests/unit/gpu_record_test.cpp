#include "tests/support/gpu_record.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace dgrt::test {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string hash_of(const fs::path& root) {
  const Result<std::string> hash = kernel_tree_hash(root.string());
  INFO(hash.status().message());
  REQUIRE(hash.is_ok());
  return hash.value();
}

}  // namespace

TEST_CASE("gpu record: the hash covers kernels, ops and tables, and nothing else", "[unit]") {
  const TempDir dir;
  const fs::path root = dir.path();
  write(root / "kernels/gemm/a.cuh", "a");
  write(root / "runtime/ops/a.cpp", "b");
  write(root / "heuristics/tables/a.json", "c");
  const std::string before = hash_of(root);
  CHECK(before.size() == 64);

  write(root / "runtime/base/a.cpp", "other");
  CHECK(hash_of(root) == before);
  for (const char* path : {"kernels/gemm/a.cuh", "runtime/ops/a.cpp", "heuristics/tables/a.json"}) {
    const fs::path file = root / path;
    write(file, "changed");
    CHECK(hash_of(root) != before);
    write(file, path[0] == 'k' ? "a" : path[0] == 'r' ? "b" : "c");
    CHECK(hash_of(root) == before);
  }
  fs::rename(root / "kernels/gemm/a.cuh", root / "kernels/gemm/b.cuh");
  CHECK(hash_of(root) != before);
}

TEST_CASE("gpu record: a tree without kernels has no hash", "[unit]") {
  const TempDir dir;
  const Result<std::string> hash = kernel_tree_hash(dir.path());
  REQUIRE_FALSE(hash.is_ok());
  CHECK(hash.status().code() == DGRT_IO_ERROR);
}

// Without a GPU nothing here can be proven; what can be said is whether somebody's GPU run was of
// these sources.
TEST_CASE("gpu record: is it of this tree", "[unit]") {
  const std::string root = source_root();
  const std::string hash = hash_of(root);
  std::ifstream file(root + "/tests/gpu/record.json", std::ios::binary);
  if (!file) {
    WARN("NOT TESTED ON A GPU: there is no tests/gpu/record.json");
    return;
  }
  const nlohmann::json record = nlohmann::json::parse(file, nullptr, false);
  REQUIRE(record.is_object());
  CHECK(record.at("failed") == 0);
  CHECK(record.at("passed") > 0);
  if (record.at("hash") != hash)
    WARN(
        "NOT TESTED ON A GPU IN THIS STATE: kernels/, runtime/ops/ or heuristics/tables/ changed "
        "since "
        "tests/gpu/record.json was written on "
        << record.at("device") << ", " << record.at("date"));
}

}  // namespace dgrt::test
