// The `dgrt` command line: one file per subcommand, each of which adds itself with one function.
// What all of them share stands here: how a run reports its outcome, and the options that mean the
// same everywhere.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "runtime/base/status.h"

namespace dgrt {

// Each sets `exit_code` when its subcommand ran: 0 only if nothing failed.
void add_prewarm(CLI::App& app, int& exit_code);
void add_cache(CLI::App& app, int& exit_code);
void add_explain(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_version(CLI::App& app, int& exit_code);

// --arch and --sms: for which device kernels are chosen.
struct TargetOptions {
  std::string arch = "sm_90a";
  uint32_t sms = 132;
};
void add_target_options(CLI::App& command, TargetOptions& options);

// --cache-dir. Left empty, the directory is the library's: DGRT_CACHE_DIR, else the user's cache.
void add_cache_dir_option(CLI::App& command, std::string& cache_dir);

// Prints "dgrt: <message>" on standard error and returns the exit code 1.
int report(const Status& status);

}  // namespace dgrt
