// The ops whose row tiles come from many queries of a sequence, attn_prefill and attn_extend: which
// tiles are legal, what they cost, what is compiled.
#pragma once
#include <algorithm>
#include <numeric>

#include "runtime/driver/tensor_map.h"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/attention_mask.h"
#include "runtime/ops/op.h"

namespace dgrt::attention {

// A decoded config, with what the target adds.
struct TileShape {
  AttnConfig tile;
  uint32_t tile_heads;
  uint32_t max_ctas;

  uint32_t tile_tokens() const { return tile.block_m / tile_heads; }
};

// Of keys or values that lie one behind the other, in boxes of `rows`.
struct TokenRows {
  const void* base;
  int64_t tokens, heads, columns, token_stride, head_stride;
};
inline Status encode_rows(const Driver& driver, dgrt_dtype dtype, const TokenRows& x, uint32_t rows,
                          TensorMap* map) {
  const auto u64 = [](int64_t value) { return static_cast<uint64_t>(value); };
  return encode_tensor_map(driver,
                           {dtype, x.base, u64(x.tokens), u64(x.columns), u64(x.token_stride), rows,
                            attn_box_columns, Swizzle::b128, static_cast<uint32_t>(x.heads),
                            u64(x.head_stride)},
                           map);
}

// Of queries or outputs, in slabs of rows: with several heads, these take turns.
inline Status encode_slabs(const Driver& driver, dgrt_dtype dtype, const TokenRows& x, uint32_t heads,
                           TensorMap* map) {
  if (heads == 1) return encode_rows(driver, dtype, x, attn_slab_rows, map);
  const auto u64 = [](int64_t value) { return static_cast<uint64_t>(value); };
  TmaMatrix m{dtype, x.base, u64(x.heads), u64(x.columns), u64(x.head_stride), heads, attn_box_columns, Swizzle::b128,
              static_cast<uint32_t>(x.tokens), u64(x.token_stride)};
  m.box_groups = attn_slab_rows / heads;
  return encode_tensor_map(driver, m, map);
}

// Op: the op itself, which adds op, stem, Params, max_block_m, kv_len, check_args and bind.
template <class Op, class D, class A>
struct ManyQueries {
  using Desc = D;
  using Args = A;

  static bool matches(const Desc& d) {
    return (d.dtype == DGRT_BF16 || d.dtype == DGRT_FP16) && (has_plain_cache(d) || has_fp8_cache(d));
  }

  // Where the number of row tiles of a sequence, or of all of them, changes most. `last`: what else
  // changes the choice.
  static std::vector<SelectorVar> selector_with(const Desc& d, SelectorVar last) {
    const int64_t most = max_tokens;
    return {{"batch", d.max_batch, {1, 2, 4, 8, 16, 32, 64, 256, most}},
            {"max_q_len",
             d.max_q_len,
             {64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384, most}},
            std::move(last)};
  }

