// Many processes on one cache directory: each key is compiled once, and killing a writer at any
// moment leaves neither a wrong entry nor a stuck lock, and loses nothing. With eviction, quarantine and
// bundles besides: cache_kill_test.cpp.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "cache/disk_cache.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"
#include "tests/support/child_process.h"
#include "tests/support/fault_fs.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

using test::exited_well;
using test::Gate;
using test::sample_entry;
using test::sample_key;
using test::spawn;
using test::wait_for;
using namespace std::chrono_literals;

constexpr int num_keys = 8;

// What an engine does for one key. The "compiler" appends a line to a log.
int get_or_compile(DiskCache& cache, const Entry& wanted, const std::string& log) {
  const auto find = [&] { return cache.find(wanted.key, &wanted.compiler); };
  Found found = find();
  if (!found.entry) {
    const Result<KeyLock> lock = cache.lock(wanted.key);
    if (!lock.is_ok()) return 2;
    found = find();
    if (!found.entry) {
      const int fd = ::open(log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
      const std::string line = wanted.key.hex() + "\n";
      if (fd < 0 || ::write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        return 3;
      ::close(fd);
      std::this_thread::sleep_for(10ms);
      return cache.publish(wanted).is_ok() ? 0 : 4;
    }
  }
  if (!found.problems.empty() || found.num_quarantined != 0) return 5;
  return *found.entry == wanted ? 0 : 6;
}

TEST_CASE("cold processes on one directory compile each key exactly once", "[process]") {
  constexpr int num_processes = 16;
  test::TempDir temp;
  const std::string log = temp.path() + "/log";
  Gate gate;
  REQUIRE(gate.is_good());
  std::vector<pid_t> children;
  for (int p = 0; p < num_processes; ++p) {
    children.push_back(spawn([&] {
      gate.pass();
      auto cache = DiskCache::open(temp.path() + "/cache");  // they race to create it, too
      if (!cache.is_ok()) return 1;
      for (int k = 0; k < num_keys; ++k) {
        const Entry wanted = sample_entry(static_cast<uint8_t>((p + k) % num_keys));
        if (const int code = get_or_compile(*cache.value(), wanted, log)) return code;
      }
      return 0;
    }));
    REQUIRE(children.back() > 0);
  }
  gate.open();
  for (const pid_t child : children) {
    const int status = wait_for(child);
    INFO("wait status " << status);
    CHECK(exited_well(status));
  }
  std::map<std::string, int> num_compiles;
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) ++num_compiles[line];
  CHECK(num_compiles.size() == num_keys);
  for (const auto& [key, count] : num_compiles) {
    INFO(key);
    CHECK(count == 1);
  }
}

TEST_CASE("a lock lasts as long as its holder lives, and no longer", "[process]") {
  test::TempDir temp;
  auto cache = DiskCache::open(temp.path() + "/cache");
  REQUIRE(cache.is_ok());
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = spawn([&] {
    const Result<KeyLock> lock = cache.value()->lock(sample_key(1));
    if (!lock.is_ok() || ::write(ready[1], "x", 1) != 1) return 1;
    for (;;) ::pause();
  });
  REQUIRE(child > 0);
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK_FALSE(cache.value()->try_lock(sample_key(1)).value().has_value());
  std::thread killer([&] {
    std::this_thread::sleep_for(100ms);
    ::kill(child, SIGKILL);
  });
  const auto begin = std::chrono::steady_clock::now();
  const Result<KeyLock> lock = cache.value()->lock(sample_key(1));
  const auto waited = std::chrono::steady_clock::now() - begin;
  killer.join();
  CHECK(lock.is_ok());
  CHECK(waited >= 90ms);
  CHECK(WIFSIGNALED(wait_for(child)));
  ::close(ready[0]);
  ::close(ready[1]);
}

// Large enough that a kill often falls into the writing.
Entry large_entry(int k) {
  return sample_entry(static_cast<uint8_t>(k), test::sample_compiler(), 300'000);
}

// Looks at a cache whose writer has just died.
class Inspector {
 public:
  explicit Inspector(const std::string& dir) : cache_(open(dir)) {}

  void inspect() {
    for (int k = 0; k < num_keys; ++k) {
      const Entry wanted = large_entry(k);
      const Found found = cache_->find(wanted.key, &wanted.compiler);
      CHECK(found.problems.empty());
      CHECK(found.num_quarantined == 0);
      CHECK((!found.entry || *found.entry == wanted));
      CHECK((found.entry || stored_.count(k) == 0));  // what was there once stays
      if (found.entry) stored_.insert(k);
      CHECK(cache_->try_lock(wanted.key).value().has_value());
    }
  }
  size_t num_stored() const { return stored_.size(); }
  DiskCache& cache() { return *cache_; }

 private:
  static std::unique_ptr<DiskCache> open(const std::string& dir) {
    auto cache = DiskCache::open(dir);
    REQUIRE(cache.is_ok());
    return std::move(cache).value();
  }
  std::unique_ptr<DiskCache> cache_;
  std::set<int> stored_;
};

// Publishes under the lock, key after key; writes a byte to `progress` after each, if it is open.
int write_entries(const std::string& dir, FileSystem& fs, int first_key, int num_writes,
                  int progress = -1) {
  auto cache = DiskCache::open(dir, fs);
  if (!cache.is_ok()) return 1;
  for (int i = 0; i < num_writes; ++i) {
    const Entry entry = large_entry((first_key + i) % num_keys);
    const Result<KeyLock> lock = cache.value()->lock(entry.key);
    if (!lock.is_ok()) return 2;
    if (!cache.value()->publish(entry).is_ok()) return 3;
    if (progress >= 0 && ::write(progress, "x", 1) != 1) return 4;
  }
  return 0;
}

TEST_CASE("a writer killed before any of its calls leaves the cache in order", "[process]") {
  int num_killed = 0;
  for (int n = 1;; ++n) {
    test::TempDir temp(test::memory_dir());
    const std::string dir = temp.path() + "/cache";
    Inspector inspector(dir);
    REQUIRE(inspector.cache().publish(large_entry(0)).is_ok());
    inspector.inspect();
    const pid_t child = spawn([&] {
      test::FaultFs fs;
      fs.short_write = 1;  // several writes per entry, so that kills fall between them
      fs.before = [&](std::string_view, int number) {
        if (number == n) ::kill(::getpid(), SIGKILL);
        return 0;
      };
      return write_entries(dir, fs, 0, 2);  // one replaces, one is new
    });
    REQUIRE(child > 0);
    const int status = wait_for(child);
    INFO("call " << n);
    inspector.inspect();
    if (exited_well(status)) {
      CHECK(inspector.num_stored() == 2);
      break;
    }
    REQUIRE(WIFSIGNALED(status));
    ++num_killed;
    REQUIRE(inspector.cache().publish(large_entry(1)).is_ok());
  }
  CHECK(num_killed > 40);
}

TEST_CASE("writers killed at random leave the cache in order", "[process]") {
  test::TempDir temp;
  const std::string dir = temp.path() + "/cache";
  Inspector inspector(dir);
  std::mt19937 random(20240817);
  for (int round = 0; round < 200; ++round) {
    int progress[2];
    REQUIRE(::pipe(progress) == 0);
    const pid_t child = spawn([&] {
      test::FaultFs no_sync;  // so that most of the time goes into the calls that matter
      FileSystem& fs = round % 8 == 0 ? real_fs() : no_sync;
      return write_entries(dir, fs, round, 1'000'000, progress[1]);
    });
    REQUIRE(child > 0);
    ::close(progress[1]);
    // Counted in entries, not in time, so that a slow machine tests the same.
    char byte;
    for (unsigned i = random() % 4; i > 0; --i) REQUIRE(::read(progress[0], &byte, 1) == 1);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    ::kill(child, SIGKILL);
    CHECK(WIFSIGNALED(wait_for(child)));
    ::close(progress[0]);
    INFO("round " << round);
    inspector.inspect();
  }
  CHECK(inspector.num_stored() > 0);  // else nothing was tested
  for (int k = 0; k < num_keys; ++k) CHECK(inspector.cache().publish(large_entry(k)).is_ok());
  inspector.inspect();
  CHECK(inspector.num_stored() == num_keys);
}

}  // namespace
}  // namespace dgrt
