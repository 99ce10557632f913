// dgrt prewarm: compiles every kernel that a model's layers, a manifest or a recording can need, for
// a device that need not be here, into a cache and, if asked, into one bundle. Plans are made by the
// code that an engine's plans are made by, so what it makes is what an engine will look for.
#include <unistd.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cache/bundle.h"
#include "cache/disk_cache.h"
#include "tools/command.h"
#include "tools/prewarm_input.h"
#include "tools/progress.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct PrewarmOptions {
  PrewarmSources sources;
  std::string cache_dir, bundle, shard = "0/1";
  TargetOptions target;
  uint32_t jobs = 0, timeout_s = 0;
  bool json = false;
};

struct Failure {
  std::string kernel, message;
};

struct Outcome {
  uint32_t kernels = 0, compiled = 0, hits = 0;
  std::vector<Failure> failures;
  double seconds = 0;
  Status status;                  // of the whole
  uint64_t publish_failures = 0;  // compiled, but not stored
  std::string digest;             // of the bundle, if one was written
  bool is_good() const { return status.is_ok() && failures.empty() && publish_failures == 0; }
};

struct Progress {
  ProgressBar bar;
  Outcome outcome;
};

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
  bar.update(progress->done, progress->total, outcome.hits, progress->kernel);
}

void on_log(dgrt_log_level, const char* message, void* user) {
  static_cast<Progress*>(user)->bar.print(message);
}

// This program, which is its own worker.
std::string own_path() {
  char path[4096];
  const ssize_t bytes = ::readlink("/proc/self/exe", path, sizeof(path));
  return bytes > 0 ? std::string(path, static_cast<size_t>(bytes)) : "";
}

Result<std::unique_ptr<Context>> open_context(const PrewarmOptions& options,
                                              const std::string& cache_dir, Progress* progress) {
  const std::string worker = own_path();
  dgrt_context_options context = DGRT_CONTEXT_OPTIONS;
  context.device = DGRT_DEVICE_NONE;
  context.arch = options.target.arch.c_str();
  context.sm_count = options.target.sms;
  context.miss_policy = DGRT_MISS_COMPILE;
  context.cache_dir = cache_dir.c_str();
  context.cache_ro_path = context.bundle_path = "";  // the directory gets it all
  context.num_jobs = options.jobs;
  context.log_fn = on_log;
  context.log_user = progress;
  context.worker_path = worker.c_str();
  context.compile_timeout_s = options.timeout_s;
  return Context::create(context);
}

// Exactly these kernels, whatever else the cache holds.
Result<std::string> write_kernels(const std::string& path, const std::string& cache_dir,
                                  const std::vector<PlannedKernel>& kernels,
                                  const CompilerId* compiler) {
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, DiskCache::open_read_only(cache_dir));
  std::vector<std::vector<std::byte>> files;
  for (const PlannedKernel& kernel : kernels) {
    const Found found = cache->find(kernel.key, compiler);
    if (!found.entry)
      return error(DGRT_IO_ERROR, "bundle={}: kernel {} is not in {}", path, kernel.instance.entry,
                   cache_dir);
    files.push_back(serialize(*found.entry));
  }
  DGRT_ASSIGN(const std::vector<std::byte> bytes, make_bundle({files.begin(), files.end()}));
  DGRT_TRY(write_bundle(path, bytes));
  DGRT_ASSIGN(const std::unique_ptr<Bundle> bundle, Bundle::open(path));
  return to_hex(bundle->digest());
}

