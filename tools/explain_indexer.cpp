// dgrt explain, of the indexer's ops: descs from options.
#include <memory>
#include <string>

#include "dgrt/indexer.h"
#include "tools/explain_desc.h"

namespace dgrt {
namespace {

struct IndexerOptions : ExplainTarget {
  int64_t num_heads = 64, head_dim = 128, m = 0, keys = 0;
  int64_t next_n = 1, page_size = 64;
  std::string dtype_out = "fp32";
  bool clean = false, compressed = false;

  dgrt_dtype dtype() const { return dtype_out == "bf16" ? DGRT_BF16 : DGRT_FP32; }
};

int run_explain_logits(const IndexerOptions& options) {
  dgrt_mqa_logits_desc desc = DGRT_MQA_LOGITS_DESC;
  desc.num_heads = options.num_heads, desc.head_dim = options.head_dim;
  desc.max_tokens = options.m, desc.max_kv_tokens = options.keys;
  desc.dtype_out = options.dtype();
  desc.flags = (options.clean ? DGRT_LOGITS_CLEAN : 0) | (options.compressed ? DGRT_LOGITS_COMPRESSED : 0);
  return run_desc(&desc.op, {options.m, options.keys}, options);
}

int run_explain_paged_logits(const IndexerOptions& options) {
  dgrt_paged_mqa_logits_desc desc = DGRT_PAGED_MQA_LOGITS_DESC;
  desc.num_heads = options.num_heads, desc.head_dim = options.head_dim;
  desc.next_n = options.next_n, desc.page_size = options.page_size;
  desc.max_batch = options.m, desc.max_context_len = options.keys;
  desc.dtype_out = options.dtype();
  desc.flags = options.clean ? DGRT_LOGITS_CLEAN : 0;
  return run_desc(&desc.op, {options.m, options.keys}, options);
}

using SharedIndexerOptions = std::shared_ptr<IndexerOptions>;

CLI::App* add_indexer_op(CLI::App& explain, const char* op, const char* example, const char* m,
                         const SharedIndexerOptions& options, int (*run)(const IndexerOptions&), int& exit_code) {
  CLI::App* command = explain.add_subcommand(op, std::string("Explain a call of ") + op);
  command->footer(fmt::format("Example: dgrt explain {} {}", op, example));
  const CLI::Range sizes(int64_t{0}, int64_t{INT32_MAX});
  command->add_option("--m", options->m, m)->check(sizes)->required();
  command->add_option("--keys", options->keys, "Keys of the longest context")->check(sizes)->required();
  command->add_option("--num-heads", options->num_heads, "Heads of q")->capture_default_str();
  command->add_option("--head-dim", options->head_dim, "Columns of a head")->capture_default_str();
  command->add_option("--dtype-out", options->dtype_out, "Of the logits")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  command->add_flag("--clean", options->clean, "With DGRT_LOGITS_CLEAN");
  add_explain_options(*command, *options);
  command->callback([options, run, &exit_code] { exit_code = run(*options); });
  return command;
}

}  // namespace

void add_explain_indexer(CLI::App& explain, int& exit_code) {
  const auto logits = std::make_shared<IndexerOptions>(), paged = std::make_shared<IndexerOptions>();
  add_indexer_op(explain, "mqa_logits", "--m 2048 --keys 65536", "Tokens", logits, run_explain_logits, exit_code)
      ->add_flag("--compressed", logits->compressed, "With DGRT_LOGITS_COMPRESSED");
  CLI::App* command = add_indexer_op(explain, "paged_mqa_logits", "--m 256 --keys 8192 --next-n 2", "Requests", paged,
                             run_explain_paged_logits, exit_code);
  command->add_option("--next-n", paged->next_n, "Tokens of each request")->capture_default_str();
  command->add_option("--page-size", paged->page_size, "Keys of a page")->capture_default_str();
}

}  // namespace dgrt