  static Config shape(const Desc& d) {
    return {{"num_q_heads", d.num_q_heads},
            {"num_kv_heads", d.num_kv_heads},
            {"head_dim_qk", d.head_dim_qk},
            {"head_dim_v", d.head_dim_v},
            {"softcap", has(d, DGRT_ATTN_SOFTCAP)},
            {"mask", mask_form(d.flags)},
            {"batch_invariant", has(d, DGRT_FLAG_BATCH_INVARIANT)},
            {"fp8_cache", has_fp8_cache(d)}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    const int64_t qk = (d.head_dim_qk + 15) / 16 * 16, v = padded_v(d.head_dim_v);
    std::vector<Config> found;
    for (const int64_t split_v : {1, 2})
      for (const int64_t block_m : {64, 128, 192, 256})
        for (const int64_t block_n : {64, 80, 96, 112, 128, 160, 176}) {
          // The bits of a row depend on how its keys are cut, and on nothing else of a config.
          if (has(d, DGRT_FLAG_BATCH_INVARIANT) && block_n != invariant_keys(d, qk + v)) continue;
          Config c = {{"block_m", block_m}, {"block_n", block_n}, {"head_dim_qk", qk},
                      {"head_dim_v", v},    {"stages", 2},        {"split_v", split_v}};
          // Four warpgroups drift apart, and there is room.
          if (block_m == 256) c.set("stages", 4);
          if (attn_smem_bytes(decode(d, c)) > sm90_max_smem_bytes) c.set("stages", 1);
          if (check_config(d, target, c).is_ok()) found.push_back(c);
        }
    return found;
  }
  static Point same_candidates(const Desc&, const Point&) { return {}; }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: {} has kernels for sm_90a", target.arch, Op::op);
    for (const char* name :
         {"block_m", "block_n", "head_dim_qk", "head_dim_v", "stages", "split_v"}) {
      const int64_t* value = c.find(name);
      if (!value) return invalid("{}: missing", name);
      if (*value < 1 || *value > 512) return invalid("{}={}: must be 1 to 512", name, *value);
    }
    const AttnConfig tile = decode(d, c);
    if (tile.block_m % attn_slab_rows != 0 || tile.block_m > (has_fp8_cache(d) ? 192 : Op::max_block_m))
      return invalid("block_m={}: must be a multiple of 64 up to {}", tile.block_m,
                     has_fp8_cache(d) ? 192 : Op::max_block_m);
    if (tile.block_n % 16 != 0 || tile.block_n > 192)
      return invalid("block_n={}: must be a multiple of 16 up to 192", tile.block_n);
    if (tile.head_dim_qk != (d.head_dim_qk + 15) / 16 * 16)
      return invalid("head_dim_qk={}: must be the desc's, rounded up to 16", tile.head_dim_qk);
    if (tile.head_dim_v != padded_v(d.head_dim_v))
      return invalid("head_dim_v={}: must be {}", tile.head_dim_v, padded_v(d.head_dim_v));
    // A lane finds one row of a tile, and loads it in two passes at most.
    const uint32_t columns = std::max(tile.head_dim_qk, tile.head_dim_v);
    const uint32_t most_keys = std::min(128u, 64 * attn_pass_chunks / attn_raw_boxes(columns));
    if (has_fp8_cache(d) && tile.block_n > most_keys)
      return invalid("block_n={}: must be at most {} with dtype_kv=e4m3", tile.block_n, most_keys);
    return check_tile(tile, has(d, DGRT_ATTN_SOFTCAP));
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c);

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    const AttnConfig tile = decode(d, c);
    Instance i;
    i.stem = Op::stem;
    i.header = fmt::format("attention/sm90_{}.cuh", Op::stem);
    i.name_space = fmt::format("dgrt::sm90::{}", Op::stem);
    i.entry =
        fmt::format("sm90_{}_{}_{}x{}_d{}x{}_s{}", Op::stem, dtype_name(d.dtype), tile.block_m,
                    tile.block_n, tile.head_dim_qk, tile.head_dim_v, tile.stages);
    if (tile.split_v > 1) i.entry += fmt::format("_v{}", tile.split_v);
    if (tile_heads(c) > 1) i.entry += fmt::format("_h{}", tile_heads(c));
    if (has_fp8_cache(d)) i.entry += "_kve4m3";
    if (has(d, DGRT_ATTN_SOFTCAP)) i.entry += "_cap";
    i.arch = target.arch;
    // Between the head sizes of models: up to 40 bytes of spills were seen.
    i.allow_spills = tile.split_v == 2 && tile.head_dim_qk > 320 && tile.head_dim_qk < 512;
    // Threads that convert tiles in two passes: 28 bytes were seen.
    i.allow_spills |= has_fp8_cache(d) && std::max(tile.head_dim_qk, tile.head_dim_v) > 128;
    i.cfg = c;
    i.cfg.set("tile_heads", tile_heads(c));
    i.cfg.set("dtype", d.dtype);
    i.cfg.set("kv_bytes", tile.kv_bytes);
    i.cfg.set("softcap", has(d, DGRT_ATTN_SOFTCAP));
    set_mask_constants(d.flags, &i);
    i.cfg.set("new_keys", has(d, DGRT_ATTN_NEW_KEYS));
    i.num_threads = attn_num_threads(tile);
    i.params_bytes = sizeof(typename Op::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc& d, const Config& c) { return attn_smem_bytes(decode(d, c)); }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    const uint32_t sms =
        d.sm_budget == 0 ? target.sm_count : std::min(d.sm_budget, target.sm_count);
    return Prepared::of(TileShape{decode(d, c), tile_heads(c), sms});
  }

