#include "runtime/engine/prepare.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/base/machine.h"
#include "runtime/engine/enumerate.h"

namespace dgrt {
namespace {

using Clock = std::chrono::steady_clock;

// A worker takes about as long to start as it then takes for one GEMM kernel, so for fewer kernels
// threads are done sooner.
constexpr size_t min_kernels_for_workers = 4;

// One list of kernels, worked on by several threads.
class Preparation {
 public:
  Preparation(Context& context, std::vector<PlannedKernel> kernels, dgrt_progress_fn progress,
              void* user)
      : context_(context),
        kernels_(std::move(kernels)),
        results_(kernels_.size()),
        progress_(progress),
        user_(user) {}

  // The first failure in list order.
  Status run() {
    const MachineLimits machine = machine_limits();
    const uint32_t num_jobs = context_.num_jobs() ? context_.num_jobs() : machine.num_cpus;
    std::vector<size_t> all(kernels_.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    pass(std::move(all), num_jobs, KernelStore::Wait::cached_only);
    std::shared_ptr<WorkerPool> workers;
    uint32_t num_threads = num_jobs;
    if (num_jobs > 1 && left_.size() >= min_kernels_for_workers) {
      // A number of jobs that was asked for is the asker's to answer for; half of what is free
      // stays free otherwise.
      const uint64_t memory = context_.num_jobs() ? UINT64_MAX : machine.memory_bytes / 2;
      workers = context_.kernels().workers(num_jobs, memory);
    }
    // Some threads more than workers: while one stores what it got, its worker has another to serve.
    if (workers) num_threads = workers->limit() + (workers->limit() + 1) / 2;
    context_.log().info("prepare: {} of {} kernels to compile, by up to {}", left_.size(),
                        kernels_.size(),
                        workers ? fmt::format("{} worker processes", workers->limit())
                                : fmt::format("{} threads", num_jobs));
    pass(std::move(left_), num_threads, KernelStore::Wait::no);
    pass(std::move(left_), num_threads, KernelStore::Wait::yes);
    for (Status& status : results_)
      if (!status.is_ok()) return std::move(status);
    return ok();
  }

 private:
  void pass(std::vector<size_t> todo, uint32_t num_threads, KernelStore::Wait wait) {
    left_.clear();
    std::sort(todo.begin(), todo.end());
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < todo.size(); i = next++) make(todo[i], wait);
    };
    std::vector<std::thread> threads;
    const size_t num_wanted = std::min<size_t>(num_threads, todo.size());
    try {
      while (threads.size() + 1 < num_wanted) threads.emplace_back(work);
    } catch (const std::system_error& error) {
      context_.log().warn("prepare: only {} threads could be started", threads.size());
    }
    work();
    for (std::thread& thread : threads) thread.join();
  }

  void make(size_t kernel_idx, KernelStore::Wait wait) {
    const Clock::time_point start = Clock::now();
    const PlannedKernel& kernel = kernels_[kernel_idx];
    Result<KernelStore::Got> got = get(kernel, wait);
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    const std::lock_guard<std::mutex> guard(mutex_);
    if (got.is_ok() && !got.value().kernel) {
      left_.push_back(kernel_idx);
      return;
    }
    results_[kernel_idx] = got.is_ok() ? ok() : got.status();
    report(kernel, results_[kernel_idx],
           got.is_ok() ? got.value().source : dgrt_source{DGRT_SOURCE_NONE}, ms);
  }

  // Nothing may leave a thread, not even a failed allocation.
  Result<KernelStore::Got> get(const PlannedKernel& kernel, KernelStore::Wait wait) {
    try {
      return context_.kernels().get(kernel.key, kernel.instance, kernel.smem_bytes, wait);
    } catch (const std::exception& exception) {
      return error(DGRT_INTERNAL, "kernel {}: {}", kernel.instance.entry, exception.what());
    }
  }

  // Requires mutex_.
  void report(const PlannedKernel& kernel, const Status& status, dgrt_source source, double ms) {
    ++num_done_;
    if (!progress_) return;
    dgrt_progress progress{};
    progress.struct_size = sizeof(progress);
    progress.status = status.code();
    progress.done = num_done_;
    progress.total = static_cast<uint32_t>(kernels_.size());
    progress.kernel = kernel.instance.entry.c_str();
    progress.message = status.message().c_str();
    progress.source = source;
    progress.ms = static_cast<float>(ms);
    progress_(&progress, user_);
  }

  Context& context_;
  const std::vector<PlannedKernel> kernels_;
  std::mutex mutex_;
  std::vector<Status> results_;  // guarded by mutex_ while threads run, like the next two
  std::vector<size_t> left_;
  uint32_t num_done_ = 0;
  const dgrt_progress_fn progress_;
  void* const user_;
};

Result<PlannedKernels> plan_desc(Context& context, const dgrt_desc* desc) {
  if (!desc) return invalid("is NULL");
  DGRT_ASSIGN(const DescCopy copy, DescCopy::make(desc, context.ops()));
  DGRT_ASSIGN(const Selection selection, context.choose(copy));
  return planned_kernels(copy, selection, context.target(), context.sources());
}

}  // namespace

bool Shard::holds(const Key& key) const {
  uint64_t number = 0;  // keys are hashes, so any eight of their bytes spread evenly
  for (size_t i = 0; i < sizeof(number); ++i) number = number << 8 | key.bytes[i];
  return number % count == index;
}

std::vector<PlannedKernel> plan_kernels(Context& context, const dgrt_desc* const* descs,
                                        size_t num_descs, const Shard& shard, Status* failure) {
  std::set<Key> seen;
  std::vector<PlannedKernel> kernels;
  for (size_t i = 0; i < num_descs; ++i) {
    Result<PlannedKernels> planned = plan_desc(context, descs[i]);
    if (!planned.is_ok()) {
      if (failure->is_ok())
        *failure = Status(planned.status().code(),
                          fmt::format("descs[{}]: {}", i, planned.status().message()));
      continue;
    }
    for (PlannedKernel& kernel : planned.value().kernels)
      if (shard.holds(kernel.key) && seen.insert(kernel.key).second)
        kernels.push_back(std::move(kernel));
  }
  return kernels;
}

Status prepare(Context& context, const dgrt_desc* const* descs, size_t num_descs,
               dgrt_progress_fn progress, void* user, const Shard& shard) {
  Status first;
  Status status =
      prepare(context, plan_kernels(context, descs, num_descs, shard, &first), progress, user);
  return first.is_ok() ? status : first;
}

Status prepare(Context& context, std::vector<PlannedKernel> kernels, dgrt_progress_fn progress,
               void* user) {
  return Preparation(context, std::move(kernels), progress, user).run();
}

}  // namespace dgrt
