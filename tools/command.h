// The `dgrt` command line: one file per subcommand, each of which adds itself with one function.
// What all of them share stands here: how a run reports its outcome, and the options that mean the
// same everywhere. Results go to standard output; progress, warnings and errors to standard error.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/base/status.h"

namespace dgrt {

// Each sets `exit_code` when its subcommand ran: 0 only if nothing failed.
void add_prewarm(CLI::App& app, int& exit_code);
void add_cache(CLI::App& app, int& exit_code);
void add_bundle(CLI::App& app, int& exit_code);
void add_explain(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_tune(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_version(CLI::App& app, int& exit_code);
void add_worker(CLI::App& app, int& exit_code);
void add_bundle_signing(CLI::App& bundle, int& exit_code);  // `bundle keygen`, `bundle sign`

// --arch and --sms: for which device kernels are chosen.
struct TargetOptions {
  std::string arch = "sm_90a";
  uint32_t sms = 132;
};
void add_target_options(CLI::App& command, TargetOptions& options);

// --cache-dir: empty when not given.
void add_cache_dir_option(CLI::App& command, std::string& cache_dir);
// The option, else DGRT_CACHE_DIR, else the user's cache directory: what the library would take.
Result<std::string> resolve_cache_dir(const std::string& option);

// Ends a command that could not run: "dgrt: <message>" on standard error and, with `json`,
// {"error": ...} on standard output. Returns the exit code 1.
int report(const Status& status, bool json);

// One line on standard output. Text that is not UTF-8 (a path) is made so.
void print_json(const nlohmann::ordered_json& value);

}  // namespace dgrt
