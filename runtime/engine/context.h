// Context: one device, or none (compile only), with everything that its plans share: the resolved
// environment, the log, the tables and the kernels. Nothing in dgrt is global.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "heuristics/table.h"
#include "runtime/base/env.h"
#include "runtime/base/log.h"
#include "runtime/compile/sources.h"
#include "runtime/driver/device.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/kernel_store.h"
#include "runtime/engine/recorder.h"
#include "runtime/engine/selection.h"

namespace dgrt {

// What a context stands on; tests bring their own. Everything outlives the context.
struct ContextParts {
  const OpList* ops = &all_ops();
  std::shared_ptr<const Driver> driver;   // null: the system's libcuda
  FileSystem* fs = nullptr;               // of the cache directory; null: the real one
  std::shared_ptr<const Nvrtc> compiler;  // null: the system's libnvrtc, once it is needed
};

// Thread safe after creation. Outlives its plans (the caller sees to that).
class Context {
 public:
  // Requires: options.struct_size is that of this library. Strings in options are copied.
  static Result<std::unique_ptr<Context>> create(const dgrt_context_options& options,
                                                 const ContextParts& parts = {});
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const OpList& ops() const { return *ops_; }
  const Target& target() const { return target_; }
  const Device* device() const { return device_.get(); }  // null: compile only
  const Sources& sources() const { return *sources_; }
  Log& log() { return *log_; }
  KernelStore& kernels() { return *kernels_; }
  const KernelStore& kernels() const { return *kernels_; }
  // Kernels that dgrt_prepare works on at a time, as the caller wants it. 0: what the machine bears.
  uint32_t num_jobs() const { return num_jobs_; }
  Recorder& recorder() { return *recorder_; }
  // Requires: the op is in ops().
  const Table& table(const OpImpl& op) const { return tables_.at(op.stem); }

  // select() with this context's target and table; warns once of each table rule that is unusable.
  // Layers with equal descs, and dgrt_prepare before dgrt_plan_create, are chosen for once.
  Result<Selection> choose(const DescCopy& desc);

 private:
  Context() = default;
  Status open_target(const dgrt_context_options& options, std::shared_ptr<const Driver> driver);
  Status open_kernels(const dgrt_context_options& options, const Env& env,
                      const ContextParts& parts);

  const OpList* ops_ = nullptr;
  Target target_;
  uint32_t num_jobs_ = 0;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Sources> sources_;
  std::shared_ptr<const Device> device_;
  std::map<std::string, Table> tables_;  // by stem
  std::mutex chosen_mutex_;
  std::map<std::string, Selection> chosen_;  // by stem and desc; guarded by chosen_mutex_
  std::mutex warned_mutex_;
  std::set<std::string> warned_;  // guarded by warned_mutex_
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<KernelStore> kernels_;  // last: it uses the members above
};

}  // namespace dgrt
