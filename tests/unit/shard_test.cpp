// Shards: every kernel is in exactly one, on every machine, and they are about as large.
#include <span>

#include "runtime/base/hash.h"
#include "runtime/engine/prepare.h"
#include "tests/support/catch.h"
#include "tools/prewarm_input.h"

namespace dgrt {
namespace {

TEST_CASE("shards: every key is in exactly one of them", "[unit]") {
  for (const uint32_t count : {1u, 3u, 8u}) {
    std::vector<int> sizes(count, 0);
    for (uint32_t n = 0; n < 2000; ++n) {
      const Key key{blake2b_256(std::as_bytes(std::span(&n, 1)))};
      int num_holders = 0;
      for (uint32_t i = 0; i < count; ++i)
        if (Shard{i, count}.holds(key)) ++num_holders, ++sizes[i];
      REQUIRE(num_holders == 1);
    }
    for (const int size : sizes) CHECK(size > 2000 / static_cast<int>(count) * 3 / 4);
  }
  // What one release gave to a shard stays there.
  Key key;
  key.bytes[7] = 10;
  CHECK(Shard{2, 4}.holds(key));
}

TEST_CASE("shards: i/n is read, everything else refused", "[unit]") {
  const Result<Shard> shard = parse_shard("2/8");
  REQUIRE(shard.is_ok());
  CHECK(shard.value().index == 2);
  CHECK(shard.value().count == 8);
  for (const char* bad : {"", "2", "8/8", "-1/8", "1/0", "0/0", "1/8x", "x1/8", "1//8", "1 /8"}) {
    INFO(bad);
    CHECK_FALSE(parse_shard(bad).is_ok());
  }
}

}  // namespace
}  // namespace dgrt