  static uint64_t workspace_bytes(const Desc& d, const Prepared&, const Point&) {
    return state_bytes(d, {});
  }
  static uint64_t state_bytes(const Desc&, const Target&) { return sizeof(uint32_t); }

 protected:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static bool is_empty(const Args& x) { return x.batch == 0 || x.total_q == 0; }

  // Query heads of one key head that share a tile.
  static uint32_t tile_heads(const Config& c) {
    const int64_t* value = c.find("tile_heads");
    return value == nullptr ? 1 : static_cast<uint32_t>(*value);
  }

  // Keys of a tile that all head sizes' configs have. columns: of keys and values.
  static int64_t invariant_keys(const Desc& d, int64_t columns) {
    return columns > (has_fp8_cache(d) ? 256 : 512) ? 64 : 80;
  }

  static AttnConfig decode(const Desc& d, const Config& c) {
    const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
    return {get("block_m"), get("block_n"), get("head_dim_qk"),           get("head_dim_v"),
            get("stages"),  get("split_v"), has_fp8_cache(d) ? 1u : 2u};
  }

  // Requires: nothing is empty.
  static Status check_outputs_and_rows(const Desc& d, const Args& x);
  // All that does not depend on where keys lie.
  static Status bind_rows(const Desc& d, const Args& x, const TileShape& s, const Driver& driver,
                          void* workspace, AttnParams* p, Launch* launch);
};

// One step, of one key tile: the longer of products and softmax, what of the shorter does not hide behind
// it, and what warpgroups lose to each other (H100, CUDA 13.0, 2026-11-26).
inline int64_t step_cycles(const AttnConfig& t, bool softcap) {
  const int64_t pairs = int64_t{t.block_m} * t.block_n;
  const int64_t products = 2 * pairs * (t.head_dim_qk * t.split_v + t.head_dim_v) / 4096;
  const int64_t softmax = pairs * t.split_v * (softcap ? 4 : 2) / 20;
  const int64_t shorter = std::min(products, softmax), longer = std::max(products, softmax);
  const int64_t reload = t.stages == 1 ? products / 4 : 0;
  switch (attn_math_warpgroups(t)) {
    case 1: return longer + reload + shorter + 650;
    case 2: return longer + reload + shorter / (t.split_v == 2 ? 2 : 10) + 400;
    default: return std::max(products, softmax * 3 / 4) + reload + 660;
  }
}

// Loading a key tile of e4m3 and converting it, which goes on beside a step. Of instructions and of what a profile said
// they wait for; not fitted to timings.
inline int64_t upcast_cycles(const AttnConfig& t, bool to_fp16) {
  const int64_t elements = int64_t{t.block_n} * (t.head_dim_qk + t.head_dim_v);
  return 350 + elements * (to_fp16 ? 5 : 7) / 100;
}

// Rounds of tiles over the SMs under a causal mask, which is what most calls have; half a tile at the end.
template <class Op, class D, class A>
int64_t ManyQueries<Op, D, A>::cost_ps(const Desc& d, const Target& target, const Point& point,
                                       const Config& c) {
  constexpr int64_t cycle_ps = 590, most = 1 << 20;
  const AttnConfig t = decode(d, c);
  const int64_t batch = std::clamp<int64_t>(point[0], 1, most);
  const int64_t q_len = std::clamp<int64_t>(point[1], 1, most);
  const int64_t kv_len = std::clamp<int64_t>(Op::kv_len(point), 1, most);
  const int64_t sms = prepare(d, target, c).template as<TileShape>().max_ctas;
  const int64_t rows = t.block_m / tile_heads(c), keys = t.block_n, row_tiles = div_up(q_len, rows);
  int64_t step = step_cycles(t, has(d, DGRT_ATTN_SOFTCAP));
  if (has_fp8_cache(d))
    step = std::max(step, upcast_cycles(t, d.dtype == DGRT_FP16 || !has(d, DGRT_ATTN_NEW_KEYS)));
  // The first scores, the last output; with one slot a tile's q is loaded when the one before is through.
  const int64_t ends = 500 + step / 2 + (attn_q_slots(t) == 1 ? 5400 : 0);
  const int64_t longest = ends + div_up(kv_len, keys) * step;
  // A tile of average length ends anywhere in a key tile, in multiples of what divides both.
  const int64_t unseen = std::min(q_len, kv_len) - std::min(rows * (row_tiles + 1) / 2, kv_len);
  const int64_t seen = std::min(kv_len, kv_len - unseen) + (keys - std::gcd(rows, keys)) / 2;
  const int64_t average = ends + seen * step / keys;
  const int64_t tiles_x2 = 2 * batch * row_tiles * (d.num_q_heads / tile_heads(c));
  return 2'850'000 + std::max(longest * cycle_ps,
                              capped_product(tiles_x2 + sms, average * cycle_ps) / (2 * sms));
}

