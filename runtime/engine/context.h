// Context: one device, or none (compile only), with everything that its plans share: the resolved
// environment, the log, the tables and the kernels. Nothing in dgrt is global.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "heuristics/table.h"
#include "runtime/base/env.h"
#include "runtime/base/log.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/kernel_store.h"
#include "runtime/engine/selection.h"

namespace dgrt {

class Driver;

// Thread safe after creation. Outlives its plans (the caller sees to that).
class Context {
 public:
  // `options` of any size a caller may have; NULL: defaults. `ops` outlives the context.
  static Result<std::unique_ptr<Context>> create(const dgrt_context_options* options,
                                                 const OpList& ops = all_ops());
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const OpList& ops() const { return *ops_; }
  const Target& target() const { return target_; }
  const Driver* driver() const { return driver_.get(); }  // NULL without a device
  Log& log() { return *log_; }
  KernelStore& kernels() { return *kernels_; }
  const Table& table(const OpImpl& op) const;

  // select() with this context's target and table; warns once per unusable table rule.
  Result<Selection> choose(const DescCopy& desc);

  Status prepare(const dgrt_desc* const* descs, size_t num_descs, dgrt_progress_fn progress, void* user);

 private:
  Context() = default;
  Status open_device(const dgrt_context_options& options);
  Status load_tables();

  const OpList* ops_ = nullptr;
  Env env_;
  Target target_;
  uint32_t num_jobs_ = 0;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Driver> driver_;
  std::map<std::string, Table> tables_;  // by stem
  std::mutex warned_mutex_;
  std::set<std::string> warned_;         // guarded by warned_mutex_
  std::unique_ptr<KernelStore> kernels_;  // last: its kernels are unloaded before the driver goes
};

// dgrt_enumerate: the kernels that a plan of `desc` on `target` holds, in the plan's order.
struct PlannedKernel {
  Key key;
  Instance instance;
  Config config;  // of the first choice that uses the kernel
};
Result<std::vector<PlannedKernel>> enumerate(const dgrt_desc* desc, const dgrt_target* target,
                                             const OpList& ops = all_ops());

}  // namespace dgrt
