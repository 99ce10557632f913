#include "tools/command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cache/disk_cache.h"
#include "runtime/base/env.h"

namespace dgrt {

void add_target_options(CLI::App& command, TargetOptions& options) {
  command.add_option("--arch", options.arch, "Architecture that kernels are made for")
      ->capture_default_str();
  command.add_option("--sms", options.sms, "SMs of the device (H100 and H200 SXM: 132)")
      ->check(CLI::Range(1u, 4096u))
      ->capture_default_str();
}

void add_cache_dir_option(CLI::App& command, std::string& cache_dir) {
  command.add_option("--cache-dir", cache_dir,
                     "Cache directory (default: DGRT_CACHE_DIR, else ~/.cache/dgrt)");
}

Result<std::string> resolve_cache_dir(const std::string& option) {
  if (!option.empty()) return option;
  DGRT_ASSIGN(Env env, read_env());
  if (!env.cache_dir.empty()) return env.cache_dir;
  if (const std::optional<std::string> dir = default_cache_dir()) return *dir;
  return invalid(
      "cache-dir: not given, and neither DGRT_CACHE_DIR, XDG_CACHE_HOME nor HOME is usable");
}

int report(const Status& status, bool json) {
  fmt::print(stderr, "dgrt: {}: {}\n", dgrt_status_string(status.code()), status.message());
  if (json) print_json({{"error", status.message()}});
  return 1;
}

void print_json(const nlohmann::ordered_json& value) {
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  fmt::print("{}\n", value.dump(-1, ' ', false, replace));
  std::fflush(stdout);
}

}  // namespace dgrt
