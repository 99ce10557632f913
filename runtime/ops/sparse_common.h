// What the host sides of the helper ops around sparse MLA say in the same words: rules for sizes, strides and
// flags, and the selector's breakpoints.
#pragma once
#include <algorithm>
#include <cstdint>

#include "dgrt/mla.h"
#include "runtime/base/status.h"
#include "runtime/ops/arg_rules.h"
#include "runtime/ops/op.h"

namespace dgrt::sparse {

constexpr int64_t max_size = INT32_MAX;
constexpr int64_t max_tokens = (int64_t{1} << 30) - 1;
constexpr int64_t max_stride = int64_t{1} << 40;  // exclusive

// Of numbers that are not negative; 2^62 and more are 2^62. For costs: sizes may be anything.
inline int64_t capped_product(int64_t x, int64_t y) {
  constexpr int64_t most = int64_t{1} << 62;
  return x == 0 || y <= most / x ? x * y : most;
}

inline Status check_range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) return invalid("{}={}: must be {} to {}", name, value, least, most);
  return ok();
}
// A bound in a desc.
inline Status check_count(const char* name, int64_t value, int64_t most) {
  return check_range(name, value, 0, most);
}
// A size that a desc bounds.
inline Status check_within(const char* name, int64_t value, const char* bound, int64_t most) {
  if (value < 0 || value > most) return invalid("{}={}: must be 0 to {}={}", name, value, bound, most);
  return ok();
}

inline Status check_stride(const char* name, int64_t stride, int64_t least, int64_t multiple = 1) {
  if (stride < least || stride >= max_stride)
    return invalid("{}={}: must be at least {} and less than 2^40", name, stride, least);
  if (stride % multiple != 0) return invalid("{}={}: must be a multiple of {}", name, stride, multiple);
  return ok();
}

// more, names: flags that not all of the ops know.
template <class Desc>
Status check_flags(const char* op, const Desc& d, uint32_t more = 0, const char* names = "") {
  constexpr uint32_t known = DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT;
  if ((d.flags & ~(known | more)) != 0)
    return invalid("flags={:#x}: {} knows PDL, BATCH_INVARIANT{}", d.flags, op, names);
  if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
  return ok();
}

inline Status check_arch(const char* op, const Target& target) {
  if (target.arch != "sm_90a")
    return error(DGRT_UNSUPPORTED, "arch={}: {} has kernels for sm_90a", target.arch, op);
  return ok();
}

// `first` and its doubles, up to the largest value there can be.
inline SelectorVar powers(const char* name, int64_t max, int64_t first, int64_t most) {
  SelectorVar variable{name, max, {}};
  for (int64_t value = first; value < most; value *= 2) variable.breaks.push_back(value);
  variable.breaks.push_back(most);
  return variable;
}

}  // namespace dgrt::sparse
