// Entries that were damaged, swapped or planted, as a running process meets them: never used, never
// in the way of a good one.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/cache_fixture.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using Fixture = test::CacheFixture;
using test::sample_compiler;
using test::sample_entry;
using test::sample_key;

// A small entry of few bytes, so that all of them can be tried.
Entry tiny_entry() { return sample_entry(1, sample_compiler(), 8); }

TEST_CASE_METHOD(Fixture, "an entry cut at any length, or with any bit flipped, is moved aside",
                 "[unit]") {
  const Entry entry = tiny_entry();
  const std::vector<std::byte> good = serialize(entry);
  const auto check_miss = [&](const std::vector<std::byte>& bytes) {
    publish(entry);
    write(path(entry), bytes);
    const Found found = cache->find(entry.key, &entry.compiler);
    return !found.entry && found.num_quarantined == 1 && !stdfs::exists(path(entry));
  };
  for (size_t size = 0; size < good.size(); ++size)
    if (!check_miss({good.begin(), good.begin() + static_cast<ptrdiff_t>(size)}))
      FAIL("cut to " << size << " bytes");
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::vector<std::byte> bytes = good;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    if (!check_miss(bytes)) FAIL("bit " << bit);
  }
  publish(entry);
  CHECK(cache->find(entry.key, nullptr).entry == entry);
}

TEST_CASE_METHOD(Fixture, "a damaged entry goes even if it cannot be moved aside", "[unit]") {
  const Entry entry = tiny_entry();
  publish(entry);
  write(path(entry), {std::byte{1}});
  stdfs::create_directory(dir + "/quarantine");
  REQUIRE(::chmod((dir + "/quarantine").c_str(), 0777) == 0);  // others' files may lie there
  CHECK(cache->find(entry.key, &entry.compiler).num_quarantined == 1);
  CHECK_FALSE(stdfs::exists(path(entry)));
  CHECK(num_quarantined() == 0);
}

TEST_CASE_METHOD(Fixture, "entries under each other's names are both refused", "[unit]") {
  const Entry a = sample_entry(1), b = sample_entry(2);
  publish(a);
  publish(b);
  stdfs::rename(path(a), temp.path() + "/a");
  stdfs::rename(path(b), path(a));
  stdfs::rename(temp.path() + "/a", path(b));
  check_refused(a, "holds the entry " + b.key.hex());
  check_refused(b, "holds the entry " + a.key.hex());
}

TEST_CASE_METHOD(Fixture, "a link in the place of a shard is not followed", "[unit]") {
  const Entry entry = sample_entry(1);
  publish(entry);
  const std::string shard = stdfs::path(path(entry)).parent_path(),
                    elsewhere = temp.path() + "/elsewhere";
  stdfs::rename(shard, elsewhere);
  stdfs::create_directory_symlink(elsewhere, shard);
  const Found found = cache->find(entry.key, nullptr);
  CHECK_FALSE(found.entry.has_value());
  CHECK(found.problems.size() == 1);
  CHECK(cache->trim({.max_bytes = 0}).value().evicted == 0);
  publish(entry);  // puts a directory in the link's place
  CHECK(cache->find(entry.key, nullptr).entry == entry);
  CHECK(std::distance(stdfs::directory_iterator(elsewhere), {}) == 1);  // untouched
}

TEST_CASE_METHOD(Fixture, "a link in the place of a lock file is replaced, its target left alone",
                 "[unit]") {
  REQUIRE(cache->lock(sample_key(1)).is_ok());
  const std::string outside = temp.path() + "/outside";
  const std::string lock = dir + "/locks/" + sample_key(1).hex() + ".lock";
  for (const bool is_dangling : {false, true}) {
    if (!is_dangling) write(outside, {std::byte{7}});
    if (is_dangling) stdfs::remove(outside);
    stdfs::remove(lock);
    stdfs::create_symlink(outside, lock);
    CHECK(cache->lock(sample_key(1)).is_ok());
    CHECK(stdfs::is_regular_file(stdfs::symlink_status(lock)));
    CHECK(stdfs::exists(outside) != is_dangling);
  }
}

TEST_CASE_METHOD(Fixture, "lock files that others own or may write are not locked", "[unit]") {
  REQUIRE(cache->lock(sample_key(1)).is_ok());
  const std::string lock = dir + "/locks/" + sample_key(1).hex() + ".lock";
  REQUIRE(::chmod(lock.c_str(), 0666) == 0);
  CHECK(cache->lock(sample_key(1)).status().message().find("mode=0666") != std::string::npos);
  REQUIRE(::chmod(lock.c_str(), 0600) == 0);
  CHECK(cache->lock(sample_key(1)).is_ok());
  REQUIRE(::chmod((dir + "/locks").c_str(), 0777) == 0);
  CHECK(cache->lock(sample_key(1)).status().code() == DGRT_IO_ERROR);
  CHECK(cache->publish(sample_entry(1)).is_ok());  // what needs no lock works
  REQUIRE(::chmod((dir + "/locks").c_str(), 0700) == 0);
  if (geteuid() != 0) {
    WARN("skipped in part: only root can give a file to another user");
    return;
  }
  REQUIRE(::chown(lock.c_str(), 12345, 12345) == 0);
  CHECK(cache->lock(sample_key(1)).status().message().find("owner=12345") != std::string::npos);
}

}  // namespace
}  // namespace dgrt
