// Plans: enumerating and choosing, making a plan of many kernels from a warm cache directory (not
// loaded, and loaded onto the device), finding a kernel that the context has, making a key.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/host_cost.h"
#include "runtime/compile/key.h"
#include "runtime/engine/context.h"
#include "runtime/engine/enumerate.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

struct ContextCloser {
  void operator()(dgrt_context* context) const { dgrt_context_destroy(context); }
};
using ContextPtr = std::unique_ptr<dgrt_context, ContextCloser>;

dgrt_context_options options_of(int device, const std::string& cache_dir) {
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = device;
  options.cache_dir = cache_dir.c_str();
  options.log_level = DGRT_LOG_OFF;
  if (device == DGRT_DEVICE_NONE) {
    options.arch = bench_arch;
    options.sm_count = bench_sm_count;
  }
  return options;
}

Result<ContextPtr> make_context(int device, const std::string& cache_dir) {
  const dgrt_context_options options = options_of(device, cache_dir);
  dgrt_context* context = nullptr;
  const dgrt_status status = dgrt_context_create(&options, &context);
  if (status != DGRT_OK) return Status(status, dgrt_last_error());
  return ContextPtr(context);
}

// The layer whose plan holds the most kernels, all of them compiled into a directory.
struct WarmCache {
  test::TempDir dir;
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  std::vector<PlannedKernel> kernels;
  Status status;
};

Status fill(WarmCache* warm) {
  DGRT_ASSIGN(const std::vector<dgrt_gemm_desc> all, model_descs());
  for (const dgrt_gemm_desc& desc : all) {
    DGRT_ASSIGN(std::vector<PlannedKernel> kernels,
                enumerate(&desc.op, {bench_arch, bench_sm_count}));
    if (kernels.size() <= warm->kernels.size()) continue;
    warm->kernels = std::move(kernels);
    warm->desc = desc;
  }
  DGRT_ASSIGN(const ContextPtr context, make_context(DGRT_DEVICE_NONE, warm->dir.path()));
  const dgrt_desc* desc = &warm->desc.op;
  const dgrt_status status = dgrt_prepare(context.get(), &desc, 1, nullptr, nullptr);
  return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
}

const WarmCache& warm_cache() {
  static WarmCache warm;
  static const bool is_filled = [] {
    warm.status = fill(&warm);
    return true;
  }();
  benchmark::DoNotOptimize(is_filled);
  return warm;
}

void enumerate_model(benchmark::State& state) {
  const Result<std::vector<dgrt_gemm_desc>> descs = model_descs();
  if (!descs.is_ok()) return state.SkipWithError(descs.status().message().c_str());
  const dgrt_target target = DGRT_TARGET;
  size_t num_kernels = 0;
  for (auto _ : state) {
    num_kernels = 0;
    for (const dgrt_gemm_desc& desc : descs.value()) {
      const auto count = [](const dgrt_key_info*, void* user) {
        ++*static_cast<size_t*>(user);
        return 0;
      };
      if (dgrt_enumerate(&desc.op, &target, count, &num_kernels) != DGRT_OK)
        return state.SkipWithError(dgrt_last_error());
    }
  }
  state.counters["descs"] = static_cast<double>(descs.value().size());
  state.counters["kernels"] = static_cast<double>(num_kernels);
}

// Time of dgrt_plan_create alone, in a new context each time.
void plan_from_warm_cache(benchmark::State& state, int device) {
  const WarmCache& warm = warm_cache();
  if (!warm.status.is_ok()) return state.SkipWithError(warm.status.message().c_str());
  for (auto _ : state) {
    const Result<ContextPtr> context = make_context(device, warm.dir.path());
    if (!context.is_ok()) return state.SkipWithError(context.status().message().c_str());
    dgrt_plan* plan = nullptr;
    const Clock::time_point start = Clock::now();
    const dgrt_status status = dgrt_gemm_plan_create(context.value().get(), &warm.desc, &plan);
    state.SetIterationTime(seconds_since(start));
    if (status != DGRT_OK) return state.SkipWithError(dgrt_last_error());
    dgrt_plan_destroy(plan);
    dgrt_stats stats = DGRT_STATS;
    dgrt_context_get_stats(context.value().get(), &stats);
    if (stats.compiles != 0) return state.SkipWithError("the cache was not warm");
  }
  state.counters["kernels"] = static_cast<double>(warm.kernels.size());
}

void find_in_memory(benchmark::State& state) {
  const WarmCache& warm = warm_cache();
  if (!warm.status.is_ok()) return state.SkipWithError(warm.status.message().c_str());
  const dgrt_context_options options = options_of(DGRT_DEVICE_NONE, warm.dir.path());
  const Result<std::unique_ptr<Context>> context = Context::create(options);
  if (!context.is_ok()) return state.SkipWithError(context.status().message().c_str());
  KernelStore& store = context.value()->kernels();
  const PlannedKernel& kernel = warm.kernels.front();
  for (auto _ : state) {
    const Result<KernelStore::Got> got =
        store.get(kernel.key, kernel.instance, kernel.smem_bytes, KernelStore::Wait::yes);
    if (!got.is_ok()) return state.SkipWithError(got.status().message().c_str());
    benchmark::DoNotOptimize(got.value().kernel);
  }
}

void make_key(benchmark::State& state) {
  const WarmCache& warm = warm_cache();
  if (!warm.status.is_ok()) return state.SkipWithError(warm.status.message().c_str());
  const Sources sources;
  for (auto _ : state) {
    const Result<Key> key = kernel_key(warm.kernels.front().instance, sources);
    if (!key.is_ok()) return state.SkipWithError(key.status().message().c_str());
    benchmark::DoNotOptimize(key.value());
  }
}

}  // namespace

void register_plan_benchmarks() {
  benchmark::RegisterBenchmark("enumerate/deepseek_v3", enumerate_model)
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("plan_warm/not_loaded", plan_from_warm_cache, DGRT_DEVICE_NONE)
      ->Unit(benchmark::kMillisecond)
      ->UseManualTime()
      ->Iterations(20);
  benchmark::RegisterBenchmark("plan_warm/loaded", plan_from_warm_cache, 0)
      ->Unit(benchmark::kMillisecond)
      ->UseManualTime()
      ->Iterations(10);
  benchmark::RegisterBenchmark("kernel/find_in_memory", find_in_memory);
  benchmark::RegisterBenchmark("kernel/make_key", make_key)->Unit(benchmark::kMicrosecond);
}

}  // namespace dgrt
