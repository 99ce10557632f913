// The fuzzers' inputs, good ones and those that once broke something, through the fuzzers' targets:
// what was fixed stays fixed, without clang and within seconds.
#include <chrono>
#include <filesystem>

#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/bundle_samples.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

namespace fs = std::filesystem;

TEST_CASE("the fuzzing corpus passes every target", "[unit]") {
  const auto begin = std::chrono::steady_clock::now();
  for (const fuzz::Target& target : fuzz::targets()) {
    size_t num_files = 0;
    for (const auto& file :
         fs::directory_iterator(DGRT_SOURCE_DIR "/tests/fuzz/corpus/" + std::string(target.name))) {
      INFO(file.path().string());
      target.run(test::read_bytes(file.path().string()));
      ++num_files;
    }
    INFO(target.name);
    CHECK(num_files > 0);
  }
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

}  // namespace
}  // namespace dgrt
