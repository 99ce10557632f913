// Processes killed at random while they publish, evict, quarantine and write bundles: afterwards no
// wrong byte is ever read, no lock is stuck, no good entry is lost. 200 kills; DGRT_TEST_KILLS asks
// for another number (docs/notes/ has the outcome of 10,000).
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "tests/support/bundle_samples.h"
#include "tests/support/cache_fixture.h"
#include "tests/support/child_process.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using namespace std::chrono_literals;
using test::sample_compiler;
using test::sample_entry;

// What may happen to a key, by its number.
constexpr int num_good = 4;    // 0..3: published again and again; once there, there for ever
constexpr int num_old = 4;     // 4..7: published, unused for long, evicted
constexpr int num_broken = 2;  // 8..9: damaged by someone, moved aside, published again
constexpr int num_keys = num_good + num_old + num_broken;

// Large enough that a kill often falls into the writing.
Entry entry_of(int k) { return sample_entry(static_cast<uint8_t>(k), sample_compiler(), 100'000); }

class Campaign {
 public:
  const test::TempDir temp{test::memory_dir()};
  const std::string dir = temp.path() + "/cache", bundle = temp.path() + "/x.dgb";
  const std::vector<std::byte> small_bundle = bundle_of(2), large_bundle = bundle_of(6);

  // In a child: works until it is killed; a byte into `progress` after each step.
  int work(unsigned seed, int progress) {
    test::FaultFs fs;  // its syncs cost nothing, so that the time goes into the calls that matter
    std::mt19937 random(seed);
    auto opened = DiskCache::open(dir, seed % 16 == 0 ? real_fs() : fs);
    if (!opened.is_ok()) return 1;
    fs.short_write = seed % 4 == 0 ? 1 : 0;
    DiskCache& cache = *opened.value();
    for (;;) {
      if (!step(cache, fs, random() % 8, static_cast<int>(random() % num_keys))) return 2;
      if (::write(progress, "x", 1) != 1) return 3;
    }
  }

  // In the parent, when the child is dead.
  void inspect() {
    for (int k = 0; k < num_keys; ++k) {
      const Entry wanted = entry_of(k);
      // Not what is broken on purpose, nor old: looking would repair, or renew.
      const bool is_read_only = k >= num_good;
      DiskCache& cache = is_read_only ? *reader_ : *cache_;
      const Found found = cache.find(wanted.key, &wanted.compiler);
      if (found.entry && *found.entry != wanted) FAIL("key " << k << ": wrong bytes");
      if (k < num_good + num_old && !found.problems.empty())
        FAIL("key " << k << ": " << found.problems[0].message());
      if (k < num_good && stored_[k] && !found.entry) FAIL("key " << k << " was lost");
      stored_[k] |= found.entry.has_value();
      if (!cache_->try_lock(wanted.key).value().has_value()) FAIL("key " << k << ": stuck lock");
    }
    if (cache_->trim({}).value().is_skipped) FAIL("stuck upkeep lock");
    for (const auto& file : stdfs::directory_iterator(temp.path()))  // a dead writer's
      if (file.path().filename().string().starts_with("x.dgb.tmp-")) stdfs::remove(file.path());
    if (!stdfs::exists(bundle)) return;
    const std::vector<std::byte> bytes = test::read_bytes(bundle);
    if (bytes != small_bundle && bytes != large_bundle) FAIL("half a bundle");
    has_bundle_ = true;
  }
  void check_coverage() const {
    for (int k = 0; k < num_keys; ++k) CHECK(stored_[k]);
    CHECK(has_bundle_);
    CHECK(stdfs::exists(dir + "/quarantine"));
  }

 private:
  static std::vector<std::byte> bundle_of(int num_entries) {
    std::vector<Entry> entries;
    for (int k = 0; k < num_entries; ++k) entries.push_back(entry_of(k));
    return test::bundle_bytes(entries);
  }
  std::string path(const Entry& entry) const {
    const std::string hex = entry.key.hex();
    return dir + "/v1/" + hex.substr(0, 2) + "/" + hex + "." + entry.compiler.name() + ".dge";
  }

  // False: something went wrong that no kill explains.
  bool step(DiskCache& cache, FileSystem& fs, unsigned what, int k) const {
    const Entry entry = entry_of(k);
    std::error_code ignored;
    if (what < 4) {
      const Result<KeyLock> lock = cache.lock(entry.key);
      if (!lock.is_ok() || !cache.publish(entry).is_ok()) return false;
      if (k >= num_good && k < num_good + num_old)
        stdfs::last_write_time(path(entry), stdfs::file_time_type::clock::now() - 48h, ignored);
      return true;
    }
    if (what == 4) return cache.trim({.max_idle_s = 24 * 3600}).is_ok();
    if (what == 5) return cache.keep_below(3 * 100'000).is_ok();
    if (what == 6) {
      const bool is_small = k % 2 == 0;
      return write_bundle(bundle, is_small ? small_bundle : large_bundle, fs).is_ok();
    }
    const Entry broken = entry_of(num_good + num_old + k % num_broken);
    stdfs::resize_file(path(broken), 1000, ignored);
    const Found found = cache.find(broken.key, &broken.compiler);
    return !found.entry || *found.entry == broken;
  }

  const std::unique_ptr<DiskCache> cache_ = test::open_cache(dir);
  const std::unique_ptr<DiskCache> reader_ = std::move(DiskCache::open_read_only(dir)).value();
  bool stored_[num_keys] = {};
  bool has_bundle_ = false;
};

TEST_CASE("processes killed at random leave cache and bundle in order", "[process]") {
  const char* asked = ::getenv("DGRT_TEST_KILLS");
  const int num_kills = asked != nullptr ? ::atoi(asked) : 200;
  REQUIRE(num_kills > 0);
  Campaign campaign;
  std::mt19937 random(20261120);
  for (int round = 0; round < num_kills; ++round) {
    INFO("round " << round);
    int progress[2];
    REQUIRE(::pipe(progress) == 0);
    const unsigned seed = random();
    const pid_t child = test::spawn([&] { return campaign.work(seed, progress[1]); });
    REQUIRE(child > 0);
    ::close(progress[1]);
    // Counted in steps, not in time, so that a slow machine tests the same.
    char byte;
    for (unsigned i = random() % 8; i > 0; --i) REQUIRE(::read(progress[0], &byte, 1) == 1);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1500));
    ::kill(child, SIGKILL);
    const int status = test::wait_for(child);
    INFO("wait status " << status);
    CHECK(WIFSIGNALED(status));
    ::close(progress[0]);
    campaign.inspect();
  }
  if (num_kills >= 200) campaign.check_coverage();
}

}  // namespace
}  // namespace dgrt
