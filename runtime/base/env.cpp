#include "runtime/base/env.h"

#include <stdlib.h>

#include <array>
#include <string_view>
#include <utility>

namespace dgrt {
namespace {

std::string text_of(const EnvLookup& lookup, const char* name) {
  const char* value = lookup(name);
  return value ? value : "";
}

// Sets `out` to the number that stands beside the variable's value; unset leaves it alone.
template <class T, size_t n>
Status read_word(const EnvLookup& lookup, const char* name,
                 const std::array<std::pair<std::string_view, T>, n>& words, T* out) {
  const std::string value = text_of(lookup, name);
  if (value.empty()) return ok();
  std::string allowed;
  for (const auto& [word, meaning] : words) {
    if (value == word) {
      *out = meaning;
      return ok();
    }
    if (!allowed.empty()) allowed += ", ";
    allowed += word;
  }
  return invalid("environment variable {}={}: must be one of {}", name, value, allowed);
}

}  // namespace

Result<Env> read_env(const EnvLookup& lookup) {
  using LogWord = std::pair<std::string_view, dgrt_log_level>;
  using MissWord = std::pair<std::string_view, dgrt_miss_policy>;
  using CompilerWord = std::pair<std::string_view, CompilerPolicy>;
  Env env;
  env.cache_dir = text_of(lookup, "DGRT_CACHE_DIR");
  env.cache_ro_path = text_of(lookup, "DGRT_CACHE_RO_PATH");
  env.bundle_path = text_of(lookup, "DGRT_BUNDLE_PATH");
  env.bundle_digest = text_of(lookup, "DGRT_BUNDLE_DIGEST");
  env.heuristics_path = text_of(lookup, "DGRT_HEURISTICS_PATH");
  env.record_path = text_of(lookup, "DGRT_RECORD");
  env.dump_dir = text_of(lookup, "DGRT_DUMP");
  env.kernels_dir = text_of(lookup, "DGRT_KERNELS_DIR");
  env.nvtx_injection = text_of(lookup, "NVTX_INJECTION64_PATH");
  DGRT_TRY(read_word(
      lookup, "DGRT_MISS",
      std::array{MissWord{"compile", DGRT_MISS_COMPILE}, MissWord{"error", DGRT_MISS_ERROR}},
      &env.miss_policy));
  DGRT_TRY(read_word(lookup, "DGRT_COMPILER",
                     std::array{CompilerWord{"exact", CompilerPolicy::exact},
                                CompilerWord{"any", CompilerPolicy::any}},
                     &env.compiler_policy));
  DGRT_TRY(read_word(lookup, "DGRT_EXPLAIN",
                     std::array{std::pair<std::string_view, bool>{"miss", true}},
                     &env.explain_misses));
  DGRT_TRY(read_word(lookup, "DGRT_LOG",
                     std::array{LogWord{"debug", DGRT_LOG_DEBUG}, LogWord{"info", DGRT_LOG_INFO},
                                LogWord{"warn", DGRT_LOG_WARN}, LogWord{"error", DGRT_LOG_ERROR},
                                LogWord{"off", DGRT_LOG_OFF}},
                     &env.log_level));
  return env;
}

Result<Env> read_env() {
  return read_env([](const char* name) { return static_cast<const char*>(secure_getenv(name)); });
}

}  // namespace dgrt
