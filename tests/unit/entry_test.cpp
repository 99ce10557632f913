// The entry format: golden files, and proof that no damaged byte or length gets through.
#include "cache/entry.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "runtime/base/hash.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

std::vector<std::byte> read_golden(const std::string& name) {
  std::ifstream file(std::string(DGRT_SOURCE_DIR) + "/tests/golden/" + name, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void put_u64(std::vector<std::byte>& file, size_t offset, uint64_t value) {
  for (size_t i = 0; i < 8; ++i) file[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

TEST_CASE("the good golden entry is read and written byte for byte", "[unit]") {
  const std::vector<std::byte> golden = read_golden("good.dge");
  REQUIRE(golden.size() == 192 + 150);
  CHECK(serialize(test::sample_entry(1)) == golden);
  const Result<Entry> entry = parse_entry(golden);
  REQUIRE(entry.is_ok());
  CHECK(entry.value() == test::sample_entry(1));
}

TEST_CASE("the bad golden entries are refused for the right reason", "[unit]") {
  const auto message = [](const std::string& name) {
    const std::vector<std::byte> file = read_golden(name);
    REQUIRE_FALSE(file.empty());
    const Result<Entry> entry = parse_entry(file);
    REQUIRE_FALSE(entry.is_ok());
    CHECK(entry.status().code() == DGRT_IO_ERROR);
    return entry.status().message();
  };
  CHECK(contains(message("truncated.dge"), "cubin size=150"));
  CHECK(contains(message("bit_flipped.dge"), "checksum"));
  CHECK(contains(message("wrong_version.dge"), "version=2: must be 1"));
}

TEST_CASE("any single bit flip is detected", "[unit]") {
  std::vector<std::byte> file = serialize(test::sample_entry(2));
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    file[bit / 8] ^= std::byte{1} << (bit % 8);
    if (parse_entry(file).is_ok()) FAIL("bit " << bit);
    file[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  CHECK(parse_entry(file).is_ok());
}

TEST_CASE("any truncation and any added byte is detected", "[unit]") {
  const std::vector<std::byte> file = serialize(test::sample_entry(3));
  for (size_t size = 0; size < file.size(); ++size) {
    // A copy of its own, so that the address sanitizer sees a read beyond the end.
    const std::vector<std::byte> cut(file.begin(), file.begin() + size);
    if (parse_entry(cut).is_ok()) FAIL("size " << size);
  }
  std::vector<std::byte> longer = file;
  longer.push_back(std::byte{0});
  CHECK_FALSE(parse_entry(longer).is_ok());
}

TEST_CASE("lengths that overflow or contradict the file are refused", "[unit]") {
  const std::vector<std::byte> good = serialize(test::sample_entry(4));
  constexpr size_t metadata_size_at = 80, cubin_offset_at = 88, cubin_size_at = 96;
  const uint64_t lengths[] = {0,
                              1,
                              63,
                              64,
                              good.size(),
                              good.size() + 1,
                              uint64_t{1} << 32,
                              uint64_t{1} << 63,
                              ~uint64_t{0},
                              ~uint64_t{0} - 127,
                              ~uint64_t{0} - 63};
  for (uint64_t metadata_size : lengths) {
    for (uint64_t cubin_offset : lengths) {
      for (uint64_t cubin_size : lengths) {
        std::vector<std::byte> file = good;
        put_u64(file, metadata_size_at, metadata_size);
        put_u64(file, cubin_offset_at, cubin_offset);
        put_u64(file, cubin_size_at, cubin_size);
        if (parse_entry(file).is_ok())
          FAIL(metadata_size << " " << cubin_offset << " " << cubin_size);
      }
    }
  }
}

TEST_CASE("reserved fields and padding must be zero even if the checksum is right", "[unit]") {
  std::vector<std::byte> file = serialize(test::sample_entry(6));
  const size_t metadata_end = 128 + test::sample_entry(6).metadata.size();
  const auto seal = [&] {
    const std::span<const std::byte> bytes = file;
    const Checksum checksum = xxh3_128({bytes.first(112), bytes.subspan(128)});
    std::memcpy(file.data() + 112, checksum.data(), checksum.size());
  };
  for (size_t offset :
       {size_t{76}, size_t{79}, size_t{104}, size_t{111}, metadata_end, size_t{191}}) {
    file[offset] = std::byte{1};
    seal();
    CHECK(contains(parse_entry(file).status().message(), "padding"));
    file[offset] = std::byte{0};
    seal();
    CHECK(parse_entry(file).is_ok());
  }
}

TEST_CASE("the cubin lies aligned at the end for every metadata size", "[unit]") {
  for (size_t size = 0; size <= 130; ++size) {
    Entry entry = test::sample_entry(5);
    entry.metadata.assign(size, 'm');
    const std::vector<std::byte> file = serialize(entry);
    const size_t offset = file.size() - entry.cubin.size();
    CHECK(offset % 64 == 0);
    CHECK(std::memcmp(file.data() + offset, entry.cubin.data(), entry.cubin.size()) == 0);
    const Result<Entry> parsed = parse_entry(file);
    REQUIRE(parsed.is_ok());
    CHECK(parsed.value() == entry);
  }
}

}  // namespace
}  // namespace dgrt
