// Rules and numbers that the attention ops share.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>

#include "device/common/attn_params.cuh"
#include "device/common/attn_tile.cuh"
#include "dgrt/attention.h"
#include "runtime/base/status.h"
#include "runtime/ops/arg_rules.h"

namespace dgrt::attention {

constexpr int64_t max_tokens = (int64_t{1} << 30) - 1;  // positions and their sums fit 32 bits
constexpr int64_t max_heads = 65535;

// Of numbers that are not negative; 2^62 and more are 2^62. For costs: sizes may be anything.
inline int64_t capped_product(int64_t x, int64_t y) {
  constexpr int64_t most = int64_t{1} << 62;
  return x == 0 || y <= most / x ? x * y : most;
}

inline const char* dtype_name(dgrt_dtype dtype) {
  return dtype == DGRT_FP16 ? "fp16" : dtype == DGRT_FP32 ? "fp32" : "bf16";
}

// Columns of the value tile that kernels are compiled for.
inline int64_t padded_v(int64_t head_dim) {
  for (const int64_t columns : {64, 96, 128, 192, 256})
    if (head_dim <= columns) return columns;
  return 512;
}

inline Status check_head_dim(const char* name, int64_t value) {
  if (value < 8 || value > 512 || value % 8 != 0)
    return invalid("{}={}: must be a multiple of 8 from 8 to 512", name, value);
  return ok();
}

inline Status check_head_counts(int64_t num_q_heads, int64_t num_kv_heads) {
  if (num_kv_heads < 1 || num_kv_heads > max_heads)
    return invalid("num_kv_heads={}: must be 1 to {}", num_kv_heads, max_heads);
  if (num_q_heads < 1 || num_q_heads > max_heads || num_q_heads % num_kv_heads != 0)
    return invalid("num_q_heads={}: must be a multiple of num_kv_heads={} up to {}", num_q_heads,
                   num_kv_heads, max_heads);
  return ok();
}

inline Status check_heads(int64_t num_q_heads, int64_t num_kv_heads, int64_t head_dim_qk,
                          int64_t head_dim_v) {
  DGRT_TRY(check_head_counts(num_q_heads, num_kv_heads));
  DGRT_TRY(check_head_dim("head_dim_qk", head_dim_qk));
  return check_head_dim("head_dim_v", head_dim_v);
}

// Bounds of the selector's variables.
template <class Desc>
Status check_bounds(const Desc& d) {
  for (const auto& [name, value] : {std::pair{"max_batch", d.max_batch},
                                    {"max_q_len", d.max_q_len},
                                    {"max_kv_len", d.max_kv_len}})
    if (value < 0 || value > max_tokens)
      return invalid("{}={}: must be 0 to {}", name, value, max_tokens);
  return ok();
}

// Of any attention op. more, names: flags that not all of them know.
template <class Desc>
Status check_desc(const char* op, const Desc& d, uint32_t more = 0, const char* names = "") {
  DGRT_TRY(check_heads(d.num_q_heads, d.num_kv_heads, d.head_dim_qk, d.head_dim_v));
  DGRT_TRY(check_bounds(d));
  constexpr uint32_t known = DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_ATTN_SOFTCAP |
                             DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK;
  if ((d.flags & ~(known | more)) != 0)
    return invalid("flags={:#x}: {} knows PDL, BATCH_INVARIANT, SOFTCAP, LSE_BASE2, LSE_WITH_SINK{}",
                   d.flags, op, names);
  if constexpr (requires { d.reserved; })
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
  return ok();
}

// Whether keys and values are e4m3, as those of a paged cache may be.
template <class Desc>
bool has_fp8_cache(const Desc& d) {
  return d.dtype_kv == DGRT_E4M3;
}
template <class Desc>
bool has_plain_cache(const Desc& d) {
  return d.dtype_kv == 0 || d.dtype_kv == d.dtype;
}
// Of an op that reads e4m3: what its desc must obey besides check_desc().
template <class Desc>
Status check_cache_type(const Desc& d) {
  for (const auto& [name, value] : {std::pair{"head_dim_qk", d.head_dim_qk}, {"head_dim_v", d.head_dim_v}})
    if (has_fp8_cache(d) && value % 16 != 0)
      return invalid("{}={}: must be a multiple of 16 with dtype_kv=e4m3", name, value);
  return ok();
}
// What a kernel reads of them.
template <class Args, class Params>
void set_scales(const Args& x, Params* p) {
  p->k_scale = x.k_scale, p->v_scale = x.v_scale;
  p->k_scale_head = static_cast<uint64_t>(x.k_scale_head_stride);
  p->v_scale_head = static_cast<uint64_t>(x.v_scale_head_stride);
}

// Along one axis of a tensor of heads: q, k, v, o. `multiple`: elements.
inline Status check_stride(const char* name, const char* axis, int64_t stride, int64_t head_dim,
                           int64_t multiple = 8) {
  if (stride < head_dim)
    return invalid("{}_{}_stride={}: must be at least {}, what a head holds", name, axis, stride,
                   head_dim);
  if (stride % multiple != 0)
    return invalid("{}_{}_stride={}: must be a multiple of {} (16 bytes)", name, axis, stride,
                   multiple);
  // Byte strides of tensor maps have 40 bits.
  if (stride > (int64_t{1} << 39) - 16)
    return invalid("{}_{}_stride={}: must be less than 2^40 bytes", name, axis, stride);
  return ok();
}

inline Status check_tensor(const char* name, const void* pointer, int64_t token_stride,
                           int64_t head_stride, int64_t head_dim, int64_t multiple = 8) {
  DGRT_TRY(check_pointer(name, pointer, 16));
  DGRT_TRY(check_stride(name, "token", token_stride, head_dim, multiple));
  return check_stride(name, "head", head_stride, head_dim, multiple);
}

// Counts of a call over a paged cache; nothing else is looked at where it has no queries.
template <class Desc, class Args>
Status check_paged_counts(const Desc& d, const Args& x) {
  for (const auto& [name, value, max_name, max] :
       {std::tuple{"batch", x.batch, "max_batch", d.max_batch},
        {"max_q_len", x.max_q_len, "max_q_len of the desc", d.max_q_len},
        {"max_kv_len", x.max_kv_len, "max_kv_len of the desc", d.max_kv_len},
        {"total_q", x.total_q, "the largest number of tokens", max_tokens},
        {"num_pages", x.num_pages, "the largest number of pages", max_tokens},
        {"max_pages", x.max_pages, "the largest number of pages", max_tokens}})
    if (value < 0 || value > max)
      return invalid("{}={}: must be 0 to {}={}", name, value, max_name, max);
  return ok();
}

// Whether there is any page to read.
template <class Args>
bool has_pages(const Args& x) {
  return x.num_pages > 0 && x.max_pages > 0;
}

// What an e4m3 cache is multiplied by.
template <class Args>
Status check_scales(const Args& x, bool quantised) {
  for (const auto& [name, scale, stride] : {std::tuple{"k_scale", x.k_scale, x.k_scale_head_stride},
                                            {"v_scale", x.v_scale, x.v_scale_head_stride}}) {
    if (scale == nullptr) continue;
    if (!quantised) return invalid("{}: must be NULL where the cache is not e4m3", name);
    DGRT_TRY(check_pointer(name, scale, 4));
    if (stride < 0)
      return invalid("{}_head_stride={}: must be 0 (one scale) or more", name, stride);
  }
  return ok();
}

// Which pages there are, and who has which.
template <class Args>
Status check_pages(const Args& x) {
  if (x.page_size < 1 || x.page_size > max_tokens)
    return invalid("page_size={}: must be 1 to {}", x.page_size, max_tokens);
  if (x.max_pages * x.page_size > max_tokens)
    return invalid("max_pages={}: times page_size={} must be at most {} tokens", x.max_pages,
                   x.page_size, max_tokens);
  if (x.page_table_stride < x.max_pages)
    return invalid("page_table_stride={}: must be at least max_pages={}", x.page_table_stride,
                   x.max_pages);
  return check_pointer("seq_lens", x.seq_lens, 4);
}

inline Status check_page_stride(const char* name, int64_t stride, int64_t multiple) {
  if (stride < 0 || stride % multiple != 0)
    return invalid("{}_page_stride={}: must be a multiple of {} (16 bytes)", name, stride, multiple);
  return ok();
}

template <class Desc, class Args>
Status check_paged_cache(const Desc& d, const Args& x) {
  DGRT_TRY(check_pages(x));
  if (!has_pages(x)) return ok();
  DGRT_TRY(check_scales(x, has_fp8_cache(d)));
  const int64_t multiple = has_fp8_cache(d) ? 16 : 8;
  DGRT_TRY(check_tensor("k", x.k, x.k_token_stride, x.k_head_stride, d.head_dim_qk, multiple));
  DGRT_TRY(check_tensor("v", x.v, x.v_token_stride, x.v_head_stride, d.head_dim_v, multiple));
  DGRT_TRY(check_page_stride("k", x.k_page_stride, multiple));
  DGRT_TRY(check_page_stride("v", x.v_page_stride, multiple));
  return check_pointer("page_table", x.page_table, 4);
}

inline Status check_lse(const float* lse, int64_t token_stride, int64_t head_stride) {
  if (lse == nullptr) return ok();
  DGRT_TRY(check_pointer("lse", lse, 4));
  if (token_stride < 1) return invalid("lse_token_stride={}: must be at least 1", token_stride);
  if (head_stride < 1) return invalid("lse_head_stride={}: must be at least 1", head_stride);
  return ok();
}

inline Status check_softmax(uint32_t flags, float scale, float softcap, int64_t window_left,
                            int64_t window_right) {
  if (!(scale > 0.0f) || !std::isfinite(scale))
    return invalid("scale={}: must be greater than 0", scale);
  const bool capped = (flags & DGRT_ATTN_SOFTCAP) != 0;
  if (capped && (!(softcap > 0.0f) || !std::isfinite(softcap)))
    return invalid("softcap={}: must be greater than 0 with SOFTCAP", softcap);
  if (!capped && softcap != 0.0f) return invalid("softcap={}: must be 0 without SOFTCAP", softcap);
  if (window_left < -1) return invalid("window_left={}: must be -1 (none) or more", window_left);
  if (window_right < -1) return invalid("window_right={}: must be -1 (none) or more", window_right);
  return ok();
}

inline uint32_t lse_form(uint32_t flags) {
  return ((flags & DGRT_ATTN_LSE_BASE2) != 0 ? attn_lse_base2 : 0) |
         ((flags & DGRT_ATTN_LSE_WITH_SINK) != 0 ? attn_lse_with_sink : 0);
}

template <class Params>
void set_softmax(uint32_t flags, float scale, float softcap, int64_t window_left,
                 int64_t window_right, Params* p) {
  constexpr float log2e = 1.4426950408889634f;
  const bool capped = (flags & DGRT_ATTN_SOFTCAP) != 0;
  p->scale_log2 = (capped ? softcap : scale) * log2e;
  p->cap_scale = capped ? scale / softcap : 0.0f;
  const auto window = [](int64_t size) {
    return size < 0 ? attn_no_window
                    : static_cast<int32_t>(std::min<int64_t>(size, attn_no_window));
  };
  p->window_left = window(window_left);
  // A caller's mask takes the place of a causal one.
  const bool masked = (flags & (DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS)) != 0;
  p->window_right = masked ? attn_no_window : window(window_right);
  p->lse_form = lse_form(flags);
}

// Query heads whose keys and values stay in the L2 cache together. row_bytes: of a key and its value.
inline uint32_t head_section(int64_t num_kv_heads, uint32_t group, int64_t kv_len,
                             int64_t row_bytes) {
  constexpr int64_t l2_bytes = 16 << 20;  // a third of it
  const int64_t heads = l2_bytes / std::max<int64_t>(1, kv_len * row_bytes);
  return static_cast<uint32_t>(std::clamp<int64_t>(heads, 1, num_kv_heads)) * group;
}

// Sequences whose tiles are worked on by length: as many as make a few rounds, so that the last tiles of all
// are short; the others' keys stay in the L2 cache while they are needed. `tiles`: of all sequences, of the
// heads that are worked on together.
inline uint32_t sorted_sequences(int64_t batch, int64_t tiles, int64_t ctas) {
  const int64_t of_one = std::max<int64_t>(1, tiles / batch);
  return static_cast<uint32_t>(std::clamp<int64_t>(3 * ctas / of_one, 1, std::min<int64_t>(batch, 32)));
}

// Accumulators and weights that a thread may hold without spilling; what is left of 232 registers (of 160
// for three warpgroups, of 112 for four) is for the rest (NVRTC 13.0 and 13.5).
inline uint32_t most_registers(const AttnConfig& c, bool softcap) {
  // Those who load and convert e4m3 have 24 of each math thread's, 16 where three warpgroups are.
  if (c.kv_bytes == 1 && attn_math_warpgroups(c) == 2) return 176;
  if (c.kv_bytes == 1 && attn_math_warpgroups(c) == 3) return softcap ? 104 : 116;
  if (attn_math_warpgroups(c) == 4) return 80;
  if (attn_math_warpgroups(c) == 3) return softcap ? 116 : 128;
  if (softcap) return c.split_v == 1 && c.stages == 1 ? 180 : 188;
  return c.split_v == 1 ? 196 : 188;
}

// Of a config whose numbers lie in their ranges.
inline Status check_tile(const AttnConfig& c, bool softcap) {
  if (c.stages > 4) return invalid("stages={}: must be 1 to 4", c.stages);
  if (c.split_v > 2) return invalid("split_v={}: must be 1 or 2", c.split_v);
  const uint32_t warpgroups = attn_math_warpgroups(c), columns = c.head_dim_v / c.split_v;
  if (warpgroups > (c.split_v == 1 ? 4 : 3))
    return invalid("block_m={} split_v={}: at most four warpgroups, three that share rows", c.block_m,
                   c.split_v);
  if (columns > 256 || (c.split_v > 1 && columns % attn_box_columns != 0))
    return invalid("split_v={}: a warpgroup holds up to 256 columns of o, in whole boxes of 64",
                   c.split_v);
  const uint32_t registers = attn_accumulators(c);
  const uint32_t most = most_registers(c, softcap);
  if (registers > most)
    return invalid("block_n={}: {} registers of accumulators, {} are there", c.block_n, registers,
                   most);
  if (attn_smem_bytes(c) > sm90_max_smem_bytes)
    return invalid("stages={}: {} bytes of shared memory, {} are there", c.stages,
                   attn_smem_bytes(c), sm90_max_smem_bytes);
  return ok();
}

}  // namespace dgrt::attention
