// Both hashes against published or independent values: a change would orphan every cache.
#include "runtime/base/hash.h"

#include <sodium/crypto_generichash.h>

#include <string>

#include "runtime/base/kernel_id.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST_CASE("blake2b hashes type, length and content of each field", "[unit]") {
  const std::string encoded("s\3\0\0\0\0\0\0\0abcu\4\3\2\1\0\0\0\0s\0\0\0\0\0\0\0\0",
                            9 + 3 + 9 + 9);
  Key expected;
  crypto_generichash(expected.bytes.data(), 32,
                     reinterpret_cast<const unsigned char*>(encoded.data()), encoded.size(),
                     nullptr, 0);
  Blake2b hash;
  hash.add("abc").add(uint64_t{0x01020304}).add("");
  CHECK(Key{hash.digest()} == expected);
  CHECK(Key{hash.digest()} == expected);  // asking changes nothing
}

TEST_CASE("blake2b of nothing is the published value", "[unit]") {
  CHECK(Key{Blake2b().digest()}.hex() ==
        "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
}

TEST_CASE("sequences that join to the same text hash differently", "[unit]") {
  const auto hash = [](auto... fields) {
    Blake2b h;
    (h.add(fields), ...);
    return h.digest();
  };
  using namespace std::string_view_literals;
  CHECK(hash("ab"sv, "c"sv) != hash("a"sv, "bc"sv));
  CHECK(hash("abc"sv) != hash("ab"sv, "c"sv));
  CHECK(hash(""sv, "a"sv) != hash("a"sv, ""sv));
  CHECK(hash(uint64_t{0}) != hash(""sv));
  CHECK(hash(bytes_of("ab")) == hash("ab"sv));
}

TEST_CASE("xxh3 is canonical and does not depend on the parts", "[unit]") {
  const Checksum empty = xxh3_128(bytes_of(""));
  // XXH3-128 of no bytes, as `xxhsum -H2 /dev/null` prints it.
  CHECK(empty == Checksum{0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8, 0x60, 0x01, 0xc3, 0x24,
                          0x46, 0x8d, 0x49, 0x7f});
  const std::string text(1000, 'x');
  const Checksum whole = xxh3_128(bytes_of(text));
  for (size_t cut : {0, 1, 63, 64, 500, 1000})
    CHECK(xxh3_128({bytes_of(text).first(cut), bytes_of(text).subspan(cut)}) == whole);
}

}  // namespace
}  // namespace dgrt
