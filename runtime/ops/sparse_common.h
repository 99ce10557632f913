// What the host sides of the helper ops around sparse MLA say in the same words: rules for sizes, strides and
// flags, and the selector's breakpoints.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "dgrt/mla.h"
#include "device/common/latent_row.cuh"
#include "runtime/base/config.h"
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
  if constexpr (requires { d.reserved; })
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

// ---- Configs that are one number ----

inline std::vector<Config> only(const Target& target, const char* name, int64_t value) {
  if (target.arch != "sm_90a") return {};
  return {{{name, value}}};
}
inline Status check_only(const char* op, const Target& target, const Config& c, const char* name, int64_t value) {
  DGRT_TRY(check_arch(op, target));
  const int64_t* given = c.find(name);
  if (!given) return invalid("{}: missing", name);
  if (*given != value) return invalid("{}={}: must be {}", name, *given, value);
  return ok();
}

inline std::vector<Config> one_or_two(const Target& target, const char* name) {
  if (target.arch != "sm_90a") return {};
  return {{{name, 1}}, {{name, 2}}};
}
inline Status check_one_or_two(const char* op, const Target& target, const Config& c, const char* name) {
  DGRT_TRY(check_arch(op, target));
  const int64_t* value = c.find(name);
  if (!value) return invalid("{}: missing", name);
  if (*value != 1 && *value != 2) return invalid("{}={}: must be 1 or 2", name, *value);
  return ok();
}

// ---- Ops over the quantised caches, whose warps move a row each ----

constexpr uint32_t resident_blocks = 4;  // of 256 threads on one SM; 64 registers (tests/compile checks)

static_assert(latent_v32 == DGRT_MLA_KV_V32 && latent_v4 == DGRT_MLA_KV_V4);

inline Status check_format(dgrt_mla_kv_format format) {
  if (format != DGRT_MLA_KV_V32 && format != DGRT_MLA_KV_V4)
    return invalid("format={}: must be DGRT_MLA_KV_V32 or DGRT_MLA_KV_V4", format);
  return ok();
}
inline const char* format_name(dgrt_mla_kv_format format) { return format == DGRT_MLA_KV_V32 ? "v32" : "v4"; }

template <class Desc>
bool has_wide_slots(const Desc& d) {
  return (d.flags & DGRT_KV_SLOTS_INT64) != 0;
}

// What a call says of a cache. prefix: of the fields' names.
struct CacheArgs {
  const char* prefix;
  const char* pointer_name;
  const void* cache;
  int64_t page_size, num_pages, page_stride;
};

// num_pages is in its range.
inline Status check_cache(dgrt_mla_kv_format format, const CacheArgs& x) {
  if (x.page_size < 1 || x.page_size > max_size || x.num_pages * x.page_size > max_size)
    return invalid("{}page_size={}: must be at least 1, and {} pages have at most {} slots", x.prefix, x.page_size,
                   x.num_pages, max_size);
  DGRT_TRY(check_pointer(x.pointer_name, x.cache, 16));
  const int64_t least = x.page_size * latent_token_bytes(static_cast<int>(format));
  if (x.page_stride < least || x.page_stride >= max_stride)
    return invalid("{}cache_page_stride={}: must be at least {} and less than 2^40", x.prefix, x.page_stride, least);
  if (x.page_stride % 16 != 0)
    return invalid("{}cache_page_stride={}: must be a multiple of 16", x.prefix, x.page_stride);
  return ok();
}
template <class Args>
Status check_cache(dgrt_mla_kv_format format, const Args& x) {
  return check_cache(format, {"", "cache", x.cache, x.page_size, x.num_pages, x.cache_page_stride});
}

// Of `rows` that take `row_bytes`: the larger of device memory and, in rounds of resident blocks, one wait for
// memory and the stores.
inline int64_t warp_rows_ps(const Target& target, int64_t rows, int64_t row_bytes, int64_t rows_per_warp) {
  const int64_t memory_ps = capped_product(rows, row_bytes) / 427 * 100;  // 4.27 TB/s, H200, measured
  const int64_t rounds = div_up(rows, 8 * rows_per_warp * target.sm_count * resident_blocks);
  return 2'850'000 + std::max(memory_ps, capped_product(rounds, 800'000 + rows_per_warp * 100'000));
}

}  // namespace dgrt::sparse
