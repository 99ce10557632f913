// The bundle format: golden files, lookups, and proof that damage is detected or does no harm.
#include "cache/bundle.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "runtime/base/hash.h"
#include "tests/support/bundle_samples.h"
#include "tests/support/fault_fs.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

using test::bundle_bytes;
using test::bundle_entries;
using test::read_bytes;
using test::sample_compiler;
using test::sample_entry;
using test::sample_key;
using test::write_bytes;

const std::string golden_dir = std::string(DGRT_SOURCE_DIR) + "/tests/golden/";

struct BundleFixture {
  test::TempDir temp{test::memory_dir()};
  std::string path = temp.path() + "/test.dgb";

  std::unique_ptr<Bundle> open() {
    Result<std::unique_ptr<Bundle>> bundle = Bundle::open(path);
    INFO(bundle.status().message());
    REQUIRE(bundle.is_ok());
    return std::move(bundle).value();
  }
  void check_refused(const std::string& why, dgrt_status code = DGRT_IO_ERROR) {
    const Result<std::unique_ptr<Bundle>> bundle = Bundle::open(path);
    REQUIRE_FALSE(bundle.is_ok());
    INFO(bundle.status().message());
    CHECK(bundle.status().code() == code);
    CHECK(bundle.status().message().find(path) != std::string::npos);
    CHECK(bundle.status().message().find(why) != std::string::npos);
  }
};

// True if whatever can be got from the file at `path` is what went in.
bool is_harmless(const std::string& path, const std::vector<Entry>& entries, bool* is_verified) {
  *is_verified = false;
  const Result<std::unique_ptr<Bundle>> bundle = Bundle::open(path);
  if (!bundle.is_ok()) return true;
  *is_verified = bundle.value()->verify().is_ok();
  for (const Entry& entry : entries) {
    const auto i = bundle.value()->find(entry.key, {&entry.compiler, true});
    if (!i) continue;
    const Result<Entry> found = bundle.value()->read(*i);
    if (found.is_ok() && !(found.value() == entry)) return false;
  }
  return true;
}

TEST_CASE_METHOD(BundleFixture, "a bundle returns what went in", "[unit]") {
  REQUIRE(write_bundle(path, bundle_bytes(bundle_entries())).is_ok());
  const auto bundle = open();
  CHECK(bundle->verify().is_ok());
  REQUIRE(bundle->num_entries() == 3);
  CHECK(bundle->item(0).key < bundle->item(2).key);
  for (const Entry& entry : bundle_entries()) {
    const auto i = bundle->find(entry.key, {&entry.compiler, true});
    REQUIRE(i.has_value());
    CHECK(bundle->item(*i).offset % 64 == 0);
    const Result<Entry> found = bundle->read(*i);
    REQUIRE(found.is_ok());
    CHECK(found.value() == entry);
  }
  CHECK_FALSE(bundle->find(sample_key(3), {}).has_value());
  CHECK_FALSE(bundle->find(sample_key(0), {}).has_value());
  CHECK_FALSE(bundle->find(sample_key(255), {}).has_value());
}

TEST_CASE_METHOD(BundleFixture, "the compiler wanted comes first, then the newest", "[unit]") {
  write_bytes(path, bundle_bytes(bundle_entries()));
  const auto bundle = open();
  const CompilerId old = sample_compiler(12, 9), now = sample_compiler(), other = {11, 0, {}};
  const auto found = [&](const Bundle::Want& want) {
    const auto i = bundle->find(sample_key(1), want);
    return i ? std::optional<CompilerId>(bundle->item(*i).compiler) : std::nullopt;
  };
  CHECK(found({}) == now);
  CHECK(found({&old, false}) == old);
  CHECK(found({&other, false}) == now);
  CHECK(found({&old, true}) == old);
  CHECK_FALSE(found({&other, true}).has_value());
}

TEST_CASE_METHOD(BundleFixture, "equal entries in any order give equal bytes", "[unit]") {
  std::vector<Entry> entries = bundle_entries();
  const std::vector<std::byte> bytes = bundle_bytes(entries);
  std::reverse(entries.begin(), entries.end());
  CHECK(bundle_bytes(entries) == bytes);
  entries.push_back(entries.front());  // twice counts once
  CHECK(bundle_bytes(entries) == bytes);
  entries.back().cubin.back() ^= std::byte{1};
  std::vector<std::vector<std::byte>> files;
  for (const Entry& entry : entries) files.push_back(serialize(entry));
  CHECK(make_bundle({files.begin(), files.end()}).status().code() == DGRT_INVALID_ARGUMENT);
  files.back().back() ^= std::byte{1};  // no longer a good entry
  CHECK_FALSE(make_bundle({files.begin(), files.end()}).is_ok());
}

