// The disk cache on a healthy file system: what it stores, what it refuses and moves aside. Failing
// calls: disk_cache_fault_test.cpp. Eviction: disk_upkeep_test.cpp. Several processes at once:
// tests/process/cache_process_test.cpp.
#include "cache/disk_cache.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/cache_fixture.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using Fixture = test::CacheFixture;
using test::open_cache;
using test::sample_compiler;
using test::sample_entry;
using test::sample_key;

TEST_CASE_METHOD(Fixture, "an entry is found after it was published, also by another cache",
                 "[unit]") {
  const Entry entry = sample_entry(1);
  CHECK_FALSE(cache->find(entry.key, &entry.compiler).entry.has_value());
  CHECK_FALSE(cache->find(entry.key, nullptr).entry.has_value());
  publish(entry);
  publish(entry);  // again: replaces its like
  CHECK(stdfs::exists(path(entry)));
  const auto other = open_cache(dir);
  for (const CompilerId* compiler : {&entry.compiler, static_cast<const CompilerId*>(nullptr)}) {
    const Found found = other->find(entry.key, compiler);
    CHECK(found.entry == entry);
    CHECK(found.problems.empty());
    CHECK(found.num_quarantined == 0);
  }
  CHECK(cache->publish(Entry{sample_key(2), sample_compiler(), "{}", {}}).code() ==
        DGRT_INVALID_ARGUMENT);
}

TEST_CASE_METHOD(Fixture, "everything is created for the user alone", "[unit]") {
  stdfs::remove_all(dir);
  const mode_t old_mask = ::umask(0);
  cache = open_cache(temp.path() + "/a/b/c/", fs);
  publish(sample_entry(1));
  REQUIRE(cache->lock(sample_key(1)).is_ok());
  ::umask(old_mask);
  for (const auto& item : stdfs::recursive_directory_iterator(temp.path())) {
    INFO(item.path());
    const unsigned mode = static_cast<unsigned>(item.status().permissions());
    CHECK(mode == (item.is_directory() ? 0700u : 0600u));
  }
}

TEST_CASE_METHOD(Fixture, "exact takes one compiler's entry, any the newest", "[unit]") {
  const CompilerId v12_9 = sample_compiler(12, 9), v12_10 = sample_compiler(12, 10),
                   v13 = sample_compiler(13, 0);
  for (const CompilerId& compiler : {v12_9, v13, v12_10}) publish(sample_entry(1, compiler));
  publish(sample_entry(2, sample_compiler(14, 0)));  // another key
  CHECK(cache->find(sample_key(1), &v12_9).entry == sample_entry(1, v12_9));
  const CompilerId v11 = sample_compiler(11, 0);
  CHECK_FALSE(cache->find(sample_key(1), &v11).entry.has_value());
  CHECK(cache->find(sample_key(1), nullptr).entry == sample_entry(1, v13));

  // The newest is damaged: the next one serves. 12.10 is newer than 12.9.
  write(path(sample_entry(1, v13)), {std::byte{1}});
  const Found found = cache->find(sample_key(1), nullptr);
  CHECK(found.entry == sample_entry(1, v12_10));
  CHECK(found.num_quarantined == 1);
}

TEST_CASE_METHOD(Fixture, "a build that shares a file name with another is a plain miss",
                 "[unit]") {
  CompilerId twin = sample_compiler();
  twin.build_id[19] ^= 1;  // beyond the 8 bytes in the file name
  publish(sample_entry(1));
  const Found found = cache->find(sample_key(1), &twin);
  CHECK_FALSE(found.entry.has_value());
  CHECK(found.num_quarantined == 0);
}

