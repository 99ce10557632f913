// A soak: threads that make contexts and plans over one cache directory and use them, while another
// one flips bits of its files, cuts, swaps, links and deletes them, and evicts. Whatever happens on
// disk, plans must come and work; memory and descriptors must not grow.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/engine/plan.h"

namespace dgrt::test {

struct Soak {
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;  // cache_dir: of the soak's own
  ContextParts parts = {};
  std::vector<const dgrt_desc*> descs;
  uint32_t num_threads = 4;
  std::chrono::seconds duration{3};
  // Uses a plan of descs[desc_idx] in a thread; a failure ends the soak.
  std::function<Status(const dgrt::Plan& plan, size_t desc_idx, uint32_t thread)> use;

  // One line: what was done. Prints such a line every 30 s, too.
  Result<std::string> run() const;
};

// DGRT_SOAK_SECONDS, else 3.
std::chrono::seconds soak_duration();

}  // namespace dgrt::test
