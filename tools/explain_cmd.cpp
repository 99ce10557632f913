// dgrt explain: why one call gets the kernel that it gets: the candidates with their modelled
// costs, the winner, and the table rule or the model that chose it. Runs the code that plan
// creation runs.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "dgrt/attention.h"
#include "dgrt/gemm.h"
#include "dgrt/hyper.h"
#include "heuristics/table.h"
#include "runtime/base/env.h"
#include "runtime/compile/key.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/selection.h"
#include "tools/command.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr size_t max_candidates_shown = 10;

struct ExplainOptions {
  std::string dtype = "bf16", dtype_d = "bf16", block = "1x128", scale_major = "mn";
  std::string group_layout = "rows";
  std::vector<int64_t> widths;
  int64_t n = 0, k = 0, k_blocks = 0, m = 0;
  uint32_t sm_budget = 0, num_groups = 1, alignment = 128;
  bool with_c = false, batch_invariant = false, json = false, b_mn = false, softcap = false,
       sum_batches = false;
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0, head_dim_v = 0, batch = 1, kv_len = 0;
  TargetOptions target;
};

struct Answer {
  std::string stem;
  std::vector<std::string> vars;  // the selector variables: "m"
  Explanation explanation;
  std::string entry, key, table_digest;
  uint32_t smem_bytes = 0;
};

// `point`: the op's selector variables.
Result<Answer> explain_desc(const dgrt_desc* desc, const Point& point,
                            const ExplainOptions& options) {
  DGRT_ASSIGN(const Env env, read_env());
  DGRT_ASSIGN(const DescCopy copy, DescCopy::make(desc, all_ops()));
  const OpImpl& op = copy.op();
  const Target target{options.target.arch, options.target.sms};
  DGRT_TRY(check_target(target));
  const Sources sources(env.kernels_dir);
  std::vector<std::string> warnings;
  const Table table = load_table(op, sources, env.heuristics_path, &warnings);
  for (const std::string& warning : warnings) fmt::print(stderr, "dgrt: {}\n", warning);
  Answer answer;
  answer.stem = op.stem;
  for (const SelectorVar& var : op.selector(copy.get())) answer.vars.push_back(var.name);
  answer.table_digest = table.digest_hex();
  DGRT_ASSIGN(answer.explanation, explain(op, copy.get(), target, table, point));
  const Config& winner = answer.explanation.winner.config;
  const Instance instance = op.instance(copy.get(), target, winner);
  DGRT_ASSIGN(const Key key, kernel_key(instance, sources));
  answer.entry = instance.entry;
  answer.key = key.hex();
  answer.smem_bytes = op.smem_bytes(copy.get(), winner);
  return answer;
}

OrderedJson to_json(const Candidate& candidate) {
  OrderedJson config;
  for (const auto& [name, value] : candidate.config.fields()) config[name] = value;
  return {{"config", config}, {"cost_us", static_cast<double>(candidate.cost_ps) * 1e-6}};
}

OrderedJson to_json(const Answer& answer) {
  const Explanation& e = answer.explanation;
  OrderedJson json = {{"op", answer.stem}};
  for (size_t i = 0; i < answer.vars.size(); ++i)
    json["decided_at_" + answer.vars[i]] = e.decided_at[i];
  json["kernel"] = answer.entry;
  json["key"] = answer.key;
  json["reason"] = e.reason;
  json["winner"] = to_json(e.winner);
  json["smem_bytes"] = answer.smem_bytes;
  json["table_digest"] = answer.table_digest;
  json["num_candidates"] = e.candidates.size();
  json["candidates"] = OrderedJson::array();
  for (size_t i = 0; i < std::min(e.candidates.size(), max_candidates_shown); ++i)
    json["candidates"].push_back(to_json(e.candidates[i]));
  return json;
}