TEST_CASE_METHOD(Fixture, "damaged and misplaced entries are moved aside", "[unit]") {
  const Entry entry = sample_entry(1);
  std::vector<std::byte> bytes = serialize(entry);
  SECTION("bit flipped") {
    bytes[200] ^= std::byte{4};
    write(path(entry), bytes);
    check_refused(entry, "checksum");
  }
  SECTION("truncated") {
    bytes.resize(bytes.size() - 1);
    write(path(entry), bytes);
    check_refused(entry, "cubin size");
  }
  SECTION("empty") {
    write(path(entry), {});
    check_refused(entry, "size=0");
  }
  SECTION("version") {
    bytes[8] = std::byte{9};
    write(path(entry), bytes);
    check_refused(entry, "version=9");
  }
  SECTION("another key") {
    write(path(entry), serialize(sample_entry(2)));
    check_refused(entry, "holds the entry " + sample_key(2).hex());
  }
  SECTION("another compiler") {
    write(path(entry), serialize(sample_entry(1, sample_compiler(12, 8))));
    check_refused(entry, "nvrtc-12.8");
  }
}

TEST_CASE_METHOD(Fixture, "a file larger than any entry goes, for quarantine has no room for it",
                 "[unit]") {
  const Entry entry = sample_entry(1);
  write(path(entry), serialize(entry));
  stdfs::resize_file(path(entry), DiskCache::max_entry_bytes + 1);
  const Found found = cache->find(entry.key, &entry.compiler);
  CHECK_FALSE(found.entry.has_value());
  CHECK(found.num_quarantined == 1);
  REQUIRE(found.problems.size() == 1);
  CHECK(found.problems[0].message().find("EFBIG") != std::string::npos);
  CHECK_FALSE(stdfs::exists(path(entry)));
  CHECK(num_quarantined() == 0);
  publish(entry);
  CHECK(cache->find(entry.key, &entry.compiler).entry == entry);
}

TEST_CASE_METHOD(Fixture, "entries that others may have written are moved aside", "[unit]") {
  const Entry entry = sample_entry(1);
  const std::vector<std::byte> bytes = serialize(entry);
  SECTION("symbolic link to a good entry") {
    const std::string outside = temp.path() + "/planted";
    write(outside, bytes);
    write(path(entry), bytes);
    stdfs::remove(path(entry));
    stdfs::create_symlink(outside, path(entry));
    check_refused(entry, "not a regular file");
    CHECK(stdfs::file_size(outside) == bytes.size());  // neither moved nor overwritten
  }
  SECTION("dangling symbolic link") {
    write(path(entry), bytes);
    stdfs::remove(path(entry));
    stdfs::create_symlink(temp.path() + "/nowhere", path(entry));
    check_refused(entry, "not a regular file");
  }
  SECTION("writable by group") {
    write(path(entry), bytes);
    REQUIRE(::chmod(path(entry).c_str(), 0620) == 0);
    check_refused(entry, "mode=0620");
  }
  SECTION("fifo") {
    write(path(entry), bytes);
    stdfs::remove(path(entry));
    REQUIRE(::mkfifo(path(entry).c_str(), 0600) == 0);
    check_refused(entry, "not a regular file");
  }
  SECTION("directory") {
    stdfs::create_directories(path(entry) + "/sub");
    REQUIRE(::chmod(stdfs::path(path(entry)).parent_path().c_str(), 0700) == 0);
    check_refused(entry, "not a regular file");
  }
  SECTION("foreign owner") {
    if (geteuid() != 0) {
      WARN("skipped: only root can give a file to another user");
      return;
    }
    write(path(entry), bytes);
    REQUIRE(::chown(path(entry).c_str(), 12345, 12345) == 0);
    check_refused(entry, "owner=12345");
  }
}

TEST_CASE_METHOD(Fixture, "a directory that others may write to is refused", "[unit]") {
  const auto message = [&](const std::string& path) {
    const auto opened = DiskCache::open(path);
    CHECK(opened.status().code() == DGRT_IO_ERROR);
    return opened.status().message();
  };
  REQUIRE(::chmod(dir.c_str(), 0770) == 0);
  CHECK(message(dir) == dir + ": mode=0770: must not be writable by group or others");
  REQUIRE(::chmod(dir.c_str(), 0702) == 0);
  CHECK(message(dir).find("mode=0702") != std::string::npos);
  REQUIRE(::chmod(dir.c_str(), 0755) == 0);
  CHECK(DiskCache::open(dir).is_ok());
  write(temp.path() + "/file", {});
  CHECK(message(temp.path() + "/file").find("ENOTDIR") != std::string::npos);
  CHECK(message(temp.path() + "/file/below").find("ENOTDIR") != std::string::npos);
  CHECK(DiskCache::open("").status().code() == DGRT_INVALID_ARGUMENT);
  if (geteuid() == 0) {
    REQUIRE(::chown(dir.c_str(), 12345, 12345) == 0);
    CHECK(message(dir).find("owner=12345") != std::string::npos);
  } else {
    WARN("skipped in part: only root can give a directory to another user");
  }
}

