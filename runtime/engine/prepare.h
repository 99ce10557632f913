// dgrt_prepare: every kernel of many plans, several at a time.
#pragma once
#include <cstddef>

#include "runtime/engine/context.h"
#include "runtime/engine/enumerate.h"

namespace dgrt {

// The kernels whose keys fall to one of several machines that share the work.
struct Shard {
  uint32_t index = 0, count = 1;
  bool holds(const Key& key) const;  // each key is in exactly one shard, on every machine
};

// The distinct kernels of all descs that the shard holds, in the order of first use. A desc that
// cannot be planned is left out; the first such failure goes to `failure`, which names it.
std::vector<PlannedKernel> plan_kernels(Context& context, const dgrt_desc* const* descs,
                                        size_t num_descs, const Shard& shard, Status* failure);

// Tries all kernels of all descs that the shard holds; returns the first failure, in the order of descs and their
// kernels. What the caches hold comes first, what another process is compiling last. If there is
// enough to compile for it to pay, worker processes do it. `progress` may be null.
Status prepare(Context& context, const dgrt_desc* const* descs, size_t num_descs,
               dgrt_progress_fn progress, void* user, const Shard& shard = {});

// The same for a list of kernels. Requires: distinct keys.
Status prepare(Context& context, std::vector<PlannedKernel> kernels, dgrt_progress_fn progress,
               void* user);

}  // namespace dgrt
