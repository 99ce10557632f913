// Eviction and tidying up of the disk cache: what goes, in which order, and what must stay.

#include <chrono>
#include <filesystem>

#include "tests/support/cache_fixture.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using test::sample_entry;
using test::sample_key;
using namespace std::chrono_literals;

constexpr uint64_t no_bound = std::numeric_limits<uint64_t>::max();

struct Fixture : test::CacheFixture {
  const uint64_t entry_bytes = serialize(sample_entry(1)).size();  // of each sample entry

  void age(const std::string& file, std::chrono::seconds by) const {
    stdfs::last_write_time(file, stdfs::file_time_type::clock::now() - by);
  }
  void publish_aged(uint8_t seed, std::chrono::seconds by) {
    publish(sample_entry(seed));
    age(path(sample_entry(seed)), by);
  }
  bool is_there(uint8_t seed) const { return stdfs::exists(path(sample_entry(seed))); }
  std::string lock_path(uint8_t seed) const {
    return dir + "/locks/" + sample_key(seed).hex() + ".lock";
  }
  int64_t age_of(const std::string& file) const {
    return std::chrono::duration_cast<std::chrono::seconds>(stdfs::file_time_type::clock::now() -
                                                            stdfs::last_write_time(file))
        .count();
  }
  Trimmed trim(const TrimLimits& limits) {
    const Result<Trimmed> trimmed = cache->trim(limits);
    INFO(trimmed.status().message());
    REQUIRE(trimmed.is_ok());
    CHECK_FALSE(trimmed.value().is_skipped);
    return trimmed.value();
  }
  Trimmed keep_below(uint64_t max_bytes) {
    const Result<Trimmed> trimmed = cache->keep_below(max_bytes);
    INFO(trimmed.status().message());
    REQUIRE(trimmed.is_ok());
    return trimmed.value();
  }
};

TEST_CASE_METHOD(Fixture, "trim removes what was unused for longest, exactly as much as it must",
                 "[unit]") {
  for (uint8_t seed = 1; seed <= 5; ++seed) publish_aged(seed, seed * 1h);
  CHECK(trim({.max_bytes = 5 * entry_bytes}).evicted == 0);
  const Trimmed trimmed = trim({.max_bytes = 4 * entry_bytes - 1});
  CHECK(trimmed.evicted == 2);
  CHECK(trimmed.evicted_bytes == 2 * entry_bytes);
  CHECK(trimmed.kept == 3);
  CHECK(trimmed.kept_bytes == 3 * entry_bytes);
  for (uint8_t seed = 1; seed <= 5; ++seed) CHECK(is_there(seed) == (seed <= 3));
  CHECK(trim({.max_bytes = 0}).evicted == 3);
  CHECK(cache->list().value().empty());
  CHECK(trim({.max_bytes = 0}).evicted == 0);
}

TEST_CASE_METHOD(Fixture,
                 "a hit renews an entry's time, once in a while and not where it only reads",
                 "[unit]") {
  publish_aged(1, 5h);
  publish_aged(2, 3h);
  const auto read_only = std::move(DiskCache::open_read_only(dir, fs)).value();
  CHECK(read_only->find(sample_key(1), nullptr).entry == sample_entry(1));
  CHECK(age_of(path(sample_entry(1))) > 4 * 3600);
  int num_touches = 0;
  fs.before = [&](std::string_view call, int) {
    num_touches += call == "touch";
    return 0;
  };
  for (int i = 0; i < 3; ++i) CHECK(cache->find(sample_key(1), nullptr).entry == sample_entry(1));
  CHECK(num_touches == 1);
  CHECK(age_of(path(sample_entry(1))) < 60);
  CHECK(trim({.max_bytes = entry_bytes}).evicted == 1);
  CHECK(is_there(1));
  age(path(sample_entry(1)), 1h);
  fs.before = [](std::string_view call, int) { return call == "touch" ? EPERM : 0; };
  const Found found = cache->find(sample_key(1), nullptr);
  CHECK(found.entry == sample_entry(1));
  CHECK(found.problems.empty());
}