TEST_CASE_METHOD(Fixture, "subdirectories are checked like the root", "[unit]") {
  const Entry entry = sample_entry(1);
  publish(entry);
  SECTION("a shard writable by others is not read") {
    REQUIRE(::chmod(stdfs::path(path(entry)).parent_path().c_str(), 0777) == 0);
    const Found found = cache->find(entry.key, &entry.compiler);
    CHECK_FALSE(found.entry.has_value());
    REQUIRE(found.problems.size() == 1);
    CHECK(found.problems[0].message().find("mode=0777") != std::string::npos);
    CHECK_FALSE(cache->publish(entry).is_ok());
  }
  SECTION("a link in the place of v1 is not followed, and replaced") {
    stdfs::rename(dir + "/v1", temp.path() + "/elsewhere");
    stdfs::create_directory_symlink(temp.path() + "/elsewhere", dir + "/v1");
    CHECK_FALSE(cache->find(entry.key, &entry.compiler).entry.has_value());
    publish(sample_entry(2));
    CHECK(cache->find(sample_key(2), nullptr).entry == sample_entry(2));
    CHECK_FALSE(cache->find(entry.key, nullptr).entry.has_value());
  }
  SECTION("a cache emptied while it is open is filled again") {
    stdfs::remove_all(dir + "/v1");
    CHECK(cache->find(entry.key, nullptr).problems.empty());
    publish(entry);
    CHECK(cache->find(entry.key, nullptr).entry == entry);
  }
}

TEST_CASE_METHOD(Fixture, "quarantine on request takes one entry, and is capped", "[unit]") {
  publish(sample_entry(1));
  publish(sample_entry(2));
  CHECK(cache->quarantine(sample_key(1), sample_compiler()).is_ok());
  CHECK(cache->quarantine(sample_key(1), sample_compiler()).is_ok());  // gone already
  CHECK(cache->quarantine(sample_key(9), sample_compiler()).is_ok());
  CHECK(num_quarantined() == 1);
  CHECK_FALSE(cache->find(sample_key(1), nullptr).entry.has_value());
  CHECK(cache->find(sample_key(2), nullptr).entry.has_value());

  for (size_t i = 0; i < DiskCache::max_quarantined + 5; ++i) {
    write(path(sample_entry(3)), {std::byte{1}});
    CHECK(cache->find(sample_key(3), nullptr).num_quarantined == 1);
  }
  CHECK(num_quarantined() == DiskCache::max_quarantined);
  for (const auto& file : stdfs::directory_iterator(dir + "/quarantine"))
    CHECK(file.path().string().find(sample_key(3).hex()) != std::string::npos);  // the oldest went
}

TEST_CASE_METHOD(Fixture, "a good entry that takes a bad one's place is not moved aside",
                 "[unit]") {
  const Entry entry = sample_entry(1);
  const auto other = open_cache(dir);
  // Another process publishes just before this one's n-th call, at each point of refusing an entry.
  bool was_moved_back = false;
  for (int n = 1; n < 30; ++n) {
    write(path(entry), {std::byte{1}});
    REQUIRE(::chmod((dir + "/v1").c_str(), 0700) == 0);
    REQUIRE(::chmod(stdfs::path(path(entry)).parent_path().c_str(), 0700) == 0);
    std::string last_call;
    fs.restart();
    fs.before = [&](std::string_view call, int number) {
      if (number == n) REQUIRE(other->publish(entry).is_ok());
      last_call = call;
      was_moved_back |= number == n && call == "rename";
      return 0;
    };
    const Found found = cache->find(entry.key, &entry.compiler);
    fs.before = nullptr;
    if (fs.calls() < n) break;
    CHECK((!found.entry || *found.entry == entry));
    INFO("call " << n);
    CHECK(other->find(entry.key, &entry.compiler).entry == entry);
  }
  CHECK(was_moved_back);
}

