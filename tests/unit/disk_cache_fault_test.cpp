// The disk cache on a file system that fails: whichever call goes wrong, nothing wrong is ever
// returned or left behind, and nothing good is lost.
#include <sys/stat.h>

#include <chrono>
#include <filesystem>

#include "cache/bundle.h"
#include "cache/disk_cache.h"
#include "tests/support/bundle_samples.h"
#include "tests/support/cache_fixture.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using Fixture = test::CacheFixture;
using test::open_cache;
using test::sample_entry;
using test::sample_key;

TEST_CASE_METHOD(Fixture, "locks that the file system refuses are a status", "[unit]") {
  for (const int error : {ENOLCK, EOPNOTSUPP, EIO, EROFS, EACCES, ENOSPC}) {
    for (const char* refused : {"lock", "open_lock_file", "make_dir"}) {
      stdfs::remove_all(dir + "/locks");
      fs.before = [&](std::string_view call, int) { return call == refused ? error : 0; };
      CHECK(cache->lock(sample_key(1)).status().code() == DGRT_IO_ERROR);
      CHECK(cache->try_lock(sample_key(1)).status().code() == DGRT_IO_ERROR);
    }
  }
}

TEST_CASE_METHOD(Fixture, "an entry is durable before it is visible, and its name soon after",
                 "[unit]") {
  std::string calls;
  fs.before = [&](std::string_view call, int) {
    if (call == "write" || call == "sync" || call == "rename" || call == "make_dir")
      calls.append(call).append(" ");
    return 0;
  };
  REQUIRE(cache->publish(sample_entry(1)).is_ok());  // with the directories that lead to it
  CHECK(calls == "make_dir sync make_dir sync write sync rename sync ");
  calls.clear();
  REQUIRE(cache->publish(sample_entry(1)).is_ok());
  CHECK(calls == "write sync rename sync ");
}

TEST_CASE_METHOD(Fixture, "an entry that cannot be named leaves no file", "[unit]") {
  fs.before = [](std::string_view call, int) { return call == "rename" ? EIO : 0; };
  CHECK(cache->publish(sample_entry(1)).code() == DGRT_IO_ERROR);
  const stdfs::path shard = stdfs::path(path(sample_entry(1))).parent_path();
  CHECK(stdfs::exists(shard));
  CHECK(stdfs::is_empty(shard));
}

TEST_CASE_METHOD(Fixture, "directories that cannot be synced are no failure", "[unit]") {
  fs.before = [](std::string_view call, int number) {
    return call == "sync" && number != 0 ? EINVAL : 0;
  };
  // The file itself must still be synced.
  CHECK_FALSE(cache->publish(sample_entry(1)).is_ok());
  int num_syncs = 0;
  fs.before = [&](std::string_view call, int) {
    return call == "sync" && ++num_syncs > 1 ? EINVAL : 0;
  };
  CHECK(cache->publish(sample_entry(1)).is_ok());
}

// What a process does with a cold key while a good and a damaged entry lie beside it.
struct Scenario : Fixture {
  const Entry good = sample_entry(1), damaged = sample_entry(2), fresh = sample_entry(3);

  void reset() {
    fs.before = nullptr;
    fs.short_write = fs.write_error = 0;
    stdfs::remove_all(dir);
    cache = open_cache(dir, fs);
    publish(good);
    std::vector<std::byte> bytes = serialize(damaged);
    bytes.back() ^= std::byte{1};
    write(path(damaged), bytes);
    REQUIRE(::chmod(stdfs::path(path(damaged)).parent_path().c_str(), 0700) == 0);
    fs.restart();
  }
  // Returns whether the fresh entry was published. Nothing wrong may ever be returned.
  bool run() {
    Result<std::unique_ptr<DiskCache>> opened = DiskCache::open(dir, fs);
    if (!opened.is_ok()) return false;
    DiskCache& faulty = *opened.value();
    const auto check = [&](const Entry& entry, const CompilerId* compiler) {
      const Found found = faulty.find(entry.key, compiler);
      CHECK((!found.entry || *found.entry == entry));
      return found.entry.has_value();
    };
    check(good, &good.compiler);
    CHECK_FALSE(check(damaged, nullptr));
    const Result<KeyLock> lock = faulty.lock(fresh.key);
    CHECK_FALSE(check(fresh, &fresh.compiler));
    const bool is_published = faulty.publish(fresh).is_ok();
    check(fresh, nullptr);
    (void)faulty.list();
    return is_published;
  }
  // Afterwards, with a healthy file system.
  void check_healthy(bool is_published) {
    test::FaultFs healthy_fs;  // for its syncs that cost nothing
    const auto healthy = open_cache(dir, healthy_fs);
    CHECK(healthy->find(good.key, &good.compiler).entry == good);
    const Found found = healthy->find(fresh.key, &fresh.compiler);
    CHECK((is_published || found.entry || found.problems.empty()));  // complete or absent
    CHECK((!is_published || found.entry));
    CHECK((!found.entry || *found.entry == fresh));
    CHECK_FALSE(healthy->find(damaged.key, nullptr).entry.has_value());
    CHECK(healthy->try_lock(fresh.key).value().has_value());
    const Result<std::vector<CacheFile>> files = healthy->list();
    REQUIRE(files.is_ok());
    for (const CacheFile& file : files.value()) CHECK(file.status.is_ok());
  }
};

