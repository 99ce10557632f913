#include "runtime/engine/kernel_store.h"

#include <unistd.h>

#include <chrono>
#include <utility>
#include <vector>

#include "runtime/base/nvtx.h"
#include "runtime/engine/kernel_dump.h"
#include "runtime/engine/kernel_metadata.h"
#include "runtime/engine/launch_scope.h"

namespace dgrt {
namespace {

double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

const char* source_name(dgrt_source source) {
  return source == DGRT_SOURCE_DISK ? "disk" : "compiled";
}

// " (front end 20.0, NVVM 80.0, ptxas 50.0 ms)", or nothing where the compiler does not tell.
std::string phases_text(const std::optional<CompilePhases>& phases) {
  if (!phases) return "";
  return fmt::format(" (front end {:.1f}, NVVM {:.1f}, ptxas {:.1f} ms)", phases->front_ms,
                     phases->nvvm_ms, phases->ptxas_ms);
}

// `status` with the kernel that it is about.
Status about(const Instance& instance, const Key& key, const Status& status) {
  return {status.code(),
          fmt::format("kernel {} (key {}): {}", instance.entry, key.hex(), status.message())};
}

// What an entry says of itself, if that is the kernel of `instance`.
Result<KernelFacts> facts_of(const Entry& entry, const Instance& instance) {
  Result<KernelFacts> facts = read_metadata(entry.metadata);
  if (facts.is_ok() && facts.value().entry != instance.entry)
    facts = invalid("metadata.kernel={}: must be {}", facts.value().entry, instance.entry);
  return facts;
}

}  // namespace

struct KernelStore::Image {
  Entry entry;
  KernelFacts facts;
  dgrt_source source = DGRT_SOURCE_NONE;
  size_t layer = 0;  // of the layers; as many as there are: the cache directory
  std::optional<CompilePhases> phases{};  // of a compile
};

KernelStore::KernelStore(Options options, ReadLayers layers, std::shared_ptr<const Device> device,
                         const Sources& sources, Log& log)
    : options_(std::move(options)),
      device_(std::move(device)),
      sources_(sources),
      log_(log),
      layers_(std::move(layers)) {
  if (options_.cache_dir.empty()) return;
  Result<std::unique_ptr<DiskCache>> disk =
      DiskCache::open(options_.cache_dir, options_.fs ? *options_.fs : real_fs());
  if (!disk.is_ok()) {
    log_.warn("cache directory not usable, kernels are kept in memory only: {}",
              disk.status().message());
    return;
  }
  disk_ = std::move(disk).value();
  disk_->daily_upkeep();
}

Result<KernelStore::Got> KernelStore::get(const Key& key, const Instance& instance,
                                          uint32_t smem_bytes, Wait wait) {
  Result<Got> got = look(key, instance, smem_bytes, wait);
  if (!got.is_ok() || got.value().kernel) count(&dgrt_stats::lookups);  // who is busy comes back
  return got;
}

Result<KernelStore::Got> KernelStore::look(const Key& key, const Instance& instance,
                                           uint32_t smem_bytes, Wait wait) {
  for (;;) {
    if (const Kernel* kernel = lookup(key)) {
      count(&dgrt_stats::memory_hits);
      if (kernel->smem_bytes != smem_bytes)
        return error(DGRT_INTERNAL, "kernel {}: smem_bytes={}, but {} before", kernel->entry,
                     smem_bytes, kernel->smem_bytes);
      return Got{kernel, DGRT_SOURCE_MEMORY};
    }
    bool is_shared = false, was_there = false;
    const auto work = [&]() -> Result<const Kernel*> {
      // Another flight may have ended between the look above and this one.
      const Kernel* kernel = lookup(key);
      was_there = kernel != nullptr;
      if (was_there) return kernel;
      return make(key, instance, smem_bytes, wait);
    };
    Result<const Kernel*> result = flights_.run(key, work, &is_shared);
    if (!result.is_ok()) return about(instance, key, result.status());
    const Kernel* kernel = result.value();
    if (!kernel && wait == Wait::yes) continue;  // shared the flight of someone who does not wait
    if (!kernel) return Got{};
    if (was_there) count(&dgrt_stats::memory_hits);
    if (is_shared) count(&dgrt_stats::shared_waits);
    return Got{kernel, was_there ? dgrt_source{DGRT_SOURCE_MEMORY} : kernel->source};
  }
}

Result<const Kernel*> KernelStore::make(const Key& key, const Instance& instance,
                                        uint32_t smem_bytes, Wait wait) {
  const auto start = std::chrono::steady_clock::now();
  Status refused;  // by the driver, of an image in a layer that is only read
  bool was_moved_aside = false;
  size_t first_layer = 0;
  for (;;) {
    Result<std::optional<Image>> fetched = fetch(key, instance, smem_bytes, wait, first_layer);
    if (!fetched.is_ok()) return refused.is_ok() ? fetched.status() : refused;
    if (!fetched.value()) return nullptr;
    const Image& image = *fetched.value();
    Result<std::unique_ptr<Kernel>> kernel = load(image, instance, smem_bytes);
    if (kernel.is_ok()) {
      log_new(*kernel.value(), image, instance, ms_since(start));
      return keep(std::move(kernel).value());
    }
    const dgrt_status code = kernel.status().code();
    const bool is_damaged = code == DGRT_INTERNAL && image.source == DGRT_SOURCE_DISK;
    if (is_only_read(image) && (is_damaged || code == DGRT_DRIVER_TOO_OLD)) {
      // The layers below may have, or make, one that the driver takes.
      warn_once(fmt::format("{} passed over: {}", instance.entry, kernel.status().message()));
      if (!is_damaged) refused = kernel.status();
      first_layer = image.layer + 1;
    } else if (is_damaged && !was_moved_aside) {
      // A good checksum around the wrong kernel: the entry is damaged, not refused.
      warn_once(fmt::format("cache entry of {} moved aside: {}", instance.entry,
                            kernel.status().message()));
      if (disk_->quarantine(key, image.entry.compiler).is_ok()) count(&dgrt_stats::quarantined);
      was_moved_aside = true;
    } else {
      return kernel.status();
    }
  }
}

bool KernelStore::is_only_read(const Image& image) const {
  return image.source == DGRT_SOURCE_DISK && image.layer < layers_.size();
}

// For the message of a miss.
std::string KernelStore::where() const {
  const std::string read_only = layers_.size() > 0 ? layers_.describe() + ", " : "";
  return read_only + (disk_ ? "the cache directory " + disk_->dir()
                            : "memory, and there is no cache directory");
}

// From a layer from `first_layer` on, the cache directory or the compiler. Nothing: `wait` says to
// leave it.
Result<std::optional<KernelStore::Image>> KernelStore::fetch(const Key& key,
                                                             const Instance& instance,
                                                             uint32_t smem_bytes, Wait wait,
                                                             size_t first_layer) {
  DGRT_ASSIGN(std::optional<Image> image, find(key, instance, first_layer));
  if (image) {
    count(&dgrt_stats::disk_hits);
    return image;
  }
  if (wait == Wait::cached_only) return std::optional<Image>();
  if (options_.explain_misses) explain_miss(key, instance);
  if (options_.miss_policy == DGRT_MISS_ERROR)
    return error(DGRT_MISS, "not in {} and the miss policy forbids compiling", where());
  DGRT_TRY(nvrtc().status());
  std::optional<KeyLock> lock;
  if (disk_) {
    Result<std::optional<KeyLock>> tried = disk_->try_lock(key);
    const bool is_busy = tried.is_ok() && !tried.value();
    if (is_busy && wait == Wait::no) return std::optional<Image>();
    if (is_busy) {
      Result<KeyLock> waited = disk_->lock(key);
      if (waited.is_ok())
        lock.emplace(std::move(waited).value());
      else
        warn_once("compiling without a lock: " + waited.status().message());
    } else if (tried.is_ok()) {
      lock.emplace(std::move(*tried.value()));
    } else {
      warn_once("compiling without a lock: " + tried.status().message());
    }
    // Between the look above and the lock another process may have published.
    DGRT_ASSIGN(image, find_on_disk(key, instance));
    if (image) {
      count(is_busy ? &dgrt_stats::shared_waits : &dgrt_stats::disk_hits);
      return image;
    }
  }
  DGRT_ASSIGN(Image compiled, compile(key, instance, smem_bytes));
  publish(compiled);
  return std::optional<Image>(std::move(compiled));
}

// At the level of warnings: whoever sets DGRT_EXPLAIN wants to see it.
void KernelStore::explain_miss(const Key& key, const Instance& instance) {
  std::call_once(neighbours_once_, [this] { neighbours_ = list_kernels(layers_, disk_.get()); });
  const Result<KeyFields> fields = key_fields(instance, sources_);
  const Result<std::optional<CompilerId>> compiler = wanted_compiler();
  if (!fields.is_ok()) return;  // the caller fails with the same reason
  const CompilerId* wanted = compiler.is_ok() && compiler.value() ? &*compiler.value() : nullptr;
  log_.warn("{}", describe_miss(key, fields.value(), wanted, neighbours_));
}

Result<std::optional<KernelStore::Image>> KernelStore::find(const Key& key,
                                                            const Instance& instance,
                                                            size_t first_layer) {
  if (first_layer >= layers_.size()) return find_on_disk(key, instance);
  DGRT_ASSIGN(const std::optional<CompilerId> compiler, wanted_compiler());
  const ReadLayers::Want want = {compiler ? &*compiler : nullptr,
                                 options_.compiler_policy == CompilerPolicy::exact};
  for (size_t layer = first_layer; layer < layers_.size(); ++layer) {
    ReadLayers::Hit hit = layers_.find(key, want, layer);
    for (const Status& problem : hit.problems) warn_once("cache: " + problem.message());
    if (!hit.entry) break;
    layer = hit.layer;
    Result<KernelFacts> facts = facts_of(*hit.entry, instance);
    if (facts.is_ok())
      return std::optional<Image>(
          Image{std::move(*hit.entry), std::move(facts).value(), DGRT_SOURCE_DISK, layer});
    warn_once("cache entry passed over: " + facts.status().message());
  }
  return find_on_disk(key, instance);
}

Result<std::optional<KernelStore::Image>> KernelStore::find_on_disk(const Key& key,
                                                                    const Instance& instance) {
  if (!disk_) return std::optional<Image>();
  DGRT_ASSIGN(const std::optional<CompilerId> compiler, wanted_compiler());
  Found found = disk_->find(key, compiler ? &*compiler : nullptr);
  for (const Status& problem : found.problems) warn_once("cache: " + problem.message());
  if (found.num_quarantined > 0) count(&dgrt_stats::quarantined, found.num_quarantined);
  if (!found.entry) return std::optional<Image>();
  Result<KernelFacts> facts = facts_of(*found.entry, instance);
  if (!facts.is_ok()) {
    warn_once("cache entry moved aside: " + facts.status().message());
    if (disk_->quarantine(key, found.entry->compiler).is_ok()) count(&dgrt_stats::quarantined);
    return std::optional<Image>();
  }
  return std::optional<Image>(
      Image{std::move(*found.entry), std::move(facts).value(), DGRT_SOURCE_DISK, layers_.size()});
}

std::shared_ptr<WorkerPool> KernelStore::workers(uint32_t max_workers, uint64_t memory_bytes) {
  if (options_.worker_program.empty() || options_.miss_policy == DGRT_MISS_ERROR) return nullptr;
  const Result<std::shared_ptr<const Nvrtc>> compiler = nvrtc();
  if (!compiler.is_ok()) return nullptr;
  const std::lock_guard<std::mutex> guard(mutex_);
  std::shared_ptr<WorkerPool> pool = workers_.lock();
  if (pool) return pool;
  WorkerPool::Options options;
  options.program = options_.worker_program;
  options.arguments = {"worker", "--parent", std::to_string(::getpid()), "--nvrtc",
                       compiler.value()->path()};
  options.compiler = compiler.value()->id();
  options.max_workers = max_workers;
  options.memory_bytes = memory_bytes;
  if (options_.compile_timeout.count() != 0) options.timeout = options_.compile_timeout;
  pool = std::make_shared<WorkerPool>(std::move(options), log_);
  workers_ = pool;
  return pool;
}

// By a worker while there are any, else here.
Result<Compiled> KernelStore::run_compiler(const Key& key, const Instance& instance,
                                           const Nvrtc& compiler) {
  std::shared_ptr<WorkerPool> pool;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    pool = workers_.lock();
  }
  if (pool) {
    DGRT_ASSIGN(std::optional<Compiled> compiled, pool->compile(key, instance));
    if (compiled) return std::move(*compiled);
  }
  return compiler.compile(instance, sources_, true);
}