TEST_CASE_METHOD(Fixture, "list shows every file, judges it and changes nothing", "[unit]") {
  CHECK(cache->list().value().empty());
  const Entry good = sample_entry(1);
  publish(good);
  write(path(sample_entry(2)), {std::byte{1}});
  write(dir + "/v1/00/" + stdfs::path(path(good)).filename().string(), serialize(good));
  write(dir + "/v1/00/tmp-1", {});
  for (const auto& shard : stdfs::directory_iterator(dir + "/v1"))
    REQUIRE(::chmod(shard.path().c_str(), 0700) == 0);
  for (int i = 0; i < 2; ++i) {
    const Result<std::vector<CacheFile>> files = cache->list();
    REQUIRE(files.is_ok());
    REQUIRE(files.value().size() == 3);
    const CacheFile &misplaced = files.value()[0], &listed = files.value()[1],
                    &damaged = files.value()[2];
    CHECK(misplaced.status.message().find("must lie in v1/07") != std::string::npos);
    CHECK(listed.status.is_ok());
    CHECK(dir + "/" + listed.path == path(good));
    CHECK(listed.file_bytes == serialize(good).size());
    CHECK(listed.key == good.key);
    CHECK(listed.compiler == good.compiler);
    CHECK(listed.metadata == good.metadata);
    CHECK(listed.cubin_bytes == good.cubin.size());
    CHECK(damaged.status.message().find("too short") != std::string::npos);
    CHECK(damaged.file_bytes == 1);
  }
}

TEST_CASE_METHOD(Fixture, "a key's lock has one holder until it is destroyed", "[unit]") {
  const auto other = open_cache(dir);
  {
    const Result<KeyLock> held = cache->lock(sample_key(1));
    REQUIRE(held.is_ok());
    CHECK_FALSE(other->try_lock(sample_key(1)).value().has_value());
    CHECK(other->try_lock(sample_key(2)).value().has_value());
  }
  Result<std::optional<KeyLock>> second = other->try_lock(sample_key(1));
  REQUIRE(second.value().has_value());
  CHECK_FALSE(cache->try_lock(sample_key(1)).value().has_value());
  KeyLock moved = std::move(*second.value());
  CHECK_FALSE(cache->try_lock(sample_key(1)).value().has_value());
  moved = std::move(cache->lock(sample_key(3))).value();  // gives up the lock that it held
  CHECK(cache->try_lock(sample_key(1)).value().has_value());
}

TEST_CASE("the default directory is below the user's cache or home, or there is none", "[unit]") {
  const auto with = [](const char* cache_home, const char* home) {
    const auto set = [](const char* name, const char* value) {
      const char* old = ::getenv(name);
      std::optional<std::string> kept;
      if (old != nullptr) kept = old;
      value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
      return kept;
    };
    const std::optional<std::string> old_cache_home = set("XDG_CACHE_HOME", cache_home);
    const std::optional<std::string> old_home = set("HOME", home);
    const std::optional<std::string> dir = default_cache_dir();
    set("XDG_CACHE_HOME", old_cache_home ? old_cache_home->c_str() : nullptr);
    set("HOME", old_home ? old_home->c_str() : nullptr);
    return dir.value_or("none");
  };
  CHECK(with("/c", "/h") == "/c/dgrt");
  CHECK(with(nullptr, "/h") == "/h/.cache/dgrt");
  CHECK(with("", "/h") == "/h/.cache/dgrt");
  CHECK(with("relative", "/h") == "/h/.cache/dgrt");
  CHECK(with(nullptr, "relative") == "none");
  CHECK(with(nullptr, nullptr) == "none");
}

}  // namespace
}  // namespace dgrt