TEST_CASE_METHOD(Scenario, "no failing call leaves a wrong entry or loses a good one", "[unit]") {
  reset();
  CHECK(run());
  const int num_calls = fs.calls();
  CHECK(num_calls > 40);
  check_healthy(true);
  for (const int error : {ENOSPC, EIO, EROFS, EACCES, ESTALE, EMFILE}) {
    for (const bool from_there_on : {false, true}) {
      for (int n = 1; n <= num_calls; ++n) {
        INFO(errno_text(error) << ", call " << n << (from_there_on ? " and all after it" : ""));
        reset();
        std::string failed;
        fs.before = [&](std::string_view call, int number) {
          const bool fails = number == n || (from_there_on && number > n);
          if (number == n) failed = call;
          return fails ? error : 0;
        };
        const bool is_published = run();
        INFO(failed);
        CHECK_FALSE(failed.empty());
        fs.before = nullptr;
        check_healthy(is_published);
      }
    }
  }
}

TEST_CASE_METHOD(Scenario, "short writes are continued, a full disk leaves nothing", "[unit]") {
  reset();
  fs.short_write = 1;
  CHECK(run());
  check_healthy(true);

  reset();
  fs.short_write = 2;
  fs.write_error = ENOSPC;
  publish(sample_entry(4));  // the first write is whole
  const Status status = cache->publish(fresh);
  CHECK(status.message().find("ENOSPC") != std::string::npos);
  fs.short_write = fs.write_error = 0;
  check_healthy(false);
  for (const auto& item : stdfs::recursive_directory_iterator(dir))
    CHECK(item.path().filename().string().find("tmp-") == std::string::npos);
}

// One operation after the other, each failing at every call that it makes.
struct Operation {
  const char* name;
  std::function<void(DiskCache&)> run;
  int min_calls;  // it makes at least so many, or the test does not do what it says
  bool run_with_full_quarantine = false;
};

struct Faults : Fixture {
  const Entry good = sample_entry(1), old = sample_entry(2), fresh = sample_entry(3);
  const std::string bundle = temp.path() + "/x.dgb";

  void age(const std::string& file) const {
    stdfs::last_write_time(file, stdfs::file_time_type::clock::now() - std::chrono::hours(48));
  }
  void reset(bool with_quarantine) {
    fs.before = nullptr;
    fs.short_write = 0;
    stdfs::remove_all(dir);
    cache = open_cache(dir, fs);
    publish(good);
    publish(old);
    age(path(old));
    const std::string temp_file = stdfs::path(path(good)).parent_path().string() + "/tmp-old";
    write(temp_file, {std::byte{1}});
    age(temp_file);
    REQUIRE(cache->lock(old.key).is_ok());
    age(dir + "/locks/" + old.key.hex() + ".lock");
    for (size_t i = 0; with_quarantine && i <= DiskCache::max_quarantined; ++i)
      write(fmt::format("{}/quarantine/{:03}", dir, i), {});
    if (with_quarantine) REQUIRE(::chmod((dir + "/quarantine").c_str(), 0700) == 0);
    fs.restart();
  }
  // `old` may be evicted or moved aside; `good` may not go, and what is there must be right.
  void check_healthy(bool is_good_wanted) {
    const auto healthy = open_cache(dir);
    const Found found = healthy->find(good.key, nullptr);
    CHECK(found.problems.empty());
    CHECK((found.entry || !is_good_wanted));
    CHECK((!found.entry || *found.entry == good));
    for (const Entry& entry : {old, fresh}) {
      const Found seen = healthy->find(entry.key, &entry.compiler);
      CHECK(seen.problems.empty());
      CHECK((!seen.entry || *seen.entry == entry));
      CHECK(healthy->try_lock(entry.key).value().has_value());
    }
    CHECK_FALSE(healthy->trim({}).value().is_skipped);  // the upkeep lock is free
  }
};