Result<KernelStore::Image> KernelStore::compile(const Key& key, const Instance& instance,
                                                uint32_t smem_bytes) {
  const NvtxRange range("dgrt compile", instance.entry);
  DGRT_ASSIGN(const std::shared_ptr<const Nvrtc> compiler, nvrtc());
  Result<Compiled> result = run_compiler(key, instance, *compiler);
  if (!result.is_ok()) {
    count(&dgrt_stats::compile_failures);
    return result.status();
  }
  const Compiled& compiled = result.value();
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    ++stats_.compiles;
    stats_.launch_compiles += LaunchScope::is_inside();
    stats_.compile_ms += compiled.total_ms;
  }
  if (!options_.dump_dir.empty()) {
    const Status status = dump_kernel(options_.dump_dir, key, instance, compiled);
    if (!status.is_ok()) warn_once(status.message());
  }
  if (compiled.spills() && !instance.allow_spills)
    log_.warn("kernel {} spills registers: {} bytes stored, {} loaded per thread", instance.entry,
              compiled.spill_store_bytes, compiled.spill_load_bytes);
  Image image;
  image.entry.key = key;
  image.entry.compiler = compiler->id();
  DGRT_ASSIGN(const KeyFields fields, key_fields(instance, sources_));
  image.entry.metadata = make_metadata(instance, fields, smem_bytes, compiled);
  const auto* bytes = reinterpret_cast<const std::byte*>(compiled.cubin.data());
  image.entry.cubin.assign(bytes, bytes + compiled.cubin.size());
  image.facts = {instance.entry, compiled.num_registers,
                 compiled.spill_store_bytes + compiled.spill_load_bytes};
  image.source = DGRT_SOURCE_COMPILED;
  image.phases = compiled.phases;
  return image;
}

