// Rules and numbers that the indexer's ops share.
#pragma once
#include <algorithm>
#include <cstdint>

#include "device/common/mqa_tile.cuh"
#include "dgrt/indexer.h"
#include "runtime/base/config.h"
#include "runtime/base/status.h"
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/arg_rules.h"
#include "runtime/ops/op.h"

namespace dgrt::indexer {

constexpr int64_t max_keys = (int64_t{1} << 30) - 1;  // positions and their sums fit 32 bits
constexpr int64_t max_stages = 16;

inline bool is_output(dgrt_dtype dtype) { return dtype == DGRT_FP32 || dtype == DGRT_BF16; }
inline uint32_t out_bytes(dgrt_dtype dtype) { return dtype == DGRT_FP32 ? 4 : 2; }

// Of either desc. names: of the flags that the op knows.
template <class Desc>
Status check_desc(const char* op, const Desc& d, uint32_t known, const char* names) {
  if (d.num_heads != 8 && d.num_heads != 16 && d.num_heads != 32 && d.num_heads != 64)
    return invalid("num_heads={}: must be 8, 16, 32 or 64", d.num_heads);
  if (d.head_dim != 32 && d.head_dim != 64 && d.head_dim != 128)
    return invalid("head_dim={}: must be 32, 64 or 128", d.head_dim);
  known |= DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_LOGITS_CLEAN;
  if ((d.flags & ~known) != 0)
    return invalid("flags={:#x}: {} knows PDL, BATCH_INVARIANT{}", d.flags, op, names);
  if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
  return ok();
}

inline Status check_size(const char* name, int64_t value, int64_t most) {
  if (value < 0 || value > most) return invalid("{}={}: must be 0 to {}", name, value, most);
  return ok();
}

// Elements between rows of `columns`.
inline Status check_stride(const char* name, int64_t stride, int64_t columns) {
  if (stride < columns || stride > int64_t{1} << 40)
    return invalid("{}={}: must be at least {}, what a row holds, and at most 2^40", name, stride, columns);
  return ok();
}

// As many stages as there is room for, or `most_stages`.
inline Config make_config(int64_t num_heads, int64_t head_dim, int64_t tokens, int64_t most_stages = max_stages) {
  MqaConfig c{static_cast<uint32_t>(num_heads), static_cast<uint32_t>(head_dim), static_cast<uint32_t>(tokens),
              static_cast<uint32_t>(most_stages)};
  while (mqa_smem_bytes(c) > sm90_max_smem_bytes) --c.stages;
  return {{"tokens", tokens}, {"stages", c.stages}};
}

template <class Desc>
MqaConfig decode(const Desc& d, const Config& c) {
  const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
  return {static_cast<uint32_t>(d.num_heads), static_cast<uint32_t>(d.head_dim), get("tokens"), get("stages")};
}

template <class Desc>
Status check_config(const char* op, const Desc& d, const Target& target, const Config& c) {
  if (target.arch != "sm_90a")
    return error(DGRT_UNSUPPORTED, "arch={}: {} has kernels for sm_90a", target.arch, op);
  for (const auto& [name, most] : {std::pair{"tokens", int64_t{mqa_max_tokens}}, {"stages", max_stages}}) {
    const int64_t* value = c.find(name);
    if (!value) return invalid("{}: missing", name);
    if (*value < 1 || *value > most) return invalid("{}={}: must be 1 to {}", name, *value, most);
  }
  const MqaConfig t = decode(d, c);
  if (t.tokens > 4 && t.tokens % 4 != 0) return invalid("tokens={}: must be a multiple of 4", t.tokens);
  if (mqa_columns(t) > mqa_max_columns || mqa_registers(t) > mqa_max_registers)
    return invalid("tokens={}: {} heads of each are too many for the registers", t.tokens, t.num_heads);
  if (t.stages < 2 || mqa_smem_bytes(t) > sm90_max_smem_bytes)
    return invalid("stages={}: must be at least 2 and fit shared memory", t.stages);
  return ok();
}

// Of counts of tokens, requests and keys.
inline SelectorVar count_var(const char* name, int64_t max) {
  SelectorVar var{name, max, {}};
  for (int64_t most = 1; most < max_keys; most *= 4) var.breaks.push_back(most);
  var.breaks.push_back(max_keys);
  return var;
}

// What both instances have in common; the caller adds its own constants.
template <class Desc>
Instance make_instance(const char* stem, const Desc& d, const Target& target, const Config& c) {
  const MqaConfig t = decode(d, c);
  Instance i;
  i.stem = stem;
  i.header = fmt::format("indexer/sm90_{}.cuh", stem);
  i.name_space = fmt::format("dgrt::sm90::{}", stem);
  i.entry = fmt::format("sm90_{}_h{}_d{}_t{}_s{}_{}", stem, t.num_heads, t.head_dim, t.tokens, t.stages,
                        d.dtype_out == DGRT_FP32 ? "fp32" : "bf16");
  if ((d.flags & DGRT_LOGITS_CLEAN) != 0) i.entry += "_clean";
  i.arch = target.arch;
  i.cfg = c;
  i.cfg.set("num_heads", d.num_heads);
  i.cfg.set("head_dim", d.head_dim);
  i.cfg.set("dtype_out", d.dtype_out);
  i.cfg.set("clean", (d.flags & DGRT_LOGITS_CLEAN) != 0);
  i.num_threads = mqa_num_threads;
  return i;
}

struct Shape {
  MqaConfig tile;
  uint32_t max_ctas;
};

template <class Desc>
Prepared prepare(const Desc& d, const Target& target, const Config& c) {
  return Prepared::of(Shape{decode(d, c), d.sm_budget == 0 ? target.sm_count : std::min(d.sm_budget, target.sm_count)});
}

// Of so many key tiles, shared out over CTAs: the largest of the products, of adding them up and of memory. At
// 1.7 GHz an SM of an H100 multiplies 2700 pairs of e4m3 while it adds up others, adds 64 sums up and reads 13 bytes
// each cycle (fitted to heads of 128, CUDA 13.0, 2026-11-27).
inline int64_t tiles_ps(const Shape& s, int64_t tiles) {
  const int64_t sums = int64_t{mqa_block_kv} * mqa_columns(s.tile), head_dim = s.tile.head_dim;
  const int64_t cycles = std::max({sums * head_dim / 2700, sums / 64, mqa_block_kv * (head_dim + 4) / 13});
  return std::min(div_up(tiles, s.max_ctas), int64_t{1} << 40) * cycles * 588;
}

inline Swizzle swizzle_of(uint32_t row_bytes) {
  return row_bytes == 128 ? Swizzle::b128 : row_bytes == 64 ? Swizzle::b64 : Swizzle::b32;
}

// Dense keys, or a page of them.
inline TmaMatrix keys_of(const void* base, uint64_t rows, uint32_t head_dim, uint32_t box_rows) {
  return {.dtype = DGRT_E4M3,
          .base = base,
          .rows = rows,
          .cols = head_dim,
          .row_stride = head_dim,
          .box_rows = box_rows,
          .box_cols = head_dim,
          .swizzle = swizzle_of(head_dim)};
}

// q [tokens, num_heads, head_dim], with a section's columns in the order that mqa_team says.
inline TmaMatrix columns_of(const void* q, int64_t tokens, const MqaConfig& t) {
  const uint32_t team = mqa_team(t.tokens), team_heads = 8 / team;
  TmaMatrix matrix = keys_of(q, team_heads, t.head_dim, team_heads);
  matrix.groups = static_cast<uint32_t>(tokens), matrix.group_stride = uint64_t{t.num_heads} * t.head_dim;
  matrix.pages = t.num_heads / team_heads, matrix.page_stride = uint64_t{team_heads} * t.head_dim;
  matrix.box_groups = team, matrix.box_pages = matrix.pages;
  return matrix;
}

}  // namespace dgrt::indexer
