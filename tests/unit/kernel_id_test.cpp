// Text forms of keys and compiler ids, which are file names in caches that already exist.
#include "runtime/base/kernel_id.h"

#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

TEST_CASE("a key survives its text form", "[unit]") {
  Key key;
  for (size_t i = 0; i < key.bytes.size(); ++i) key.bytes[i] = static_cast<uint8_t>(i * 8 + 5);
  const std::string text = key.hex();
  CHECK(text == "050d151d252d353d454d555d656d757d858d959da5adb5bdc5cdd5dde5edf5fd");
  REQUIRE(Key::from_hex(text).has_value());
  CHECK(*Key::from_hex(text) == key);
}

TEST_CASE("a key is read from 64 lower-case digits only", "[unit]") {
  const std::string good(64, 'a');
  CHECK(Key::from_hex(good).has_value());
  CHECK_FALSE(Key::from_hex("").has_value());
  CHECK_FALSE(Key::from_hex(good.substr(1)).has_value());
  CHECK_FALSE(Key::from_hex(good + "a").has_value());
  for (const char bad : {'A', 'g', ' ', '/', ':', '`', '\0'}) {
    std::string text = good;
    text[63] = bad;
    CHECK_FALSE(Key::from_hex(text).has_value());
    text = good;
    text[0] = bad;
    CHECK_FALSE(Key::from_hex(text).has_value());
  }
}

TEST_CASE("a compiler's name holds its version and build", "[unit]") {
  CHECK(test::sample_compiler(13, 0, 0xa0).name() == "nvrtc-13.0-a0a1a2a3a4a5a6a7");
  CHECK(CompilerId{12, 8, {}}.name() == "nvrtc-12.8-0000000000000000");
}

TEST_CASE("compilers sort by version before build", "[unit]") {
  using test::sample_compiler;
  CHECK(sample_compiler(13, 0, 0) > sample_compiler(12, 9, 0xff));
  CHECK(sample_compiler(12, 10, 0) > sample_compiler(12, 9, 0xff));
  CHECK(sample_compiler(12, 9, 1) > sample_compiler(12, 9, 0));
}

}  // namespace
}  // namespace dgrt
