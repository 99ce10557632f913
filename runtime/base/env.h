// Env: every variable that dgrt reads, resolved once per context, so that a run can be explained from this
// one struct. (Where the user's cache lives by default is cache/disk_cache's to say.) A process
// with raised privileges (AT_SECURE) sees an empty environment.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "dgrt/dgrt.h"
#include "runtime/base/status.h"

namespace dgrt {

// Which compilers' entries a context takes from the cache; architecture: cache and compiler
// identity.
enum class CompilerPolicy { automatic, exact, any };

struct Env {
  std::string cache_dir;      // DGRT_CACHE_DIR; "" when unset
  std::string cache_ro_path;  // DGRT_CACHE_RO_PATH: directories that are only read, "a:b"
  std::string bundle_path;    // DGRT_BUNDLE_PATH: bundle files, "a:b"
  std::string bundle_digest;  // DGRT_BUNDLE_DIGEST: what each of them must have, "a:b"
  dgrt_miss_policy miss_policy = DGRT_MISS_DEFAULT;            // DGRT_MISS=compile|error
  CompilerPolicy compiler_policy = CompilerPolicy::automatic;  // DGRT_COMPILER=exact|any
  dgrt_log_level log_level = DGRT_LOG_DEFAULT;                 // DGRT_LOG=debug|info|warn|error|off
  bool explain_misses = false;                                 // DGRT_EXPLAIN=miss
  std::string heuristics_path;  // DGRT_HEURISTICS_PATH: directory of tables that come before the
                                // embedded ones
  std::string record_path;      // DGRT_RECORD: file that the descs of created plans are added to
  std::string
      dump_dir;  // DGRT_DUMP: directory for the source, image and log of each compiled kernel
  std::string nvtx_injection;  // NVTX_INJECTION64_PATH: a profiler's library, set by the profiler
  std::string
      kernels_dir;  // DGRT_KERNELS_DIR: kernel templates read from here, not from the library
};

// Value of a variable, or NULL when it is not set.
using EnvLookup = std::function<const char*(const char* name)>;

// Empty values count as unset. INVALID_ARGUMENT names the variable, its value and what is allowed.
Result<Env> read_env();
Result<Env> read_env(const EnvLookup& lookup);

}  // namespace dgrt