Result<Outcome> prepare_all(const PrewarmOptions& options, const std::string& cache_dir,
                            const PrewarmInput& input, const Shard& shard) {
  const auto start = std::chrono::steady_clock::now();
  Progress progress;
  DGRT_ASSIGN(const std::unique_ptr<Context> context, open_context(options, cache_dir, &progress));
  const std::vector<const dgrt_desc*> descs = input.pointers();
  const Status status =
      prepare(*context, descs.data(), descs.size(), on_progress, &progress, shard);
  Outcome outcome = std::move(progress.outcome);
  outcome.status = status;
  outcome.publish_failures = context->kernels().stats().publish_failures;
  if (outcome.is_good() && !options.bundle.empty()) {
    Status ignored;  // prepare() has planned the same without one
    const auto kernels = plan_kernels(*context, descs.data(), descs.size(), shard, &ignored);
    DGRT_ASSIGN(const std::optional<CompilerId> compiler, context->kernels().wanted_compiler());
    DGRT_ASSIGN(outcome.digest,
                write_kernels(options.bundle, cache_dir, kernels, compiler ? &*compiler : nullptr));
  }
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

const char* dtype_name(dgrt_dtype dtype) {
  if (dtype == DGRT_FP16) return "fp16";
  return dtype == DGRT_E4M3 ? "e4m3" : dtype == DGRT_FP32 ? "fp32" : "bf16";
}

OrderedJson to_json(const LatentAttention& l) {
  OrderedJson json = {{"num_heads", l.num_heads},
                      {"rank", l.rank},
                      {"rope_dim", l.rope_dim},
                      {"nope_dim", l.nope_dim},
                      {"v_dim", l.v_dim},
                      {"num_draft_tokens", l.num_draft_tokens},
                      {"dtype", dtype_name(l.dtype)},
                      {"indexer", nullptr}};
  if (l.indexer)
    json["indexer"] = {{"num_heads", l.indexer->num_heads},
                       {"head_dim", l.indexer->head_dim},
                       {"top_k", l.indexer->top_k}};
  return json;
}

OrderedJson to_json(const PrewarmOptions& options, const std::string& cache_dir,
                    const PrewarmInput& input, const Outcome& outcome) {
  const ModelNeeds needs = input.needs.value_or(ModelNeeds());
  OrderedJson json = {{"kernels", outcome.kernels},
                      {"compiled", outcome.compiled},
                      {"hits", outcome.hits},
                      {"failed", outcome.failures.size()},
                      {"seconds", outcome.seconds},
                      {"not_stored", outcome.publish_failures},
                      {"cache_dir", cache_dir},
                      {"shard", options.shard},
                      {"bundle", options.bundle},
                      {"digest", outcome.digest},
                      {"descs", input.descs.size()},
                      {"model_type", needs.model_type},
                      {"engine", options.sources.engine},
                      {"arch", options.target.arch},
                      {"sms", options.target.sms},
                      {"tp", options.sources.profile.tp},
                      {"ep", options.sources.profile.ep},
                      {"max_tokens", options.sources.profile.max_tokens},
                      {"layers", OrderedJson::array()},
                      {"experts", OrderedJson::array()},
                      {"per_head", OrderedJson::array()},
                      {"attention", OrderedJson::array()},
                      {"latent_attention", nullptr},
                      {"quant_fp8_k", needs.quant_ks},
                      {"missing", OrderedJson::array()},
                      {"failures", OrderedJson::array()}};
  for (const Linear& l : needs.layers)
    json["layers"].push_back({{"name", l.name},
                              {"n", l.n},
                              {"k", l.k},
                              {"dtype", dtype_name(l.dtype)},
                              {"dtype_d", dtype_name(l.dtype_d)}});
  for (const Experts& e : needs.experts)
    json["experts"].push_back({{"name", e.name},
                               {"num_experts", e.num_experts},
                               {"n", e.n},
                               {"k", e.k},
                               {"dtype", dtype_name(e.dtype)}});
  for (const PerHead& p : needs.per_head)
    json["per_head"].push_back(
        {{"name", p.name}, {"num_heads", p.num_heads}, {"n", p.n}, {"k", p.k}});
  for (const Attention& a : needs.attention)
    json["attention"].push_back({{"name", a.name},
                                 {"num_q_heads", a.num_q_heads},
                                 {"num_kv_heads", a.num_kv_heads},
                                 {"head_dim", a.head_dim},
                                 {"window", a.window},
                                 {"softcap", a.softcap},
                                 {"dtype", dtype_name(a.dtype)}});
  if (needs.latent) json["latent_attention"] = to_json(*needs.latent);
  for (const Missing& m : needs.missing)
    json["missing"].push_back({{"name", m.name}, {"reason", m.reason}});
  for (const Failure& f : outcome.failures)
    json["failures"].push_back({{"kernel", f.kernel}, {"message", f.message}});
  if (!outcome.status.is_ok()) json["error"] = outcome.status.message();
  return json;
}

void print_model(const PrewarmOptions& options, const ModelNeeds& needs) {
  const Profile& profile = options.sources.profile;
  fmt::print("{} layers of {} for {}, {}, {} SMs, tp {}, up to {} tokens:\n", needs.layers.size(),
             needs.model_type, options.sources.engine, options.target.arch, options.target.sms,
             profile.tp, profile.max_tokens);
  for (const Linear& l : needs.layers)
    fmt::print("  {:34} n {:6}  k {:6}  {} -> {}\n", l.name, l.n, l.k, dtype_name(l.dtype),
               dtype_name(l.dtype_d));
  for (const Experts& e : needs.experts)
    fmt::print("  {:34} n {:6}  k {:6}  {} -> bf16, {} experts\n", e.name, e.n, e.k,
               dtype_name(e.dtype), e.num_experts);
  for (const PerHead& p : needs.per_head)
    fmt::print("  {:34} n {:6}  k {:6}  bf16 -> bf16, {} heads\n", p.name, p.n, p.k, p.num_heads);
  for (const Attention& a : needs.attention)
    fmt::print("  {:34} {} query and {} key-value heads of {}, {}{}{}\n", a.name, a.num_q_heads,
               a.num_kv_heads, a.head_dim, dtype_name(a.dtype), a.softcap ? ", softcap" : "",
               a.window > 0 ? fmt::format(", window {}", a.window) : "");
  if (const auto& l = needs.latent)
    fmt::print("  {:34} {} heads over rows of {} + {}, {}{}\n", "self_attn.mla", l->num_heads, l->rank,
               l->rope_dim, dtype_name(l->dtype),
               l->indexer ? fmt::format(", {} of them chosen", l->indexer->top_k) : "");
  for (const int64_t k : needs.quant_ks) fmt::print("  {:34}           k {:6}\n", "quant_fp8", k);
  if (!needs.missing.empty()) fmt::print("dgrt has no kernel for:\n");
  for (const Missing& m : needs.missing) fmt::print("  {}: {}\n", m.name, m.reason);
}

void print_summary(const PrewarmOptions& options, const std::string& cache_dir,
                   const PrewarmInput& input, const Outcome& outcome) {
  if (input.needs) print_model(options, *input.needs);
  fmt::print("{} kernels in {}: {} compiled, {} already there, {} failed, {:.1f} s\n",
             outcome.kernels, cache_dir, outcome.compiled, outcome.hits, outcome.failures.size(),
             outcome.seconds);
  if (!outcome.digest.empty()) fmt::print("bundle {}, digest {}\n", options.bundle, outcome.digest);
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
  const Result<Shard> shard = parse_shard(options.shard);
  if (!shard.is_ok()) return report(shard.status(), options.json);
  const Result<PrewarmInput> input = read_prewarm_input(&options.sources);
  if (!input.is_ok()) return report(input.status(), options.json);
  const Result<std::string> cache_dir = resolve_cache_dir(options.cache_dir);
  if (!cache_dir.is_ok()) return report(cache_dir.status(), options.json);
  if (const Status status = check_writable(cache_dir.value()); !status.is_ok())
    return report(status, options.json);

  const Result<Outcome> result =
      prepare_all(options, cache_dir.value(), input.value(), shard.value());
  if (!result.is_ok()) return report(result.status(), options.json);
  const Outcome& outcome = result.value();
  print_failures(outcome, cache_dir.value());
  if (options.json)
    print_json(to_json(options, cache_dir.value(), input.value(), outcome));
  else
    print_summary(options, cache_dir.value(), input.value(), outcome);
  return outcome.is_good() ? 0 : 1;
}

}  // namespace