TEST_CASE_METHOD(Fixture, "the cap evicts down to nine tenths and spares what is recent",
                 "[unit]") {
  for (uint8_t seed = 1; seed <= 20; ++seed) publish_aged(seed, seed * 1h);
  CHECK(keep_below(20 * entry_bytes).evicted == 0);
  publish(sample_entry(21));
  CHECK(keep_below(20 * entry_bytes).evicted == 3);  // 18 of 20 entries' bytes stay
  for (uint8_t seed = 1; seed <= 20; ++seed) CHECK(is_there(seed) == (seed <= 17));
  // Everything is recent: the cap waits.
  for (uint8_t seed = 1; seed <= 17; ++seed) age(path(sample_entry(seed)), 5min);
  publish(sample_entry(22));
  CHECK(keep_below(entry_bytes).evicted == 0);
  age(path(sample_entry(4)), 11min);
  publish(sample_entry(23));
  CHECK(keep_below(entry_bytes).evicted == 1);
  CHECK_FALSE(is_there(4));
}

TEST_CASE_METHOD(Fixture, "the cap costs nothing while the cache is far below it", "[unit]") {
  publish(sample_entry(1));
  CHECK(keep_below(1000 * entry_bytes).kept == 1);
  for (uint8_t seed = 2; seed <= 20; ++seed) {
    publish(sample_entry(seed));
    fs.restart();
    CHECK(keep_below(1000 * entry_bytes).kept == 0);  // did not look
    CHECK(fs.calls() == 0);
  }
  for (int i = 0; i < 60; ++i) publish(sample_entry(1));
  CHECK(keep_below(1000 * entry_bytes).kept == 20);
}

TEST_CASE_METHOD(Fixture, "one at a time evicts, the others skip it", "[unit]") {
  publish_aged(1, 2h);
  publish_aged(2, 1h);
  const auto other = test::open_cache(dir, fs);
  bool is_tried = false;
  fs.before = [&](std::string_view call, int) {
    if (call != "unlink" || is_tried) return 0;
    is_tried = true;  // in the middle of evicting
    CHECK(other->trim({.max_bytes = 0}).value().is_skipped);
    CHECK(other->keep_below(0).value().is_skipped);
    return 0;
  };
  CHECK(trim({.max_bytes = 0}).evicted == 2);
  CHECK(is_tried);
}

TEST_CASE_METHOD(Fixture, "an entry whose key is locked is not evicted", "[unit]") {
  publish_aged(1, 2h);
  publish_aged(2, 1h);
  {
    const Result<KeyLock> held = test::open_cache(dir, fs)->lock(sample_key(1));
    REQUIRE(held.is_ok());
    CHECK(trim({.max_bytes = 0}).evicted == 1);
    CHECK(is_there(1));
  }
  CHECK(trim({.max_bytes = 0}).evicted == 1);
  CHECK_FALSE(stdfs::exists(lock_path(1)));
}

TEST_CASE_METHOD(Fixture, "an entry that is read or replaced during eviction stays", "[unit]") {
  const auto other = test::open_cache(dir);
  for (const bool is_replaced : {false, true}) {
    publish_aged(1, 2h);
    int num_locks = 0;
    fs.before = [&](std::string_view call, int) {
      // The second lock is the key's: scanned already, not yet looked at again.
      if (call != "lock" || ++num_locks != 2) return 0;
      if (is_replaced) REQUIRE(other->publish(sample_entry(1)).is_ok());
      CHECK(other->find(sample_key(1), nullptr).entry == sample_entry(1));
      return 0;
    };
    CHECK(trim({.max_bytes = 0}).evicted == 0);
    CHECK(num_locks == 2);
    CHECK(is_there(1));
    fs.before = nullptr;
  }
}