TEST_CASE_METHOD(BundleFixture, "a bundle may be empty", "[unit]") {
  write_bytes(path, bundle_bytes({}));
  const auto bundle = open();
  CHECK(bundle->num_entries() == 0);
  CHECK(bundle->verify().is_ok());
  CHECK_FALSE(bundle->find(sample_key(1), {}).has_value());
}

TEST_CASE("golden bundles are read and written byte for byte, or refused", "[unit]") {
  CHECK(bundle_bytes(bundle_entries()) == read_bytes(golden_dir + "good.dgb"));
  const auto message = [](const std::string& name) {
    test::TempDir temp;  // the checkout's owner and modes are not the test's
    const std::string path = temp.path() + "/" + name;
    write_bytes(path, read_bytes(golden_dir + name));
    REQUIRE(std::filesystem::file_size(path) > 0);
    const Result<std::unique_ptr<Bundle>> bundle = Bundle::open(path);
    return bundle.is_ok() ? bundle.value()->verify().message() : bundle.status().message();
  };
  CHECK(message("good.dgb").empty());
  CHECK(message("truncated.dgb").find("file size=") != std::string::npos);
  CHECK(message("bit_flipped.dgb").find("digest: does not match") != std::string::npos);
}

TEST_CASE_METHOD(BundleFixture, "every single bit flip of a bundle is detected", "[unit]") {
  const std::vector<Entry> entries = bundle_entries();
  std::vector<std::byte> bytes = bundle_bytes(entries);
  const size_t index_end = 64 + 80 * entries.size();  // docs/cache_format.md
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    write_bytes(path, bytes);
    bool is_verified = false;
    if (!is_harmless(path, entries, &is_verified)) FAIL("bit " << bit << " gives a wrong entry");
    if (is_verified) FAIL("bit " << bit << " is not seen by verify");
    if (bit < 8 * index_end && Bundle::open(path).is_ok()) FAIL("bit " << bit << " is opened");
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  write_bytes(path, bytes);
  CHECK(open()->verify().is_ok());
}

TEST_CASE_METHOD(BundleFixture, "every truncation and every extension is refused", "[unit]") {
  std::vector<std::byte> bytes = bundle_bytes(bundle_entries());
  bytes.push_back({});
  for (size_t size = 0; size <= bytes.size(); ++size) {
    if (size == bytes.size() - 1) continue;  // the good one
    write_bytes(path, {bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)});
    if (Bundle::open(path).is_ok()) FAIL("size " << size);
  }
}

TEST_CASE_METHOD(BundleFixture, "random bytes never crash a reader", "[unit]") {
  std::mt19937 random(7);
  const std::vector<Entry> entries = bundle_entries();
  const std::vector<std::byte> good = bundle_bytes(entries);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> bytes = good;
    if (round % 3 == 0) {  // noise, half of it behind a good magic and version
      bytes.resize(random() % 600);
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
      if (round % 2 == 0 && bytes.size() >= 16) std::copy_n(good.begin(), 16, bytes.begin());
    } else {  // damage with a checksum that was made to fit: the index itself must be judged
      for (size_t i = 0, n = 1 + random() % 4; i < n; ++i) {
        const size_t at = round % 3 == 1 ? 64 + random() % 240 : random() % bytes.size();
        bytes[at] = static_cast<std::byte>(random() % 2 ? random() : 255);
      }
      const std::span<const std::byte> file = bytes;
      const Checksum checksum = xxh3_128({file.first(48), file.subspan(64, 240)});
      std::memcpy(bytes.data() + 48, checksum.data(), checksum.size());
    }
    write_bytes(path, bytes);
    bool is_verified = false;
    if (!is_harmless(path, entries, &is_verified)) FAIL("round " << round);
    if (is_verified && bytes != good) FAIL("round " << round << " verified");
  }
}

