// What every test of a warmed engine ends with: its launches have neither compiled nor loaded.
#pragma once
#include "dgrt/dgrt.h"
#include "runtime/base/status.h"

namespace dgrt::test {

inline Status check_hot_path(const dgrt_stats& stats) {
  if (stats.launch_compiles == 0 && stats.launch_loads == 0) return ok();
  return error(DGRT_INTERNAL, "launches have compiled {} and loaded {} kernels, must be none",
               stats.launch_compiles, stats.launch_loads);
}

}  // namespace dgrt::test