void print(const Answer& answer) {
  const Explanation& e = answer.explanation;
  std::string place;
  for (size_t i = 0; i < answer.vars.size(); ++i)
    place += fmt::format("{}{} = {}", i == 0 ? "" : ", ", answer.vars[i], e.decided_at[i]);
  fmt::print("{}: the best of {} candidates by the model, decided at {}\n", answer.stem,
             e.candidates.size(), place);
  for (size_t i = 0; i < std::min(e.candidates.size(), max_candidates_shown); ++i) {
    const Candidate& c = e.candidates[i];
    const bool won = c.config == e.winner.config;
    fmt::print("{} {:10.2f} us  {}\n", won ? "*" : " ", static_cast<double>(c.cost_ps) * 1e-6,
               c.config.to_string());
  }
  fmt::print("winner  {}, modelled {:.2f} us\n", e.winner.config.to_string(),
             static_cast<double>(e.winner.cost_ps) * 1e-6);
  fmt::print("reason  {}\nkernel  {} ({} B shared memory)\nkey     {}\n", e.reason, answer.entry,
             answer.smem_bytes, answer.key);
}

int run_desc(const dgrt_desc* desc, const Point& point, const ExplainOptions& options) {
  const Result<Answer> answer = explain_desc(desc, point, options);
  if (!answer.is_ok()) return report(answer.status(), options.json);
  if (options.json)
    print_json(to_json(answer.value()));
  else
    print(answer.value());
  return 0;
}

// What the descs of all products have.
template <class Desc>
Desc product_desc(const ExplainOptions& options, Desc desc) {
  const bool fp8 = options.dtype == "fp8";
  desc.n = options.n;
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.dtype_ab = fp8 ? DGRT_E4M3 : options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  if (options.dtype_d == "fp32")
    desc.dtype_d = DGRT_FP32;
  else
    desc.dtype_d = options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.scale_mode = fp8 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  desc.b_major = options.b_mn ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  desc.sm_budget = options.sm_budget;
  desc.flags = options.with_c ? DGRT_GEMM_WITH_C : 0;
  return desc;
}

int run_gemm(const ExplainOptions& options) {
  const auto desc = product_desc<dgrt_gemm_desc>(options, DGRT_GEMM_DESC);
  return run_desc(&desc.op, {options.m}, options);
}

int run_contiguous(const ExplainOptions& options) {
  auto desc =
      product_desc<dgrt_gemm_grouped_contiguous_desc>(options, DGRT_GEMM_GROUPED_CONTIGUOUS_DESC);
  desc.num_groups = options.num_groups;
  desc.alignment = options.alignment;
  desc.group_layout = options.group_layout == "ends" ? DGRT_GROUP_END_ROW : DGRT_GROUP_OF_ROW;
  return run_desc(&desc.op, {options.m}, options);
}

int run_masked(const ExplainOptions& options) {
  auto desc = product_desc<dgrt_gemm_grouped_masked_desc>(options, DGRT_GEMM_GROUPED_MASKED_DESC);
  desc.num_groups = options.num_groups;
  return run_desc(&desc.op, {options.m}, options);
}

int run_batched(const ExplainOptions& options) {
  auto desc = product_desc<dgrt_gemm_batched_desc>(options, DGRT_GEMM_BATCHED_DESC);
  desc.num_batches = options.num_groups;
  if (options.sum_batches) desc.flags |= DGRT_GEMM_SUM_BATCHES;
  return run_desc(&desc.op, {options.m}, options);
}

// Here k varies by call.
int run_grouped_k(const ExplainOptions& options) {
  dgrt_gemm_grouped_k_desc desc = DGRT_GEMM_GROUPED_K_DESC;
  const bool fp8 = options.dtype == "fp8";
  desc.m = options.m;
  desc.n = options.n;
  desc.max_k = std::max<int64_t>(options.k, 1);
  desc.num_groups = options.num_groups;
  desc.dtype_ab = fp8 ? DGRT_E4M3 : options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.dtype_d = DGRT_FP32;
  desc.scale_mode = fp8 ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
  desc.sm_budget = options.sm_budget;
  desc.flags = options.with_c ? DGRT_GEMM_WITH_C : 0;
  return run_desc(&desc.op, {options.k}, options);
}