TEST_CASE_METHOD(BundleFixture, "sizes that wrap around are refused", "[unit]") {
  std::vector<std::byte> bytes = bundle_bytes({sample_entry(1), sample_entry(2)});
  const auto put = [&](size_t at, uint64_t value) {
    std::memcpy(bytes.data() + at, &value, sizeof(value));
  };
  // The first entry ends at 0, by way of 2^64; the second is all of the file. Offsets lie at 64 and
  // sizes at 72 of a record, and the checksum is made to fit.
  put(64 + 72, -uint64_t{256});
  put(64 + 80 + 64, 0);
  put(64 + 80 + 72, bytes.size() - 32);
  const std::span<const std::byte> file = bytes;
  const Checksum checksum = xxh3_128({file.first(48), file.subspan(64, 2 * 80)});
  std::memcpy(bytes.data() + 48, checksum.data(), checksum.size());
  write_bytes(path, bytes);
  check_refused("entry 0: size=18446744073709551360");
}

TEST_CASE_METHOD(BundleFixture, "an entry under the name of another is not returned", "[unit]") {
  // Swaps the two keys' entries of equal size, with every checksum made to fit.
  std::vector<std::byte> bytes = bundle_bytes({sample_entry(1), sample_entry(2)});
  const size_t first = 256, second = 640;  // 64 + 2 * 80 rounded up; 342 bytes later, rounded up
  std::swap_ranges(bytes.begin() + first, bytes.begin() + first + 342, bytes.begin() + second);
  write_bytes(path, bytes);
  const auto bundle = open();
  const Result<Entry> entry = bundle->read(0);
  REQUIRE_FALSE(entry.is_ok());
  CHECK(entry.status().message().find("holds " + sample_key(2).hex()) != std::string::npos);
}

TEST_CASE_METHOD(BundleFixture, "a pinned digest is checked when a bundle is opened", "[unit]") {
  std::vector<std::byte> bytes = bundle_bytes(bundle_entries());
  write_bytes(path, bytes);
  const Digest digest = open()->digest();
  CHECK(digest == blake2b_256(std::span<const std::byte>(bytes).first(bytes.size() - 32)));
  CHECK(digest_from_hex(to_hex(digest)) == digest);
  CHECK_FALSE(digest_from_hex("12").has_value());
  CHECK(Bundle::open(path, &digest).is_ok());
  Digest wrong = digest;
  wrong[31] ^= 1;
  const Status status = Bundle::open(path, &wrong).status();
  CHECK(status.code() == DGRT_INVALID_ARGUMENT);
  CHECK(status.message().find(path + ": digest=" + to_hex(digest)) != std::string::npos);
  bytes[700] ^= std::byte{1};  // the right digest over other bytes
  write_bytes(path, bytes);
  CHECK(Bundle::open(path).is_ok());
  CHECK(Bundle::open(path, &digest).status().code() == DGRT_IO_ERROR);
}

TEST_CASE_METHOD(BundleFixture, "files that others may have made are refused", "[unit]") {
  check_refused("ENOENT");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  check_refused("not a regular file");
  std::filesystem::remove(path);
  const std::string target = temp.path() + "/target";
  write_bytes(target, bundle_bytes(bundle_entries()));
  std::filesystem::create_symlink(target, path);
  check_refused("ELOOP");
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  check_refused("not a regular file");
  std::filesystem::remove(path);
  std::filesystem::rename(target, path);
  REQUIRE(::chmod(path.c_str(), 0664) == 0);
  check_refused("mode=0664");
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  open();
  if (::geteuid() != 0) return;  // only root can give files away
  REQUIRE(::chown(path.c_str(), 12345, static_cast<gid_t>(-1)) == 0);
  check_refused("owner=12345");
}

TEST_CASE_METHOD(BundleFixture, "a bundle is durable before it has its name", "[unit]") {
  test::FaultFs fs;
  std::string calls;
  fs.before = [&](std::string_view call, int) {
    if (call == "write" || call == "sync" || call == "rename") calls.append(call).append(" ");
    return 0;
  };
  CHECK(write_bundle(path, bundle_bytes({}), fs).is_ok());
  CHECK(calls == "write sync rename sync ");
}

TEST_CASE_METHOD(BundleFixture, "a bundle that cannot be written leaves nothing behind", "[unit]") {
  const std::vector<std::byte> bytes = bundle_bytes({});
  const Status status = write_bundle(temp.path() + "/absent/x.dgb", bytes);
  CHECK(status.code() == DGRT_IO_ERROR);
  CHECK(status.message().find("absent/x.dgb") != std::string::npos);
  std::filesystem::create_directory(path);
  CHECK_FALSE(write_bundle(path, bytes).is_ok());
  CHECK(std::distance(std::filesystem::directory_iterator(temp.path()), {}) == 1);
}

}  // namespace
}  // namespace dgrt