void add_prewarm(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("prewarm", "Compile kernels into the cache ahead of time; needs no GPU");
  command->footer(
      "Example: dgrt prewarm --config config.json --engine sglang --tp 8 --arch sm_90a --sms 132");
  const auto options = std::make_shared<PrewarmOptions>();
  PrewarmSources& sources = options->sources;
  command->add_option("--config", sources.config, "The model's Hugging Face config.json");
  command->add_option("--manifest", sources.manifests, "JSON lists of descs");
  command->add_option("--recording", sources.recordings, "Files that DGRT_RECORD wrote");
  command
      ->add_option("--engine", sources.engine, "Whose fusions apply: sglang, vllm or plain (none)")
      ->capture_default_str();
  add_target_options(*command, options->target);
  command->add_option("--tp", sources.profile.tp, "Tensor-parallel ranks")->capture_default_str();
  command->add_option("--ep", sources.profile.ep, "Expert-parallel ranks")->capture_default_str();
  command
      ->add_option("--max-tokens", sources.profile.max_tokens,
                   "Most tokens in one forward pass (the engine's prefill chunk)")
      ->capture_default_str();
  command
      ->add_option("--jobs", options->jobs,
                   "Kernels compiled at a time (0: what cores and free memory allow)")
      ->capture_default_str();
  command->add_option("--timeout", options->timeout_s, "Longest compile, in seconds (0: 120)")
      ->check(CLI::Range(0u, 86400u))
      ->capture_default_str();
  command->add_option("--shard", options->shard, "i/n: only the i-th of n parts of the kernels")
      ->capture_default_str();
  add_cache_dir_option(*command, options->cache_dir);
  command->add_option("--bundle", options->bundle, "Also write these kernels into one bundle");
  command->add_flag("--json", options->json, "End with one line of JSON");
  command->callback([options, &exit_code] { exit_code = run_prewarm(*options); });
}

}  // namespace dgrt
