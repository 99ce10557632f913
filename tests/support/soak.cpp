#include "tests/support/soak.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "cache/disk_cache.h"

namespace dgrt::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr auto report_interval = std::chrono::seconds(30);
constexpr size_t num_contexts = 3;         // alive at once, shared by the threads
constexpr double allowed_growth_mib = 64;  // of resident memory, once settled
constexpr int64_t allowed_files = 64;      // more at once than then

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  double total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

int64_t open_files() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

class Running {
 public:
  explicit Running(const Soak& soak) : soak_(soak), begin_(Clock::now()) {}

  Result<std::string> run() {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < soak_.num_threads; ++i)
      threads.emplace_back([this, i] { use_plans(i); });
    threads.emplace_back([this] { spoil(); });
    watch();
    for (std::thread& thread : threads) thread.join();
    contexts_.clear();
    if (failure_) return *failure_;
    if (on_launch_ != 0) return error(DGRT_INTERNAL, "work inside launches: {}", line());
    const double growth = most_mib_ - settled_mib_;
    if (growth > allowed_growth_mib || most_files_ > settled_files_ + allowed_files)
      return error(DGRT_INTERNAL, "grew by {:.0f} MiB and {} files: {}", growth,
                   most_files_ - settled_files_, line());
    return line();
  }

 private:
  bool is_over() const { return failed_ || Clock::now() - begin_ >= soak_.duration; }

  void fail(Status status) {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (!failure_) failure_ = std::move(status);
    failed_ = true;
  }

  // One of the contexts that live, or, for every other call, a new one in its place: whose plans
  // must come from disk or the compiler.
  Result<std::shared_ptr<Context>> context(std::mt19937& random) {
    const size_t place = random() % num_contexts;
    std::shared_ptr<Context> before;  // destroyed outside the lock
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      if (contexts_[place] && random() % 2 == 0) return contexts_[place];
    }
    DGRT_ASSIGN(std::shared_ptr<Context> made, Context::create(soak_.options, soak_.parts));
    ++num_contexts_made_;
    const std::lock_guard<std::mutex> guard(mutex_);
    before = std::exchange(contexts_[place], made);
    if (before) add_stats(before->kernels().stats());
    return made;
  }

  // Requires mutex_. A context that others still use counts as far as it has come.
  void add_stats(const dgrt_stats& stats) {
    compiles_ += stats.compiles;
    disk_hits_ += stats.disk_hits;
    quarantined_ += stats.quarantined;
    on_launch_ += stats.launch_compiles + stats.launch_loads;
  }

  Status use_one(std::mt19937& random, uint32_t thread) {
    DGRT_ASSIGN(const std::shared_ptr<Context> owner, context(random));
    const size_t desc_idx = random() % soak_.descs.size();
    DGRT_ASSIGN(const std::unique_ptr<dgrt::Plan> plan,
                dgrt::Plan::create(*owner, soak_.descs[desc_idx]));
    DGRT_TRY(soak_.use(*plan, desc_idx, thread));
    ++num_plans_;
    return ok();
  }

  void use_plans(uint32_t thread) {
    std::mt19937 random(thread + 1);
    while (!is_over())
      if (Status status = use_one(random, thread); !status.is_ok()) return fail(std::move(status));
  }

  std::vector<std::string> entry_files() const {
    std::vector<std::string> files;
    std::error_code error;
    const std::string root = std::string(soak_.options.cache_dir) + "/v1";
    for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
         it.increment(error))
      if (it->path().extension() == ".dge") files.push_back(it->path().string());
    return files;
  }

  // Files may go away at any time: errors are part of the game.
  void spoil_one(const std::vector<std::string>& files, std::mt19937& random) {
    const std::string& file = files[random() % files.size()];
    const std::string& other = files[random() % files.size()];
    std::error_code error;
    const uintmax_t bytes = fs::file_size(file, error);
    if (error || bytes == 0) return;
    ++num_spoiled_;
    switch (random() % 5) {
      case 0: {  // a bit
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        const auto at = static_cast<std::streamoff>(random() % bytes);
        stream.seekg(at);
        const int byte = stream.get();
        stream.seekp(at);
        stream.put(static_cast<char>(byte ^ (1 << random() % 8)));
        return;
      }
      case 1:
        return fs::resize_file(file, random() % bytes, error);
      case 2:
        return (void)fs::remove(file, error);
      case 3:  // the entry of another kernel
        fs::copy_file(other, file + ".soak", fs::copy_options::overwrite_existing, error);
        return fs::rename(file + ".soak", file, error);
      default:
        fs::remove(file, error);
        return fs::create_symlink(other, file, error);
    }
  }

  void spoil() {
    std::mt19937 random(0);
    while (!is_over()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (const std::vector<std::string> files = entry_files(); !files.empty())
        spoil_one(files, random);
      if (random() % 100 != 0) continue;
      const Result<std::unique_ptr<DiskCache>> cache = DiskCache::open(soak_.options.cache_dir);
      if (!cache.is_ok()) return fail(cache.status());
      TrimLimits limits;
      limits.max_bytes = 1 << 16;
      const Result<Trimmed> trimmed = cache.value()->trim(limits);
      if (trimmed.is_ok()) num_evicted_ += trimmed.value().evicted;
    }
  }

  // How long caches of the C library and the driver may fill: a fifth of the time, two thirds of a short
  // one.
  Clock::duration settling_time() const {
    const Clock::duration all = soak_.duration;
    return std::max<Clock::duration>(
        all / 5, std::min<Clock::duration>(all * 2 / 3, std::chrono::seconds(2)));
  }

  void watch() {
    Clock::time_point next = begin_ + report_interval;
    while (!is_over()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      const double mib = resident_mib();
      const int64_t files = open_files();
      if (Clock::now() - begin_ < settling_time()) {
        settled_mib_ = std::max(settled_mib_, mib);
        settled_files_ = std::max(settled_files_, files);
      }
      most_mib_ = std::max(most_mib_, mib);
      most_files_ = std::max(most_files_, files);
      if (Clock::now() < next) continue;
      next += report_interval;
      std::printf("soak: %s, %.0f MiB and %d files now\n", line().c_str(), mib,
                  static_cast<int>(files));
      std::fflush(stdout);
    }
  }

  std::string line() {
    const std::lock_guard<std::mutex> guard(mutex_);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    return fmt::format(
        "{:.0f} s, {} contexts, {} plans made and used, {} files spoiled, {} evicted, {} set "
        "aside, {} compiles, {} disk hits, {} compiles or loads on launch, memory {:.0f} MiB, at "
        "most {:.0f}",
        seconds, num_contexts_made_.load(), num_plans_.load(), num_spoiled_.load(),
        num_evicted_.load(), quarantined_, compiles_, disk_hits_, on_launch_, settled_mib_,
        most_mib_);
  }

  const Soak& soak_;
  const Clock::time_point begin_;
  std::atomic<bool> failed_{false};
  std::atomic<uint64_t> num_contexts_made_{0}, num_plans_{0}, num_spoiled_{0}, num_evicted_{0};
  std::mutex mutex_;
  std::vector<std::shared_ptr<Context>> contexts_ =
      std::vector<std::shared_ptr<Context>>(num_contexts);  // guarded by mutex_, like the rest
  std::optional<Status> failure_;
  uint64_t compiles_ = 0, disk_hits_ = 0, quarantined_ = 0, on_launch_ = 0;
  double settled_mib_ = 0, most_mib_ = 0;  // of the thread that watches
  int64_t settled_files_ = 0, most_files_ = 0;
};

}  // namespace

Result<std::string> Soak::run() const { return Running(*this).run(); }

std::chrono::seconds soak_duration() {
  const char* seconds = std::getenv("DGRT_SOAK_SECONDS");
  return std::chrono::seconds(seconds != nullptr ? std::max(1, std::atoi(seconds)) : 3);
}

}  // namespace dgrt::test