int run_fused_linear(const ExplainOptions& options) {
  dgrt_gemm_fused_linear_desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
  if (options.widths.size() > DGRT_MAX_SEGMENTS)
    return report(invalid("n={} widths: must be 1 to {}", options.widths.size(), DGRT_MAX_SEGMENTS),
                  options.json);
  desc.num_segments = static_cast<uint32_t>(options.widths.size());
  std::copy(options.widths.begin(), options.widths.end(), desc.n);
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.dtype_ab = options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.dtype_d = desc.dtype_ab;
  if (options.dtype_d == "fp32") desc.dtype_d = DGRT_FP32;
  desc.sm_budget = options.sm_budget;
  return run_desc(&desc.op, {options.m}, options);
}

int run_quant_fp8(const ExplainOptions& options) {
  dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.block = options.block == "128x128" ? DGRT_QUANT_128X128 : DGRT_QUANT_1X128;
  desc.scale_major = options.scale_major == "k" ? DGRT_K_MAJOR : DGRT_MN_MAJOR;
  return run_desc(&desc.op, {options.m}, options);
}

int run_scale_layout(const ExplainOptions& options) {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = options.k_blocks;
  desc.max_m = std::max<int64_t>(options.m, 1);
  return run_desc(&desc.op, {options.m}, options);
}

int run_scale_pack(const ExplainOptions& options) {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  desc.k_blocks = options.k_blocks;
  desc.max_m = std::max<int64_t>(options.m, 1);
  return run_desc(&desc.op, {options.m}, options);
}

int run_hc_prenorm(const ExplainOptions& options) {
  dgrt_hc_prenorm_desc desc = DGRT_HC_PRENORM_DESC;
  desc.n = options.n;
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.flags = options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0;
  return run_desc(&desc.op, {options.m}, options);
}

int run_attn_prefill(const ExplainOptions& options) {
  dgrt_attn_prefill_desc desc = DGRT_ATTN_PREFILL_DESC;
  desc.num_q_heads = options.num_q_heads;
  desc.num_kv_heads = options.num_kv_heads;
  desc.head_dim_qk = options.head_dim;
  desc.head_dim_v = options.head_dim_v == 0 ? options.head_dim : options.head_dim_v;
  desc.max_batch = options.batch;
  desc.max_q_len = options.m;
  desc.max_kv_len = options.kv_len == 0 ? options.m : options.kv_len;
  desc.dtype = options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.sm_budget = options.sm_budget;
  desc.flags = (options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0) |
               (options.softcap ? DGRT_ATTN_SOFTCAP : 0);
  return run_desc(&desc.op, {desc.max_batch, desc.max_q_len, desc.max_kv_len}, options);
}

using RunOp = int (*)(const ExplainOptions&);

CLI::App* add_op(CLI::App* explain, const char* op, const char* example,
                 const std::shared_ptr<ExplainOptions>& options, RunOp run, int& exit_code) {
  CLI::App* command = explain->add_subcommand(op, std::string("Explain a call of ") + op);
  command->footer(std::string("Example: ") + example);
  command
      ->add_option("--m", options->m,
                   "Rows of this call; of masked groups, expected_m; of gemm_grouped_k, of d; of "
                   "attention, queries of the longest sequence")
      ->check(CLI::Range(int64_t{0}, int64_t{INT32_MAX}))
      ->required();
  add_target_options(*command, options->target);
  command->add_flag("--json", options->json, "One line of JSON");
  command->callback([options, run, &exit_code] { exit_code = run(*options); });
  return command;
}

void add_dtype(CLI::App* product, std::set<std::string> dtypes,
               const std::shared_ptr<ExplainOptions>& options) {
  product->add_option("--dtype", options->dtype, "Of a and b; fp8: E4M3 with scales per block")
      ->check(CLI::IsMember(std::move(dtypes)))
      ->capture_default_str();
  product->add_option("--sm-budget", options->sm_budget, "Most SMs to use (0: all)");
}