TEST_CASE_METHOD(Fixture, "an open entry outlives its eviction", "[unit]") {
  publish_aged(1, 2h);
  const auto other = test::open_cache(dir);
  bool is_evicted = false;
  fs.before = [&](std::string_view call, int) {
    if (call == "read" && !is_evicted)
      is_evicted = other->trim({.max_bytes = 0}).value().evicted == 1;
    return 0;
  };
  CHECK(cache->find(sample_key(1), nullptr).entry == sample_entry(1));
  CHECK(is_evicted);
  CHECK_FALSE(is_there(1));
}

TEST_CASE_METHOD(Fixture, "what is older than asked for goes whatever the size", "[unit]") {
  for (uint8_t seed = 1; seed <= 4; ++seed) publish_aged(seed, seed * 24h + 1min);
  CHECK(trim({.max_idle_s = 2 * 24 * 3600}).evicted == 3);
  CHECK(is_there(1));
}

TEST_CASE_METHOD(Fixture, "times in the future keep nothing for ever", "[unit]") {
  publish_aged(1, -24h);  // the clock jumped
  publish_aged(2, 30min);
  publish_aged(3, -5min);  // another host's clock is a little ahead
  const std::string shard = stdfs::path(path(sample_entry(1))).parent_path();
  write(shard + "/tmp-future", {std::byte{1}});
  age(shard + "/tmp-future", -24h);
  CHECK(trim({.max_bytes = 2 * entry_bytes}).removed_temps == 1);
  CHECK_FALSE(is_there(1));
  CHECK(is_there(2));
  CHECK(trim({.max_bytes = entry_bytes}).evicted == 1);
  CHECK(is_there(3));
  // Reading an entry repairs its time.
  publish_aged(4, -24h);
  CHECK(cache->find(sample_key(4), nullptr).entry.has_value());
  CHECK(age_of(path(sample_entry(4))) >= 0);
}

TEST_CASE_METHOD(Fixture, "trim removes what dead processes left, and nothing that lives",
                 "[unit]") {
  publish(sample_entry(1));
  const std::string shard = stdfs::path(path(sample_entry(1))).parent_path();
  for (const char* name : {"/tmp-old", "/tmp-new"}) write(shard + name, {std::byte{1}});
  age(shard + "/tmp-old", 61min);
  REQUIRE(cache->lock(sample_key(2)).is_ok());
  REQUIRE(cache->lock(sample_key(3)).is_ok());
  age(lock_path(2), 2h);
  const Result<KeyLock> held = cache->lock(sample_key(4));
  age(lock_path(4), 2h);
  const Trimmed trimmed = trim({});
  CHECK(trimmed.evicted == 0);
  CHECK(trimmed.removed_temps == 1);
  CHECK(trimmed.removed_locks == 1);
  CHECK_FALSE(stdfs::exists(shard + "/tmp-old"));
  CHECK(stdfs::exists(shard + "/tmp-new"));
  CHECK_FALSE(stdfs::exists(lock_path(2)));
  CHECK(stdfs::exists(lock_path(3)));
  CHECK(stdfs::exists(lock_path(4)));
}

TEST_CASE_METHOD(Fixture, "a lock file removed under a waiter does not let two in", "[unit]") {
  const auto other = test::open_cache(dir);
  bool is_removed = false;
  fs.before = [&](std::string_view call, int) {
    if (call != "lock" || is_removed) return 0;
    is_removed = true;  // opened, not yet locked
    age(lock_path(1), 2h);
    CHECK(other->trim({}).value().removed_locks == 1);
    return 0;
  };
  const Result<KeyLock> lock = cache->lock(sample_key(1));
  REQUIRE(lock.is_ok());
  CHECK(is_removed);
  CHECK_FALSE(other->try_lock(sample_key(1)).value().has_value());
}

TEST_CASE_METHOD(Fixture, "a lock file replaced under a waiter does not let two in", "[unit]") {
  const auto other = test::open_cache(dir);
  std::optional<KeyLock> held;
  fs.before = [&](std::string_view call, int) {
    if (call != "lock" || held) return 0;
    age(lock_path(1), 2h);
    CHECK(other->trim({}).value().removed_locks == 1);
    held = std::move(other->try_lock(sample_key(1))).value();  // another file of this name
    CHECK(held.has_value());
    return 0;
  };
  CHECK_FALSE(cache->try_lock(sample_key(1)).value().has_value());
  CHECK(held.has_value());
}