void KernelStore::publish(const Image& image) {
  if (!disk_) return;
  const Status status = disk_->publish(image.entry);
  if (status.is_ok()) return keep_cache_below_cap();
  count(&dgrt_stats::publish_failures);
  // The reason may name a different temporary file each time; one warning per context is enough.
  bool is_first = false;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    is_first = stats_.publish_failures == 1;
  }
  if (is_first)
    log_.warn("a compiled kernel could not be stored and is used from memory: {}",
              status.message());
  else
    log_.debug("kernel {} could not be stored: {}", image.facts.entry, status.message());
}

void KernelStore::keep_cache_below_cap() {
  const Result<Trimmed> trimmed = disk_->keep_below(options_.cache_max_bytes);
  if (!trimmed.is_ok()) {
    warn_once("cache not kept below its size: " + trimmed.status().message());
    return;
  }
  if (trimmed.value().evicted == 0) return;
  count(&dgrt_stats::evicted, trimmed.value().evicted);
  count(&dgrt_stats::evicted_bytes, trimmed.value().evicted_bytes);
  log_.info("{} kernels, {} bytes, removed from the cache directory, {} bytes stay",
            trimmed.value().evicted, trimmed.value().evicted_bytes, trimmed.value().kept_bytes);
}

Result<std::unique_ptr<Kernel>> KernelStore::load(const Image& image, const Instance& instance,
                                                  uint32_t smem_bytes) {
  auto kernel = std::make_unique<Kernel>();
  kernel->key = image.entry.key;
  kernel->entry = instance.entry;
  kernel->source = image.source;
  kernel->num_registers = image.facts.num_registers;
  kernel->smem_bytes = smem_bytes;
  if (!device_) return kernel;
  const NvtxRange range("dgrt load", instance.entry);
  KernelImage code;
  code.cubin = {reinterpret_cast<const uint8_t*>(image.entry.cubin.data()),
                image.entry.cubin.size()};
  code.entry = instance.entry;
  code.compiler = image.entry.compiler.name();
  code.smem_bytes = smem_bytes;
  code.params_bytes = instance.params_bytes;
  // One at a time: threads that load together wait in the driver, which takes half as long again (206
  // kernels 63 ms, by two or more threads 95 to 125; H100, driver 580.159, 2026-11-26).
  const auto load_alone = [&] {
    const std::lock_guard<std::mutex> guard(load_mutex_);
    return LoadedKernel::load(device_, code);
  };
  DGRT_ASSIGN(LoadedKernel loaded, load_alone());
  count(&dgrt_stats::kernel_loads);
  if (LaunchScope::is_inside()) count(&dgrt_stats::launch_loads);
  kernel->num_registers = loaded.num_registers();
  kernel->loaded = std::move(loaded);
  return kernel;
}

