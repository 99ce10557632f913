// dgrt explain, of sparse MLA and the helper ops around it: descs from options.
#include <memory>
#include <string>

#include "dgrt/mla.h"
#include "tools/explain_desc.h"

namespace dgrt {
namespace {

struct SparseOptions : ExplainTarget {
  int64_t m = 0, top_k = 512, columns = 0, batch = 0, window = 128, num_heads = 0, head_dim = 576;
  uint32_t sm_budget = 0;
  std::string format = "v4";
  bool slots_int64 = false, batch_invariant = false, no_split = false;

  dgrt_mla_kv_format kv_format() const { return format == "v32" ? DGRT_MLA_KV_V32 : DGRT_MLA_KV_V4; }
  uint32_t slot_flags() const { return slots_int64 ? DGRT_KV_SLOTS_INT64 : 0; }
};

int run_explain_topk(const SparseOptions& options) {
  dgrt_topk_transform_desc desc = DGRT_TOPK_TRANSFORM_DESC;
  desc.top_k = options.top_k, desc.max_rows = options.m, desc.max_columns = options.columns;
  return run_desc(&desc.op, {options.m, options.columns}, options);
}

int run_explain_latent_append(const SparseOptions& options) {
  dgrt_mla_kv_append_desc desc = DGRT_MLA_KV_APPEND_DESC;
  desc.max_tokens = options.m, desc.format = options.kv_format(), desc.flags = options.slot_flags();
  return run_desc(&desc.op, {options.m}, options);
}

int run_explain_dequant(const SparseOptions& options) {
  dgrt_kv_dequant_paged_desc desc = DGRT_KV_DEQUANT_PAGED_DESC;
  desc.max_rows = options.m, desc.max_batch = options.batch, desc.format = options.kv_format();
  desc.flags = options.slot_flags();
  return run_desc(&desc.op, {options.m, options.batch}, options);
}

int run_explain_swa_ids(const SparseOptions& options) {
  dgrt_build_swa_token_ids_desc desc = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  desc.window = options.window, desc.max_batch = options.batch, desc.max_capacity = options.m;
  return run_desc(&desc.op, {options.m}, options);
}

int run_explain_combine(const SparseOptions& options) {
  dgrt_combine_topk_swa_indices_desc desc = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  desc.window = options.window, desc.max_tokens = options.m;
  return run_desc(&desc.op, {options.m}, options);
}

int run_explain_sparse_decode(const SparseOptions& options) {
  dgrt_mla_sparse_decode_desc desc = DGRT_MLA_SPARSE_DECODE_DESC;
  desc.num_q_heads = options.num_heads, desc.max_tokens = options.m, desc.max_keys = options.top_k;
  desc.format = options.kv_format(), desc.sm_budget = options.sm_budget;
  desc.flags = (options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0) | (options.no_split ? DGRT_MLA_NO_SPLIT : 0);
  return run_desc(&desc.op, {options.m, options.top_k}, options);
}

int run_explain_prefill(const SparseOptions& options) {
  dgrt_mla_sparse_prefill_desc desc = DGRT_MLA_SPARSE_PREFILL_DESC;
  desc.num_heads = options.num_heads, desc.head_dim_qk = options.head_dim, desc.dtype = DGRT_BF16;
  desc.max_tokens = options.m, desc.max_top_k = options.top_k;
  return run_desc(&desc.op, {options.m, options.top_k}, options);
}

struct SparseCommand {
  CLI::App* command;
  std::shared_ptr<SparseOptions> options;
};

SparseCommand add_sparse_op(CLI::App& explain, const char* op, const char* example, const char* m,
                            int (*run)(const SparseOptions&), int& exit_code) {
  const auto options = std::make_shared<SparseOptions>();
  CLI::App* command = explain.add_subcommand(op, std::string("Explain a call of ") + op);
  command->footer(fmt::format("Example: dgrt explain {} {}", op, example));
  command->add_option("--m", options->m, m)->check(CLI::Range(int64_t{0}, int64_t{INT32_MAX}))->required();
  add_explain_options(*command, *options);
  command->callback([options, run, &exit_code] { exit_code = run(*options); });
  return {command, options};
}

void add_format(const SparseCommand& sparse) {
  sparse.command->add_option("--format", sparse.options->format, "Of the cache")
      ->check(CLI::IsMember({"v32", "v4"}))
      ->capture_default_str();
}

void add_slots(const SparseCommand& sparse) {
  add_format(sparse);
  sparse.command->add_flag("--slots-int64", sparse.options->slots_int64, "With DGRT_KV_SLOTS_INT64");
}

void add_window(const SparseCommand& sparse) {
  sparse.command->add_option("--window", sparse.options->window, "Tokens that a query sees, its own among them")
      ->capture_default_str();
}

}  // namespace

void add_explain_sparse(CLI::App& explain, int& exit_code) {
  const SparseCommand topk = add_sparse_op(explain, "topk_transform", "--columns 32768 --top-k 512 --m 64", "Rows",
                                           run_explain_topk, exit_code);
  topk.command->add_option("--columns", topk.options->columns, "Scores of a row")->required();
  topk.command->add_option("--top-k", topk.options->top_k, "How many are taken")->capture_default_str();

  add_slots(add_sparse_op(explain, "mla_kv_append", "--format v32 --m 64", "Tokens", run_explain_latent_append,
                          exit_code));

  const SparseCommand dequant = add_sparse_op(explain, "kv_dequant_paged", "--format v4 --m 8192",
                                              "Rows, of a sequence where there are some", run_explain_dequant,
                                              exit_code);
  add_slots(dequant);
  dequant.command->add_option("--batch", dequant.options->batch, "Sequences (0: by slot)")->capture_default_str();

  const SparseCommand decode =
      add_sparse_op(explain, "mla_sparse_decode", "--num-q-heads 128 --top-k 2048 --format v32 --m 256", "Query tokens",
                    run_explain_sparse_decode, exit_code);
  add_format(decode);
  decode.command->add_option("--num-q-heads", decode.options->num_heads, "Query heads")->required();
  decode.command->add_option("--top-k", decode.options->top_k, "Entries of a token's lists")->capture_default_str();
  decode.command->add_option("--sm-budget", decode.options->sm_budget, "Most SMs to use (0: all)");
  decode.command->add_flag("--batch-invariant", decode.options->batch_invariant, "With DGRT_FLAG_BATCH_INVARIANT");
  decode.command->add_flag("--no-split", decode.options->no_split, "With DGRT_MLA_NO_SPLIT");

  const SparseCommand ids = add_sparse_op(explain, "build_swa_token_ids", "--batch 4 --m 8700", "Capacity",
                                          run_explain_swa_ids, exit_code);
  add_window(ids);
  ids.command->add_option("--batch", ids.options->batch, "Requests")->capture_default_str();

  const SparseCommand prefill =
      add_sparse_op(explain, "mla_sparse_prefill", "--num-heads 128 --head-dim 576 --top-k 2048 --m 4096", "Tokens",
                    run_explain_prefill, exit_code);
  prefill.command->add_option("--num-heads", prefill.options->num_heads, "Heads of a token")->required();
  prefill.command->add_option("--head-dim", prefill.options->head_dim, "Columns of a row: 576 or 512")
      ->capture_default_str();
  prefill.command->add_option("--top-k", prefill.options->top_k, "Rows that a token sees, at most")
      ->capture_default_str();

  add_window(add_sparse_op(explain, "combine_topk_swa_indices", "--m 8192", "Tokens", run_explain_combine,
                           exit_code));
}

}  // namespace dgrt