template <class Op, class D, class A>
Status ManyQueries<Op, D, A>::check_outputs_and_rows(const Desc& d, const Args& x) {
  DGRT_TRY(check_pointer("q_indptr", x.q_indptr, 4));
  DGRT_TRY(check_lse(x.lse, x.lse_token_stride, x.lse_head_stride));
  if (x.sinks != nullptr) DGRT_TRY(check_pointer("sinks", x.sinks, 4));
  // Slots of the smallest tiles, times heads: the kernel counts them in 32 bits. (With several heads in a tile there are
  // at most as many.)
  if ((x.total_q / 64 + x.batch) * d.num_q_heads > max_tokens)
    return invalid("total_q={} batch={}: more than {} tiles of 64 rows and {} heads", x.total_q,
                   x.batch, max_tokens, d.num_q_heads);
  return ok();
}

template <class Op, class D, class A>
Status ManyQueries<Op, D, A>::bind_rows(const Desc& d, const Args& x, const TileShape& s,
                                        const Driver& driver, void* workspace, AttnParams* params,
                                        Launch* launch) {
  AttnParams& p = *params;
  DGRT_TRY(encode_slabs(driver, d.dtype,
                        {x.q, x.total_q, d.num_q_heads, d.head_dim_qk, x.q_token_stride, x.q_head_stride},
                        s.tile_heads, &p.q));
  DGRT_TRY(encode_slabs(driver, d.dtype,
                        {x.o, x.total_q, d.num_q_heads, d.head_dim_v, x.o_token_stride, x.o_head_stride},
                        s.tile_heads, &p.o_map));
  p.o = x.o, p.lse = x.lse, p.sinks = x.sinks, p.q_indptr = x.q_indptr;
  p.counter = static_cast<uint32_t*>(workspace);
  p.o_token = static_cast<uint64_t>(x.o_token_stride);
  p.o_head = static_cast<uint64_t>(x.o_head_stride);
  p.lse_token = static_cast<uint64_t>(x.lse_token_stride);
  p.lse_head = static_cast<uint64_t>(x.lse_head_stride);
  p.batch = static_cast<uint32_t>(x.batch);
  p.num_heads = static_cast<uint32_t>(d.num_q_heads);
  p.group = static_cast<uint32_t>(d.num_q_heads / d.num_kv_heads);
  p.total_q = static_cast<uint32_t>(x.total_q);
  p.head_section =
      head_section(d.num_kv_heads, p.group, x.max_kv_len, (d.head_dim_qk + d.head_dim_v) * s.tile.kv_bytes);
  p.qk_columns = static_cast<uint32_t>(d.head_dim_qk), p.v_columns = static_cast<uint32_t>(d.head_dim_v);
  set_scales(x, &p);
  const int64_t together =
      int64_t{p.total_q / s.tile_tokens() + p.batch} * (std::min(p.head_section, p.num_heads) / s.tile_heads);
  p.sorted = sorted_sequences(x.batch, together, s.max_ctas);
  set_softmax(d.flags, x.scale, x.softcap, x.window_left, x.window_right, &p);
  const uint32_t tiles = (p.total_q / s.tile_tokens() + p.batch) * (p.num_heads / s.tile_heads);
  launch->grid[0] = std::min(tiles, s.max_ctas);
  launch->num_threads = attn_num_threads(s.tile);
  launch->smem_bytes = attn_smem_bytes(s.tile);
  launch->block_m = s.tile.block_m;
  launch->pdl = has(d, DGRT_FLAG_PDL);
  return ok();
}

}  // namespace dgrt::attention