void KernelStore::log_new(const Kernel& kernel, const Image& image, const Instance& instance,
                          double ms) {
  log_.info("{}: kernel {} for {}: {} in {:.1f} ms{}, {} registers, {} spill bytes, key {}",
            instance.stem, kernel.entry, instance.arch, source_name(kernel.source), ms,
            phases_text(image.phases), kernel.num_registers, image.facts.spill_bytes,
            kernel.key.hex());
}

const Kernel* KernelStore::lookup(const Key& key) const {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto it = kernels_.find(key);
  return it == kernels_.end() ? nullptr : it->second.get();
}

const Kernel* KernelStore::keep(std::unique_ptr<Kernel> kernel) {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::unique_ptr<Kernel>& place = kernels_[kernel->key];
  place = std::move(kernel);
  return place.get();
}

Result<std::shared_ptr<const Nvrtc>> KernelStore::nvrtc() {
  const std::lock_guard<std::mutex> guard(nvrtc_mutex_);
  if (!nvrtc_ && options_.compiler) nvrtc_ = options_.compiler;
  if (!nvrtc_) nvrtc_ = Nvrtc::load();
  return *nvrtc_;
}

Result<std::optional<CompilerId>> KernelStore::wanted_compiler() {
  const bool may_compile = options_.miss_policy != DGRT_MISS_ERROR;
  if (options_.compiler_policy == CompilerPolicy::any) return std::optional<CompilerId>();
  if (options_.compiler_policy == CompilerPolicy::automatic && !may_compile)
    return std::optional<CompilerId>();
  const Result<std::shared_ptr<const Nvrtc>> compiler = nvrtc();
  if (compiler.is_ok()) return std::optional<CompilerId>(compiler.value()->id());
  if (options_.compiler_policy == CompilerPolicy::exact) return compiler.status();
  return std::optional<CompilerId>();
}

void KernelStore::warn_once(const std::string& text) {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (!warned_.insert(text).second) return;
  }
  log_.warn("{}", text);
}

void KernelStore::count(uint64_t dgrt_stats::*counter, uint64_t n) {
  const std::lock_guard<std::mutex> guard(mutex_);
  stats_.*counter += n;
}

dgrt_stats KernelStore::stats() const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return stats_;
}

}  // namespace dgrt
