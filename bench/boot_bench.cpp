// Boot: a fresh context from a full cache to every kernel loaded and every plan made, from a
// directory and from a bundle, with compiling forbidden. Without a GPU the same to kernels that are
// read and checked. Kernels that DGRT_CACHE_DIR lacks, or all if it is not set, are compiled before.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bench/host_cost.h"
#include "cache/bundle.h"
#include "cache/disk_cache.h"
#include "runtime/engine/plan.h"
#include "runtime/engine/prepare.h"
#include "tests/support/temp_dir.h"
#include "tools/bench_shapes.h"

namespace dgrt {
namespace {

constexpr size_t num_boot_kernels = 200;

// Layers of all models and ops until their plans hold 200 kernels. The last one may add a few more.
Result<std::vector<BenchDesc>> boot_descs() {
  std::vector<BenchDesc> descs;
  std::set<Key> keys;
  for (const OpImpl* op : all_ops()) {
    DGRT_ASSIGN(const std::vector<BenchDesc> layers, layer_descs(op->stem));
    for (const BenchDesc& desc : layers) {
      if (keys.size() >= num_boot_kernels) return descs;
      DGRT_ASSIGN(const std::vector<PlannedKernel> kernels,
                  enumerate(base(desc), {bench_arch, bench_sm_count}));
      for (const PlannedKernel& kernel : kernels) keys.insert(kernel.key);
      descs.push_back(desc);
    }
  }
  if (keys.size() < num_boot_kernels)
    return error(DGRT_INTERNAL, "the shapes ask for {} kernels alone", keys.size());
  return descs;
}

dgrt_context_options quiet_options(int device) {
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = device;
  options.log_level = DGRT_LOG_OFF;
  if (device == DGRT_DEVICE_NONE) {
    options.arch = bench_arch;
    options.sm_count = bench_sm_count;
  }
  return options;
}

// A directory and a bundle that hold the kernels of `descs`.
struct BootCache {
  test::TempDir temp;
  std::string dir, bundle;
  std::vector<BenchDesc> descs;
  std::vector<const dgrt_desc*> pointers;
  std::vector<PlannedKernel> kernels;
};

Status write_boot_bundle(const BootCache& boot) {
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, DiskCache::open(boot.dir));
  std::vector<std::vector<std::byte>> entries;
  for (const PlannedKernel& kernel : boot.kernels) {
    const Found found = cache->find(kernel.key, nullptr);
    if (!found.entry) return error(DGRT_INTERNAL, "{} is not cached", kernel.instance.entry);
    entries.push_back(serialize(*found.entry));
  }
  DGRT_ASSIGN(const std::vector<std::byte> file, make_bundle({entries.begin(), entries.end()}));
  return write_bundle(boot.bundle, file);
}

Status fill(BootCache* boot) {
  const char* dir = std::getenv("DGRT_CACHE_DIR");
  boot->dir = dir != nullptr ? dir : boot->temp.path() + "/cache";
  boot->bundle = boot->temp.path() + "/boot.dgb";
  DGRT_ASSIGN(boot->descs, boot_descs());
  for (const BenchDesc& desc : boot->descs) boot->pointers.push_back(base(desc));
  dgrt_context_options options = quiet_options(DGRT_DEVICE_NONE);
  options.cache_dir = boot->dir.c_str();
  DGRT_ASSIGN(const std::unique_ptr<Context> context, Context::create(options));
  Status status;
  boot->kernels = plan_kernels(*context, boot->pointers.data(), boot->pointers.size(), {}, &status);
  DGRT_TRY(status);
  DGRT_TRY(prepare(*context, boot->pointers.data(), boot->pointers.size(), nullptr, nullptr));
  return write_boot_bundle(*boot);
}

const Result<std::unique_ptr<BootCache>>& boot_cache() {
  static const Result<std::unique_ptr<BootCache>> cache =
      []() -> Result<std::unique_ptr<BootCache>> {
    auto boot = std::make_unique<BootCache>();
    DGRT_TRY(fill(boot.get()));
    return boot;
  }();
  return cache;
}

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  double total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

struct Boot {
  std::unique_ptr<Context> context;
  std::vector<std::unique_ptr<Plan>> plans;
  double kernels_ms = 0;  // of all, read and loaded by one thread
};

Result<Boot> boot_once(const BootCache& cache, bool from_bundle, int device) {
  Boot boot;
  dgrt_context_options options = quiet_options(device);
  options.miss_policy = DGRT_MISS_ERROR;
  options.cache_dir = from_bundle ? "" : cache.dir.c_str();
  if (from_bundle) options.bundle_path = cache.bundle.c_str();
  DGRT_ASSIGN(boot.context, Context::create(options));
  const Clock::time_point start = Clock::now();
  for (const PlannedKernel& kernel : cache.kernels) {
    DGRT_TRY(boot.context->kernels()
                 .get(kernel.key, kernel.instance, kernel.smem_bytes, KernelStore::Wait::yes)
                 .status());
  }
  boot.kernels_ms = 1e3 * seconds_since(start);
  for (const dgrt_desc* desc : cache.pointers) {
    DGRT_ASSIGN(std::unique_ptr<Plan> plan, Plan::create(*boot.context, desc));
    boot.plans.push_back(std::move(plan));
  }
  return boot;
}

void boot(benchmark::State& state, bool from_bundle, int device) {
  if (!boot_cache().is_ok()) return state.SkipWithError(boot_cache().status().message().c_str());
  const BootCache& cache = *boot_cache().value();
  // An engine has a CUDA context already; making one is not dgrt's cost.
  const Result<std::unique_ptr<Context>> other = Context::create(quiet_options(device));
  if (!other.is_ok()) return state.SkipWithError(("skipped: " + other.status().message()).c_str());
  double kernels_ms = 0, first_mib = 0;
  for (auto _ : state) {
    const double before = resident_mib();
    const Clock::time_point start = Clock::now();
    const Result<Boot> booted = boot_once(cache, from_bundle, device);
    state.SetIterationTime(seconds_since(start));
    if (!booted.is_ok()) return state.SkipWithError(booted.status().message().c_str());
    if (first_mib == 0) first_mib = resident_mib() - before;
    kernels_ms += booted.value().kernels_ms;
    const dgrt_stats stats = booted.value().context->kernels().stats();
    if (stats.compiles != 0) return state.SkipWithError("the cache was not warm");
  }
  state.counters["kernels"] = static_cast<double>(cache.kernels.size());
  state.counters["plans"] = static_cast<double>(cache.pointers.size());
  state.counters["kernels_ms"] = benchmark::Counter(kernels_ms, benchmark::Counter::kAvgIterations);
  state.counters["first_mib"] = first_mib;  // what the first boot adds to the process
}

}  // namespace

void register_boot_benchmarks() {
  for (const auto& [name, device] : {std::pair{"loaded", 0}, {"not_loaded", DGRT_DEVICE_NONE}})
    for (const auto& [from, from_bundle] : {std::pair{"bundle", true}, {"directory", false}})
      benchmark::RegisterBenchmark((std::string("boot/") + from + "/" + name).c_str(), boot,
                                   from_bundle, device)
          ->Unit(benchmark::kMillisecond)
          ->UseManualTime()
          ->Iterations(10);
}

}  // namespace dgrt
