// dgrt prewarm: compiles every kernel that a model's layers can need, for a device that need not be
// here, into a cache. It goes through the C API alone, so what it makes is what an engine will look
// for.
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cache/disk_cache.h"
#include "dgrt/dgrt.h"
#include "tools/command.h"
#include "tools/model_config.h"
#include "tools/progress.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct PrewarmOptions {
  std::string config, engine = "plain", cache_dir;
  TargetOptions target;
  Profile profile;
  uint32_t jobs = 0;
  bool json = false;
};

struct Failure {
  std::string kernel, message;
};

struct Outcome {
  uint32_t kernels = 0, compiled = 0, hits = 0;
  std::vector<Failure> failures;
  double seconds = 0;
  Status status;                  // of dgrt_prepare
  uint64_t publish_failures = 0;  // compiled, but not stored
  bool is_good() const { return status.is_ok() && failures.empty() && publish_failures == 0; }
};

struct Progress {
  ProgressBar bar;
  Outcome outcome;
};

struct ContextCloser {
  void operator()(dgrt_context* context) const { dgrt_context_destroy(context); }
};

Status last_error(dgrt_status status) { return {status, dgrt_last_error()}; }

// A prewarm that cannot store anything is useless, so this is checked before the work: a lock is a
// file in the cache directory.
Status check_writable(const std::string& dir) {
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, DiskCache::open(dir));
  const Result<std::optional<KeyLock>> lock = cache->try_lock(Key{});
  return lock.is_ok() ? ok() : lock.status();
}

void on_progress(const dgrt_progress* progress, void* user) {
  auto& [bar, outcome] = *static_cast<Progress*>(user);
  outcome.kernels = progress->total;
  if (progress->status != DGRT_OK)
    outcome.failures.push_back({progress->kernel, progress->message});
  else if (progress->source == DGRT_SOURCE_COMPILED)
    ++outcome.compiled;
  else
    ++outcome.hits;
  bar.update(progress->done, progress->total, progress->kernel);
}

void on_log(dgrt_log_level, const char* message, void* user) {
  static_cast<Progress*>(user)->bar.print(message);
}

