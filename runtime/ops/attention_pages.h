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

// Keys and values of q's tokens.
template <class Desc, class Args>
Status check_new_keys(const Desc& d, const Args& x) {
  if ((d.flags & DGRT_ATTN_NEW_KEYS) != 0) {
    DGRT_TRY(check_tensor("k_new", x.k_new, x.k_new_token_stride, x.k_new_head_stride, d.head_dim_qk));
    return check_tensor("v_new", x.v_new, x.v_new_token_stride, x.v_new_head_stride, d.head_dim_v);
  }
  for (const auto& [name, pointer] : {std::pair{"k_new", x.k_new}, {"v_new", x.v_new}})
    if (pointer != nullptr) return invalid("{}: must be NULL without NEW_KEYS", name);
  for (const auto& [name, stride] : {std::pair{"k_new_token", x.k_new_token_stride},
                                     {"k_new_head", x.k_new_head_stride},
                                     {"v_new_token", x.v_new_token_stride},
                                     {"v_new_head", x.v_new_head_stride}})
    if (stride != 0) return invalid("{}_stride={}: must be 0 without NEW_KEYS", name, stride);
  return ok();
}

// Constants and name of a kernel.
inline void set_page_constants(uint32_t flags, Instance* i) {
  const bool checks = (flags & DGRT_ATTN_CHECK_PAGES) != 0;
  i->cfg.set("check_pages", checks);
  if (checks) i->entry += "_check";
}

}  // namespace dgrt::attention
