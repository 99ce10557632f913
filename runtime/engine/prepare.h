// dgrt_prepare: every kernel of many plans, several at a time.
#pragma once
#include <cstddef>

#include "runtime/engine/context.h"

namespace dgrt {

// Tries all kernels of all descs; returns the first failure, in the order of descs and their
// kernels. Kernels that another process is compiling are left for last. `progress` may be null.
Status prepare(Context& context, const dgrt_desc* const* descs, size_t num_descs,
               dgrt_progress_fn progress, void* user);

}  // namespace dgrt