Result<Outcome> prepare_all(const PrewarmOptions& options, const std::string& cache_dir,
                            const DescList& descs) {
  const auto start = std::chrono::steady_clock::now();
  Progress progress;
  dgrt_context_options context_options = DGRT_CONTEXT_OPTIONS;
  context_options.device = DGRT_DEVICE_NONE;
  context_options.arch = options.target.arch.c_str();
  context_options.sm_count = options.target.sms;
  context_options.miss_policy = DGRT_MISS_COMPILE;
  context_options.cache_dir = cache_dir.c_str();
  context_options.cache_ro_path = context_options.bundle_path = "";  // the directory gets it all
  context_options.num_jobs = options.jobs;
  context_options.log_fn = on_log;
  context_options.log_user = &progress;
  dgrt_context* raw = nullptr;
  if (const dgrt_status status = dgrt_context_create(&context_options, &raw); status != DGRT_OK)
    return last_error(status);
  const std::unique_ptr<dgrt_context, ContextCloser> context(raw);

  const auto& pointers = descs.pointers();
  const dgrt_status status =
      dgrt_prepare(raw, pointers.data(), pointers.size(), on_progress, &progress);
  Outcome outcome = std::move(progress.outcome);
  if (status != DGRT_OK) outcome.status = last_error(status);
  dgrt_stats stats = DGRT_STATS;
  if (const dgrt_status got = dgrt_context_get_stats(raw, &stats); got != DGRT_OK)
    return last_error(got);
  outcome.publish_failures = stats.publish_failures;
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

const char* dtype_name(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? "e4m3" : dtype == DGRT_FP32 ? "fp32" : "bf16";
}

OrderedJson to_json(const PrewarmOptions& options, const std::string& cache_dir,
                    const ModelNeeds& needs, const Outcome& outcome) {
  OrderedJson json = {{"kernels", outcome.kernels},
                      {"compiled", outcome.compiled},
                      {"hits", outcome.hits},
                      {"failed", outcome.failures.size()},
                      {"seconds", outcome.seconds},
                      {"not_stored", outcome.publish_failures},
                      {"cache_dir", cache_dir},
                      {"model_type", needs.model_type},
                      {"engine", options.engine},
                      {"arch", options.target.arch},
                      {"sms", options.target.sms},
                      {"tp", options.profile.tp},
                      {"ep", options.profile.ep},
                      {"max_tokens", options.profile.max_tokens},
                      {"layers", OrderedJson::array()},
                      {"quant_fp8_k", needs.quant_ks},
                      {"missing", OrderedJson::array()},
                      {"failures", OrderedJson::array()}};
  for (const Linear& l : needs.layers)
    json["layers"].push_back({{"name", l.name},
                              {"n", l.n},
                              {"k", l.k},
                              {"dtype", dtype_name(l.dtype)},
                              {"dtype_d", dtype_name(l.dtype_d)}});
  for (const Missing& m : needs.missing)
    json["missing"].push_back({{"name", m.name}, {"reason", m.reason}});
  for (const Failure& f : outcome.failures)
    json["failures"].push_back({{"kernel", f.kernel}, {"message", f.message}});
  if (!outcome.status.is_ok()) json["error"] = outcome.status.message();
  return json;
}

void print_summary(const PrewarmOptions& options, const std::string& cache_dir,
                   const ModelNeeds& needs, const Outcome& outcome) {
  fmt::print("{} layers of {} for {}, {}, {} SMs, tp {}, up to {} tokens:\n", needs.layers.size(),
             needs.model_type, options.engine, options.target.arch, options.target.sms,
             options.profile.tp, options.profile.max_tokens);
  for (const Linear& l : needs.layers)
    fmt::print("  {:34} n {:6}  k {:6}  {} -> {}\n", l.name, l.n, l.k, dtype_name(l.dtype),
               dtype_name(l.dtype_d));
  for (const int64_t k : needs.quant_ks) fmt::print("  {:34}           k {:6}\n", "quant_fp8", k);
  if (!needs.missing.empty()) fmt::print("dgrt has no kernel for:\n");
  for (const Missing& m : needs.missing) fmt::print("  {}: {}\n", m.name, m.reason);
  fmt::print("{} kernels in {}: {} compiled, {} already there, {} failed, {:.1f} s\n",
             outcome.kernels, cache_dir, outcome.compiled, outcome.hits, outcome.failures.size(),
             outcome.seconds);
}

// One kernel's compiler log is enough to start with; the others often say the same.
void print_failures(const Outcome& outcome, const std::string& cache_dir) {
  for (size_t i = 0; i < outcome.failures.size(); ++i) {
    const auto& [kernel, message] = outcome.failures[i];
    fmt::print(stderr, "dgrt: {} failed: {}\n", kernel,
               i == 0 ? message : message.substr(0, message.find('\n')));
  }
  if (!outcome.status.is_ok() && outcome.failures.empty())
    fmt::print(stderr, "dgrt: {}\n", outcome.status.message());
  if (outcome.publish_failures > 0)
    fmt::print(stderr, "dgrt: {} kernels could not be stored in {}\n", outcome.publish_failures,
               cache_dir);
}

int run_prewarm(PrewarmOptions options) {
  Result<Engine> engine = engine_from_name(options.engine);
  if (!engine.is_ok()) return report(engine.status(), options.json);
  options.profile.engine = engine.value();
  const Result<ModelNeeds> needs = model_needs_of_file(options.config, options.profile);
  if (!needs.is_ok()) return report(needs.status(), options.json);
  const Result<std::string> cache_dir = resolve_cache_dir(options.cache_dir);
  if (!cache_dir.is_ok()) return report(cache_dir.status(), options.json);
  if (const Status status = check_writable(cache_dir.value()); !status.is_ok())
    return report(status, options.json);

  const DescList descs(needs.value(), options.profile.max_tokens);
  const Result<Outcome> result = prepare_all(options, cache_dir.value(), descs);
  if (!result.is_ok()) return report(result.status(), options.json);
  const Outcome& outcome = result.value();
  print_failures(outcome, cache_dir.value());
  if (options.json)
    print_json(to_json(options, cache_dir.value(), needs.value(), outcome));
  else
    print_summary(options, cache_dir.value(), needs.value(), outcome);
  return outcome.is_good() ? 0 : 1;
}

}  // namespace

void add_prewarm(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("prewarm", "Compile a model's kernels into the cache; needs no GPU");
  command->footer(
      "Example: dgrt prewarm --config config.json --engine sglang --tp 8 --arch sm_90a --sms 132");
  const auto options = std::make_shared<PrewarmOptions>();
  command->add_option("--config", options->config, "The model's Hugging Face config.json")
      ->required();
  command
      ->add_option("--engine", options->engine, "Whose fusions apply: sglang, vllm or plain (none)")
      ->capture_default_str();
  add_target_options(*command, options->target);
  command->add_option("--tp", options->profile.tp, "Tensor-parallel ranks")->capture_default_str();
  command->add_option("--ep", options->profile.ep, "Expert-parallel ranks")->capture_default_str();
  command
      ->add_option("--max-tokens", options->profile.max_tokens,
                   "Most tokens in one forward pass (the engine's prefill chunk)")
      ->capture_default_str();
  command->add_option("--jobs", options->jobs, "Kernels compiled at a time (0: one per core)")
      ->capture_default_str();
  add_cache_dir_option(*command, options->cache_dir);
  command->add_flag("--json", options->json, "End with one line of JSON");
  command->callback([options, &exit_code] { exit_code = run_prewarm(*options); });
}

}  // namespace dgrt
