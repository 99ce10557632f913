// dgrt explain: why one call gets the kernel that it gets: the candidates with their modelled
// costs, the winner, and the table rule or the model that chose it. Runs the code that plan
// creation runs. Subcommands make descs of their options; what is said of a desc stands here.
#pragma once
#include <CLI/CLI.hpp>

#include "runtime/ops/op.h"
#include "tools/command.h"

namespace dgrt {

// Options of every subcommand.
struct ExplainTarget {
  TargetOptions target;
  bool json = false;
};
void add_explain_options(CLI::App& command, ExplainTarget& options);

// Explains a call at `point`, the op's selector variables. Returns the exit code.
int run_desc(const dgrt_desc* desc, const Point& point, const ExplainTarget& options);

// The subcommands of attention and of the indexer.
void add_explain_attention(CLI::App& explain, int& exit_code);
void add_explain_indexer(CLI::App& explain, int& exit_code);
// Those of the helper ops around sparse MLA.
void add_explain_sparse(CLI::App& explain, int& exit_code);

}  // namespace dgrt
