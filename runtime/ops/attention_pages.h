// What the ops over a paged cache take besides the cache itself.
#pragma once
#include "runtime/ops/attention_common.h"
#include "runtime/ops/op.h"

namespace dgrt::attention {

inline Status check_page_error(uint32_t flags, const int32_t* page_error) {
  if ((flags & DGRT_ATTN_CHECK_PAGES) != 0) return check_pointer("page_error", page_error, 16);
  if (page_error != nullptr)
    return invalid("page_error={}: must be NULL without CHECK_PAGES", static_cast<const void*>(page_error));
  return ok();
}

// Constants and name of a kernel.
inline void set_page_constants(uint32_t flags, Instance* i) {
  const bool checks = (flags & DGRT_ATTN_CHECK_PAGES) != 0;
  i->cfg.set("check_pages", checks);
  if (checks) i->entry += "_check";
}

}  // namespace dgrt::attention
