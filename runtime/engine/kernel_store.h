// KernelStore: where a context's kernels come from. In order: the table of this context, bundles
// and read-only directories, the cache directory, the compiler. However many threads and processes
// ask for a kernel at once, one of them compiles it. Trouble with the cache never stops a kernel
// that can be compiled, and a missing compiler never stops one that is cached.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache/disk_cache.h"
#include "cache/read_layers.h"
#include "cache/single_flight.h"
#include "runtime/base/env.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/compile/sources.h"
#include "runtime/driver/device.h"
#include "runtime/driver/module.h"
#include "runtime/engine/miss_report.h"
#include "runtime/engine/worker_pool.h"

namespace dgrt {

// A kernel that is ready to use. Immutable; lives as long as its store.
struct Kernel {
  Key key;
  std::string entry;                      // "sm90_gemm_fp8_128x128_s5_c2x1"
  dgrt_source source = DGRT_SOURCE_NONE;  // disk or compiled
  uint32_t num_registers = 0;             // per thread
  uint32_t smem_bytes = 0;                // dynamic, per block, that it was loaded for
  std::optional<LoadedKernel> loaded;     // empty without a device
};

// Thread safe.
class KernelStore {
 public:
  struct Options {
    std::string cache_dir;  // "": memory only
    uint64_t cache_max_bytes = std::numeric_limits<uint64_t>::max();
    dgrt_miss_policy miss_policy = DGRT_MISS_COMPILE;
    CompilerPolicy compiler_policy = CompilerPolicy::automatic;
    std::string dump_dir;  // "": no dumps
    bool explain_misses = false;
    std::shared_ptr<const Nvrtc> compiler;         // null: the system's, once it is needed
    FileSystem* fs = nullptr;                      // of the cache; null: the real one
    std::string worker_program;                    // "": workers() gives none
    std::chrono::milliseconds compile_timeout{0};  // of workers; 0: the pool's default
  };
  // If a kernel is in no cache: compile it, compile it unless another process is at it, or leave it.
  enum class Wait { yes, no, cached_only };
  struct Got {
    const Kernel* kernel = nullptr;  // null: not there, and the caller does not wait
    dgrt_source source = DGRT_SOURCE_NONE;
  };

  // An unusable cache directory is logged once, here. `device` may be null; `sources` and `log`
  // outlive the store.
  KernelStore(Options options, ReadLayers layers, std::shared_ptr<const Device> device,
              const Sources& sources, Log& log);
  KernelStore(const KernelStore&) = delete;
  KernelStore& operator=(const KernelStore&) = delete;

  // The kernel of an instance whose key is `key`, loaded if there is a device. `smem_bytes`:
  // dynamic shared memory of its launches, a function of the instance. Failures are not remembered.
  Result<Got> get(const Key& key, const Instance& instance, uint32_t smem_bytes, Wait wait);

  // Workers that compile for this store as long as somebody holds them: at most `max_workers`, in
  // `memory_bytes` together. Null: there is no program or compiler for them.
  std::shared_ptr<WorkerPool> workers(uint32_t max_workers, uint64_t memory_bytes);

  // Whose entries are taken; nothing: anyone's, newest first. Opens the compiler's library only if
  // the answer depends on it.
  Result<std::optional<CompilerId>> wanted_compiler();

  dgrt_stats stats() const;

 private:
  struct Image;  // a cubin and what is known about it
  Result<Got> look(const Key& key, const Instance& instance, uint32_t smem_bytes, Wait wait);
  Result<const Kernel*> make(const Key& key, const Instance& instance, uint32_t smem_bytes,
                             Wait wait);
  Result<std::optional<Image>> fetch(const Key& key, const Instance& instance, uint32_t smem_bytes,
                                     Wait wait, size_t first_layer);
  Result<std::optional<Image>> find(const Key& key, const Instance& instance, size_t first_layer);
  Result<std::optional<Image>> find_on_disk(const Key& key, const Instance& instance);
  void explain_miss(const Key& key, const Instance& instance);
  bool is_only_read(const Image& image) const;
  std::string where() const;
  Result<Compiled> run_compiler(const Key& key, const Instance& instance, const Nvrtc& compiler);
  Result<Image> compile(const Key& key, const Instance& instance, uint32_t smem_bytes);
  void publish(const Image& image);
  void keep_cache_below_cap();
  Result<std::unique_ptr<Kernel>> load(const Image& image, const Instance& instance,
                                       uint32_t smem_bytes);
  void log_new(const Kernel& kernel, const Image& image, const Instance& instance, double ms);
  const Kernel* lookup(const Key& key) const;
  const Kernel* keep(std::unique_ptr<Kernel> kernel);

  Result<std::shared_ptr<const Nvrtc>> nvrtc();
  void warn_once(const std::string& text);
  void count(uint64_t dgrt_stats::*counter, uint64_t n = 1);

  const Options options_;
  const std::shared_ptr<const Device> device_;
  const Sources& sources_;
  Log& log_;
  const ReadLayers layers_;
  std::unique_ptr<DiskCache> disk_;  // null: memory only
  SingleFlight<const Kernel*> flights_;
  std::once_flag neighbours_once_;
  std::vector<CachedKernel> neighbours_;  // of explain_miss(): what was cached at the first miss
  mutable std::mutex mutex_;
  std::map<Key, std::unique_ptr<Kernel>> kernels_;  // guarded by mutex_
  std::set<std::string> warned_;                    // guarded by mutex_
  dgrt_stats stats_ = DGRT_STATS;                   // guarded by mutex_
  std::weak_ptr<WorkerPool> workers_;               // guarded by mutex_
  std::mutex load_mutex_;  // held while the driver loads a kernel, guards nothing
  std::mutex nvrtc_mutex_;
  std::optional<Result<std::shared_ptr<const Nvrtc>>> nvrtc_;  // guarded by nvrtc_mutex_
};

}  // namespace dgrt