TEST_CASE_METHOD(Faults, "every operation survives every error at every call", "[unit]") {
  const auto found_is_right = [](const Found& found, const Entry& wanted) {
    CHECK((!found.entry || *found.entry == wanted));
  };
  const Operation operations[] = {
      {"publish", [&](DiskCache& c) { (void)c.publish(fresh); }, 7},
      {"find", [&](DiskCache& c) { found_is_right(c.find(old.key, &old.compiler), old); }, 9},
      {"find any", [&](DiskCache& c) { found_is_right(c.find(old.key, nullptr), old); }, 9},
      {"quarantine", [&](DiskCache& c) { (void)c.quarantine(old.key, old.compiler); }, 9, true},
      {"lock", [&](DiskCache& c) { (void)c.lock(fresh.key); }, 5},
      {"trim", [&](DiskCache& c) { (void)c.trim({.max_idle_s = 3600}); }, 30},
      {"cap", [&](DiskCache& c) { (void)c.keep_below(serialize(good).size()); }, 15},
      {"daily", [&](DiskCache& c) { c.daily_upkeep(); }, 20, true},
      {"list", [&](DiskCache& c) { (void)c.list(); }, 12},
  };
  for (const Operation& operation : operations) {
    for (const int error : {ENOSPC, EIO, EROFS, EACCES, ESTALE, EMFILE, 0}) {  // 0: short writes
      for (int n = 1;; ++n) {
        INFO(operation.name << ", call " << n << ": " << (error ? errno_text(error) : "short"));
        reset(operation.run_with_full_quarantine);
        bool has_failed = false;
        fs.before = [&](std::string_view, int number) {
          has_failed |= number == n;
          return number == n ? error : 0;
        };
        fs.short_write = error == 0 ? 1 : 0;
        operation.run(*cache);
        fs.before = nullptr;
        fs.short_write = 0;
        check_healthy(true);
        if (has_failed && error != 0) continue;
        if (error != 0) CHECK(n > operation.min_calls);
        break;
      }
    }
  }
}

TEST_CASE_METHOD(Faults, "a failing call leaves the bundle that was there", "[unit]") {
  const std::vector<std::byte> before = test::bundle_bytes({good}),
                               after = test::bundle_bytes({good, old});
  for (const int error : {ENOSPC, EIO, EROFS, EACCES, ESTALE, EMFILE}) {
    for (int n = 1;; ++n) {
      INFO("call " << n << ": " << errno_text(error));
      fs.before = nullptr;
      test::write_bytes(bundle, before);
      fs.restart();
      fs.short_write = 1;
      fs.before = [&](std::string_view, int number) { return number == n ? error : 0; };
      const bool is_written = write_bundle(bundle, after, fs).is_ok();
      const bool is_complete = fs.calls() < n;
      CHECK((is_written || !is_complete));
      const std::vector<std::byte> now = test::read_bytes(bundle);
      CHECK((now == after || (now == before && !is_written)));
      CHECK(std::distance(stdfs::directory_iterator(temp.path()), {}) <= 3);
      for (const auto& file : stdfs::directory_iterator(temp.path()))
        if (file.path().filename().string().starts_with("x.dgb.tmp-")) stdfs::remove(file.path());
      fs.short_write = 0;
      fs.restart();
      const Result<std::unique_ptr<Bundle>> opened = Bundle::open(bundle, nullptr, fs);
      if (opened.is_ok()) CHECK(opened.value()->verify().is_ok());
      CHECK((opened.is_ok() || opened.status().code() == DGRT_IO_ERROR));
      if (!is_complete) continue;
      CHECK(n > 7);
      break;
    }
  }
}

}  // namespace
}  // namespace dgrt