void add_dtype_d(CLI::App* product, const std::shared_ptr<ExplainOptions>& options) {
  product->add_option("--dtype-d", options->dtype_d, "Of d: bf16 (fp16 where a and b are) or fp32")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str();
}

void add_groups(CLI::App* product, const char* name,
                const std::shared_ptr<ExplainOptions>& options) {
  product->add_option(name, options->num_groups, "How many")->required();
}

// A product, with the options that most of them have.
CLI::App* add_product(CLI::App* explain, const char* op, const char* example, RunOp run,
                      const std::shared_ptr<ExplainOptions>& options, int& exit_code) {
  CLI::App* command = add_op(explain, op, example, options, run, exit_code);
  command->add_option("--n", options->n, "Columns of d")->required();
  command->add_option("--k", options->k, "Columns of a and b")->required();
  add_dtype(command, {"bf16", "fp16", "fp8"}, options);
  add_dtype_d(command, options);
  command->add_flag("--b-mn", options->b_mn, "b is MN-major");
  return command;
}

// Products whose sizes are cut into parts: k by groups, n by outputs.
void add_segmented(CLI::App* explain, int& exit_code) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* grouped_k =
      add_op(explain, "gemm_grouped_k",
             "dgrt explain gemm_grouped_k --dtype fp8 --num-groups 4 --m 4096 --n 7168 --k 32768",
             options, run_grouped_k, exit_code);
  add_groups(grouped_k, "--num-groups", options);
  grouped_k->add_option("--n", options->n, "Columns of d")->required();
  grouped_k->add_option("--k", options->k, "Of this call, all groups together")->required();
  add_dtype(grouped_k, {"bf16", "fp16", "fp8"}, options);
  grouped_k->add_flag("--with-c", options->with_c, "c is added");

  options = std::make_shared<ExplainOptions>();
  CLI::App* fused = add_op(explain, "gemm_fused_linear",
                           "dgrt explain gemm_fused_linear --n 4096,1024,1024 --k 4096 --m 64",
                           options, run_fused_linear, exit_code);
  fused->add_option("--n", options->widths, "Columns of each output")->delimiter(',')->required();
  fused->add_option("--k", options->k, "Columns of a and b")->required();
  add_dtype(fused, {"bf16", "fp16"}, options);
  add_dtype_d(fused, options);
}

