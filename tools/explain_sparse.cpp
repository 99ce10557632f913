// dgrt explain, of the helper ops around sparse MLA: descs from options.
#include <memory>
#include <string>

#include "dgrt/mla.h"
#include "tools/explain_desc.h"

namespace dgrt {
namespace {

struct SparseOptions : ExplainTarget {
  int64_t m = 0, top_k = 512, columns = 0;
};

int run_explain_topk(const SparseOptions& options) {
  dgrt_topk_transform_desc desc = DGRT_TOPK_TRANSFORM_DESC;
  desc.top_k = options.top_k, desc.max_rows = options.m, desc.max_columns = options.columns;
  return run_desc(&desc.op, {options.m, options.columns}, options);
}

CLI::App* add_sparse_op(CLI::App& explain, const char* op, const char* example, const char* m,
                        const std::shared_ptr<SparseOptions>& options, int (*run)(const SparseOptions&), int& exit_code) {
  CLI::App* command = explain.add_subcommand(op, std::string("Explain a call of ") + op);
  command->footer(fmt::format("Example: dgrt explain {} {}", op, example));
  command->add_option("--m", options->m, m)->check(CLI::Range(int64_t{0}, int64_t{INT32_MAX}))->required();
  add_explain_options(*command, *options);
  command->callback([options, run, &exit_code] { exit_code = run(*options); });
  return command;
}

}  // namespace

void add_explain_sparse(CLI::App& explain, int& exit_code) {
  const auto options = std::make_shared<SparseOptions>();
  CLI::App* topk = add_sparse_op(explain, "topk_transform", "--columns 32768 --top-k 512 --m 64", "Rows",
                                 options, run_explain_topk, exit_code);
  topk->add_option("--columns", options->columns, "Scores of a row")->required();
  topk->add_option("--top-k", options->top_k, "How many are taken")->capture_default_str();
}

}  // namespace dgrt
