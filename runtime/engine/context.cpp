#include "runtime/engine/context.h"

#include "runtime/base/nvtx.h"
#include "runtime/engine/enumerate.h"

namespace dgrt {
namespace {

constexpr uint64_t default_cache_max_bytes = uint64_t{4} << 30;
constexpr size_t max_chosen = 1024;  // selections that are remembered, about 10 KB each

Status check_options(const dgrt_context_options& options) {
  if (options.device < DGRT_DEVICE_NONE)
    return invalid("device={}: must be a device's number or DGRT_DEVICE_NONE", options.device);
  if (options.miss_policy > DGRT_MISS_ERROR)
    return invalid("miss_policy={}: must be a DGRT_MISS_ constant", options.miss_policy);
  if (options.log_level > DGRT_LOG_OFF)
    return invalid("log_level={}: must be a DGRT_LOG_ constant", options.log_level);
  if (options.reserved != 0) return invalid("reserved={}: must be 0", options.reserved);
  if (options.device != DGRT_DEVICE_NONE) return ok();
  if (!options.arch) return invalid("arch=NULL: must be given without a device");
  if (options.sm_count == 0) return invalid("sm_count=0: must be given without a device");
  return ok();
}

std::string cache_dir_of(const dgrt_context_options& options, const Env& env) {
  if (options.cache_dir) return options.cache_dir;
  if (!env.cache_dir.empty()) return env.cache_dir;
  return default_cache_dir().value_or("");
}

// A path and its digests belong together: the environment's digests are not held against the
// options' bundles.
Result<ReadLayers> open_layers(const dgrt_context_options& options, const Env& env, FileSystem& fs,
                               std::vector<Status>* problems) {
  const std::string bundles = options.bundle_path ? options.bundle_path : env.bundle_path;
  const std::string env_digests = options.bundle_path ? "" : env.bundle_digest;
  return ReadLayers::open(bundles, options.bundle_digest ? options.bundle_digest : env_digests,
                          options.cache_ro_path ? options.cache_ro_path : env.cache_ro_path, fs,
                          problems, options.bundle_public_key ? options.bundle_public_key : "");
}

}  // namespace

Result<std::unique_ptr<Context>> Context::create(const dgrt_context_options& options,
                                                 const ContextParts& parts) {
  DGRT_TRY(check_options(options));
  DGRT_ASSIGN(const Env env, read_env());
  std::unique_ptr<Context> context(new Context);
  context->ops_ = parts.ops;
  const dgrt_log_level level = options.log_level ? options.log_level : env.log_level;
  context->log_ = std::make_unique<Log>(level, options.log_fn, options.log_user);
  context->num_jobs_ = options.num_jobs;
  if (const Status status = open_nvtx(env.nvtx_injection); !status.is_ok())
    context->log_->warn("{}", status.message());
  DGRT_TRY(context->open_target(options, parts.driver));
  context->sources_ = std::make_unique<Sources>(env.kernels_dir);
  std::vector<std::string> warnings;
  for (const OpImpl* op : *parts.ops)
    context->tables_[op->stem] =
        load_table(*op, *context->sources_, env.heuristics_path, &warnings);
  for (const std::string& warning : warnings)
    if (context->warned_.insert(warning).second) context->log_->warn("{}", warning);
  DGRT_TRY(context->open_kernels(options, env, parts));
  context->recorder_ = std::make_unique<Recorder>(env.record_path, *context->log_);
  return context;
}

Status Context::open_target(const dgrt_context_options& options,
                            std::shared_ptr<const Driver> driver) {
  if (options.device == DGRT_DEVICE_NONE) {
    target_ = {options.arch, options.sm_count};
    return check_target(target_);
  }
  if (!driver) {
    DGRT_ASSIGN(driver, Driver::load());
  }
  DGRT_ASSIGN(device_, Device::open(std::move(driver), options.device));
  target_ = {device_->arch(), device_->sm_count()};
  if (options.arch && options.arch != target_.arch)
    return invalid("arch={}: device {} is {}", options.arch, options.device, target_.arch);
  if (options.sm_count > target_.sm_count)
    return invalid("sm_count={}: device {} has {}", options.sm_count, options.device,
                   target_.sm_count);
  if (options.sm_count != 0) target_.sm_count = options.sm_count;
  return check_target(target_);
}

Status Context::open_kernels(const dgrt_context_options& options, const Env& env,
                             const ContextParts& parts) {
  KernelStore::Options store;
  store.cache_dir = cache_dir_of(options, env);
  store.cache_max_bytes =
      options.cache_max_bytes ? options.cache_max_bytes : default_cache_max_bytes;
  store.miss_policy = options.miss_policy ? options.miss_policy : env.miss_policy;
  store.compiler_policy = env.compiler_policy;
  store.dump_dir = env.dump_dir;
  store.explain_misses = env.explain_misses;
  store.fs = parts.fs;
  store.compiler = parts.compiler;
  store.worker_program = find_worker_program(options.worker_path);
  store.compile_timeout = std::chrono::seconds(options.compile_timeout_s);
  std::vector<Status> problems;
  DGRT_ASSIGN(ReadLayers layers,
              open_layers(options, env, parts.fs ? *parts.fs : real_fs(), &problems));
  for (const Status& problem : problems) log_->warn("left out: {}", problem.message());
  kernels_ =
      std::make_unique<KernelStore>(std::move(store), std::move(layers), device_, *sources_, *log_);
  return ok();
}

Result<Selection> Context::choose(const DescCopy& desc) {
  std::string key = desc.op().stem;
  key.append(reinterpret_cast<const char*>(desc.get()), desc.op().desc_size);
  {
    const std::lock_guard<std::mutex> guard(chosen_mutex_);
    if (const auto it = chosen_.find(key); it != chosen_.end()) return it->second;
  }
  DGRT_ASSIGN(Selection selection, select(desc.op(), desc.get(), target_, table(desc.op())));
  for (const std::string& warning : selection.warnings) {
    const std::lock_guard<std::mutex> guard(warned_mutex_);
    if (warned_.insert(warning).second) log_->warn("{}", warning);
  }
  const std::lock_guard<std::mutex> guard(chosen_mutex_);
  if (chosen_.size() >= max_chosen) chosen_.clear();
  chosen_.emplace(std::move(key), selection);
  return selection;
}

}  // namespace dgrt