void add_attention(CLI::App* explain, int& exit_code) {
  const auto options = std::make_shared<ExplainOptions>();
  CLI::App* prefill = add_op(explain, "attn_prefill",
                             "dgrt explain attn_prefill --num-q-heads 8 --num-kv-heads 4 "
                             "--head-dim 256 --batch 4 --m 1000",
                             options, run_attn_prefill, exit_code);
  prefill->add_option("--num-q-heads", options->num_q_heads, "Query heads")->required();
  prefill->add_option("--num-kv-heads", options->num_kv_heads, "Key heads")->required();
  prefill->add_option("--head-dim", options->head_dim, "Columns of a head of q and k")->required();
  prefill->add_option("--head-dim-v", options->head_dim_v, "Of v and o (default: those of q)");
  prefill->add_option("--batch", options->batch, "Sequences")->capture_default_str();
  prefill->add_option("--kv-len", options->kv_len, "Keys of the longest sequence (default: --m)");
  prefill->add_option("--dtype", options->dtype, "Of q, k, v and o")
      ->check(CLI::IsMember({"bf16", "fp16"}))
      ->capture_default_str();
  prefill->add_option("--sm-budget", options->sm_budget, "Most SMs to use (0: all)");
  prefill->add_flag("--softcap", options->softcap, "With DGRT_ATTN_SOFTCAP");
  prefill->add_flag("--batch-invariant", options->batch_invariant,
                    "With DGRT_FLAG_BATCH_INVARIANT");
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("explain", "Say which kernel a call gets, and why");
  command->require_subcommand(1);
  command->footer("Example: dgrt explain gemm --dtype fp8 --n 7168 --k 2048 --m 64");

  auto options = std::make_shared<ExplainOptions>();
  CLI::App* gemm =
      add_product(command, "gemm", "dgrt explain gemm --dtype fp8 --n 7168 --k 2048 --m 64",
                  run_gemm, options, exit_code);
  gemm->add_flag("--with-c", options->with_c, "c is added");

  options = std::make_shared<ExplainOptions>();
  CLI::App* contiguous =
      add_product(command, "gemm_grouped_contiguous",
                  "dgrt explain gemm_grouped_contiguous --dtype fp8 --num-groups 8 --n 4096 "
                  "--k 7168 --m 32768",
                  run_contiguous, options, exit_code);
  add_groups(contiguous, "--num-groups", options);
  contiguous->add_option("--alignment", options->alignment, "Of the groups' first rows")
      ->check(CLI::IsMember({64, 128}))
      ->capture_default_str();
  contiguous->add_option("--group-layout", options->group_layout, "A group per row, or end rows")
      ->check(CLI::IsMember({"rows", "ends"}))
      ->capture_default_str();

  options = std::make_shared<ExplainOptions>();
  add_groups(add_product(command, "gemm_grouped_masked",
                         "dgrt explain gemm_grouped_masked --dtype fp8 --num-groups 32 --n 4096 "
                         "--k 7168 --m 20",
                         run_masked, options, exit_code),
             "--num-groups", options);

  options = std::make_shared<ExplainOptions>();
  CLI::App* batched = add_product(
      command, "gemm_batched", "dgrt explain gemm_batched --num-batches 128 --n 128 --k 512 --m 64",
      run_batched, options, exit_code);
  add_groups(batched, "--num-batches", options);
  batched->add_flag("--with-c", options->with_c, "c is added");
  batched->add_flag("--sum-batches", options->sum_batches, "d is the sum over all batches");
  add_segmented(command, exit_code);

  options = std::make_shared<ExplainOptions>();
  CLI::App* quant = add_op(command, "quant_fp8", "dgrt explain quant_fp8 --k 7168 --m 64", options,
                           run_quant_fp8, exit_code);
  quant->add_option("--k", options->k, "Columns of x")->required();
  quant->add_option("--block", options->block, "What one scale covers")
      ->check(CLI::IsMember({"1x128", "128x128"}))
      ->capture_default_str();
  quant->add_option("--scale-major", options->scale_major, "Contiguous axis of the scales")
      ->check(CLI::IsMember({"k", "mn"}))
      ->capture_default_str();

  options = std::make_shared<ExplainOptions>();
  CLI::App* layout =
      add_op(command, "scale_layout", "dgrt explain scale_layout --k-blocks 56 --m 64", options,
             run_scale_layout, exit_code);
  layout->add_option("--k-blocks", options->k_blocks, "Columns of src")->required();

  options = std::make_shared<ExplainOptions>();
  CLI::App* pack =
      add_op(command, "scale_pack_ue8m0", "dgrt explain scale_pack_ue8m0 --k-blocks 56 --m 64",
             options, run_scale_pack, exit_code);
  pack->add_option("--k-blocks", options->k_blocks, "Columns of src")->required();
  CLI::App* hc = add_op(command, "hc_prenorm", "dgrt explain hc_prenorm --n 24 --k 28672 --m 64",
                        options, run_hc_prenorm, exit_code);
  hc->add_option("--n", options->n, "Columns of z")->required();
  hc->add_option("--k", options->k, "Columns of x")->required();
  hc->add_flag("--batch-invariant", options->batch_invariant, "With DGRT_FLAG_BATCH_INVARIANT");
  add_attention(command, exit_code);
}

}  // namespace dgrt