TEST_CASE_METHOD(Fixture, "quarantine has a cap on bytes, too", "[unit]") {
  for (int i = 0; i < 4; ++i) {
    write(path(sample_entry(3)), {std::byte{1}});
    stdfs::resize_file(path(sample_entry(3)), DiskCache::max_quarantined_bytes / 2);
    CHECK(cache->find(sample_key(3), nullptr).num_quarantined == 1);
  }
  CHECK(num_quarantined() == 2);
  for (int i = 0; i < 3; ++i) write(dir + fmt::format("/quarantine/{}", i), {std::byte{1}});
  stdfs::resize_file(dir + "/quarantine/2", 2 * DiskCache::max_quarantined_bytes);
  CHECK(trim({}).removed_quarantined == 3);
}

TEST_CASE_METHOD(Fixture, "a directory is tidied up once a day", "[unit]") {
  cache->daily_upkeep();  // nothing there: makes nothing
  CHECK(stdfs::is_empty(dir));
  publish(sample_entry(1));
  publish_aged(2, 1000h);
  REQUIRE(cache->lock(sample_key(1)).is_ok());
  const std::string old = stdfs::path(path(sample_entry(1))).parent_path().string() + "/tmp-old";
  const std::string stamp = dir + "/locks/upkeep.lock";
  const auto tidy = [&] {
    write(old, {std::byte{1}});
    age(old, 2h);
    test::open_cache(dir, fs)->daily_upkeep();
    return !stdfs::exists(old);
  };
  CHECK(tidy());
  CHECK_FALSE(tidy());
  age(stamp, 25h);
  CHECK(tidy());
  age(stamp, -25h);  // the clock jumped
  CHECK(tidy());
  CHECK(is_there(2));  // nothing is evicted
  age(stamp, 25h);
  fs.before = [](std::string_view call, int) { return call == "lock" ? EWOULDBLOCK : 0; };
  CHECK_FALSE(tidy());  // someone else is at it
}

TEST_CASE_METHOD(Fixture, "without locks entries are evicted all the same", "[unit]") {
  publish_aged(1, 2h);
  REQUIRE(cache->lock(sample_key(5)).is_ok());
  age(lock_path(5), 2h);
  fs.before = [](std::string_view call, int) { return call == "lock" ? ENOLCK : 0; };
  const Trimmed trimmed = trim({.max_bytes = 0});
  CHECK(trimmed.evicted == 1);
  CHECK(trimmed.removed_locks == 0);
  CHECK(stdfs::exists(lock_path(5)));
}

TEST_CASE_METHOD(Fixture, "a directory that is only read is not trimmed", "[unit]") {
  publish_aged(1, 2h);
  const auto read_only = std::move(DiskCache::open_read_only(dir, fs)).value();
  CHECK(read_only->trim({.max_bytes = 0}).status().code() == DGRT_INVALID_ARGUMENT);
  CHECK(read_only->keep_below(0).status().code() == DGRT_INVALID_ARGUMENT);
  read_only->daily_upkeep();
  CHECK(is_there(1));
  CHECK_FALSE(stdfs::exists(dir + "/locks"));
}

TEST_CASE_METHOD(Fixture, "files that are no entries count and go like entries", "[unit]") {
  publish_aged(1, 1h);
  const std::string shard = stdfs::path(path(sample_entry(1))).parent_path();
  write(shard + "/stray", std::vector<std::byte>(1000));
  age(shard + "/stray", 2h);
  stdfs::create_directory(shard + "/directory");
  const Trimmed trimmed = trim({.max_bytes = entry_bytes});
  CHECK(trimmed.evicted == 1);
  CHECK(trimmed.evicted_bytes == 1000);
  CHECK(trim({.max_bytes = no_bound}).kept == 1);
}

}  // namespace
}  // namespace dgrt
