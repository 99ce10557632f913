// kv_append, host side: what is accepted, how many tokens a thread moves, how one call is launched.
#include <algorithm>

#include "attention/sm90_kv_append.cuh"  // interface half: Params
#include "dgrt/attention.h"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::kv_append;


constexpr uint32_t resident_blocks =
    6;  // on one SM; registers stay below 42 (tests/compile checks)

// How the elements of a token are shared out, with a config.
struct Shape {
  uint32_t k_vectors, num_vectors;
  uint32_t grid_y, lanes, block_tokens, tokens_per_thread;

  static Shape of(const dgrt_kv_append_desc& d, const Config& c) {
    const int64_t columns = k90::vector_columns, threads = k90::num_threads;
    const int64_t k_vectors = d.num_kv_heads * d.head_dim_qk / columns;
    const int64_t vectors = k_vectors + d.num_kv_heads * d.head_dim_v / columns;
    const int64_t parts = div_up(vectors, threads), lanes = div_up(vectors, parts);
    const auto u32 = [](int64_t x) { return static_cast<uint32_t>(x); };
    return {u32(k_vectors), u32(vectors),         u32(parts),
            u32(lanes),     u32(threads / lanes), u32(c["tokens_per_thread"])};
  }
};

struct KvAppend {
  using Desc = dgrt_kv_append_desc;
  using Args = dgrt_kv_append_args;
  static constexpr uint32_t op_id = DGRT_OP_KV_APPEND;
  static constexpr const char* op = "kv_append";
  static constexpr const char* stem = "kv_append";

  static bool matches(const Desc& d) {
    return (d.dtype == DGRT_BF16 || d.dtype == DGRT_FP16) &&
           (d.dtype_cache == d.dtype || d.dtype_cache == DGRT_E4M3);
  }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(attention::check_heads(d.num_kv_heads, d.num_kv_heads, d.head_dim_qk, d.head_dim_v));
    if (d.max_tokens < 0 || d.max_tokens > attention::max_tokens)
      return invalid("max_tokens={}: must be 0 to {}", d.max_tokens, attention::max_tokens);
    constexpr uint32_t known = DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_KV_SLOTS_INT64;
    if ((d.flags & ~known) != 0)
      return invalid("flags={:#x}: kv_append knows PDL, BATCH_INVARIANT and KV_SLOTS_INT64",
                     d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    SelectorVar tokens{"tokens", d.max_tokens, {}};
    for (int64_t most = 1; most < attention::max_tokens; most *= 2) tokens.breaks.push_back(most);
    tokens.breaks.push_back(attention::max_tokens);
    return {tokens};
  }

  static Config shape(const Desc& d) {
    return {{"num_kv_heads", d.num_kv_heads},
            {"head_dim_qk", d.head_dim_qk},
            {"head_dim_v", d.head_dim_v},
            {"quantised", is_quantised(d)}};
  }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {{{"tokens_per_thread", 1}}, {{"tokens_per_thread", 2}}};
  }

  static Status check_config(const Desc&, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: kv_append has kernels for sm_90a", target.arch);
    const int64_t* tokens = c.find("tokens_per_thread");
    if (!tokens) return invalid("tokens_per_thread: missing");
    if (*tokens != 1 && *tokens != 2)
      return invalid("tokens_per_thread={}: must be 1 or 2", *tokens);
    return ok();
  }

  // The larger of device memory and, in rounds of resident blocks, one wait for memory and the stores.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const int64_t tokens = std::max<int64_t>(point[0], 1);
    const Shape s = Shape::of(d, c);
    const int64_t vector_bytes = k90::vector_columns * (is_quantised(d) ? 3 : 4);
    const int64_t memory_ps =
        tokens * s.num_vectors * vector_bytes / 427 * 100;  // 4.27 TB/s, H200, measured
    const int64_t blocks = s.grid_y * div_up(tokens, int64_t{s.block_tokens} * s.tokens_per_thread);
    const int64_t rounds = div_up(blocks, int64_t{target.sm_count} * resident_blocks);
    return 2'850'000 + std::max(memory_ps, rounds * (800'000 + s.tokens_per_thread * 100'000));
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "attention/sm90_kv_append.cuh";
    i.name_space = "dgrt::sm90::kv_append";
    i.entry = fmt::format("sm90_kv_append_{}_{}_t{}", attention::dtype_name(d.dtype),
                          is_quantised(d) ? "e4m3" : "copy", c["tokens_per_thread"]);
    if (has(d, DGRT_KV_SLOTS_INT64)) i.entry += "_slots64";
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("dtype", d.dtype);
    i.cfg.set("quantised", is_quantised(d));
    i.cfg.set("wide_slots", has(d, DGRT_KV_SLOTS_INT64));
    i.num_threads = k90::num_threads;
    i.min_blocks = resident_blocks;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }
  static Prepared prepare(const Desc& d, const Target&, const Config& c) {
    return Prepared::of(Shape::of(d, c));
  }

  static Point point(const Args& x) { return {x.tokens}; }

  static Status check_args(const Desc& d, const Args& x);
  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch);

 private:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static bool is_quantised(const Desc& d) { return d.dtype_cache == DGRT_E4M3; }
  static bool is_empty(const Args& x) { return x.tokens == 0 || x.num_pages == 0; }
};

Status KvAppend::check_args(const Desc& d, const Args& x) {
  if (x.tokens < 0 || x.tokens > d.max_tokens)
    return invalid("tokens={}: must be 0 to max_tokens={}", x.tokens, d.max_tokens);
  if (x.num_pages < 0 || x.num_pages > attention::max_tokens)
    return invalid("num_pages={}: must be 0 to {}", x.num_pages, attention::max_tokens);
  if (is_empty(x)) return ok();
  if (x.page_size < 1 || x.page_size > attention::max_tokens ||
      x.num_pages * x.page_size > attention::max_tokens)
    return invalid("page_size={}: must be at least 1, and {} pages have at most {} slots",
                   x.page_size, x.num_pages, attention::max_tokens);
  DGRT_TRY(attention::check_tensor("k", x.k, x.k_token_stride, x.k_head_stride, d.head_dim_qk));
  DGRT_TRY(attention::check_tensor("v", x.v, x.v_token_stride, x.v_head_stride, d.head_dim_v));
  DGRT_TRY(attention::check_tensor("k_cache", x.k_cache, x.k_cache_token_stride,
                                   x.k_cache_head_stride, d.head_dim_qk));
  DGRT_TRY(attention::check_tensor("v_cache", x.v_cache, x.v_cache_token_stride,
                                   x.v_cache_head_stride, d.head_dim_v));
  for (const auto& [name, stride] :
       {std::pair{"k_cache", x.k_cache_page_stride}, {"v_cache", x.v_cache_page_stride}})
    if (stride < 0 || stride % 8 != 0)
      return invalid("{}_page_stride={}: must be a multiple of 8 elements", name, stride);
  DGRT_TRY(check_pointer("slot_mapping", x.slot_mapping,
                                    has(d, DGRT_KV_SLOTS_INT64) ? 8 : 4));
  return attention::check_scales(x, is_quantised(d));
}

Status KvAppend::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                      Launch* launch) {
  if (is_empty(x)) return ok();
  const Shape& s = prepared.as<Shape>();
  const auto elements = [](int64_t stride) { return static_cast<uint64_t>(stride); };
  auto& p = launch->make_params<k90::Params>();
  p.k.from = x.k, p.k.to = x.k_cache, p.k.scale = x.k_scale;
  p.k.from_token = elements(x.k_token_stride), p.k.from_head = elements(x.k_head_stride);
  p.k.page = elements(x.k_cache_page_stride), p.k.slot = elements(x.k_cache_token_stride);
  p.k.head = elements(x.k_cache_head_stride), p.k.scale_head = elements(x.k_scale_head_stride);
  p.k.head_vectors = static_cast<uint32_t>(d.head_dim_qk) / k90::vector_columns;
  p.v.from = x.v, p.v.to = x.v_cache, p.v.scale = x.v_scale;
  p.v.from_token = elements(x.v_token_stride), p.v.from_head = elements(x.v_head_stride);
  p.v.page = elements(x.v_cache_page_stride), p.v.slot = elements(x.v_cache_token_stride);
  p.v.head = elements(x.v_cache_head_stride), p.v.scale_head = elements(x.v_scale_head_stride);
  p.v.head_vectors = static_cast<uint32_t>(d.head_dim_v) / k90::vector_columns;
  p.slots = x.slot_mapping;
  p.num_tokens = static_cast<uint32_t>(x.tokens);
  p.num_slots = static_cast<uint32_t>(x.num_pages * x.page_size);
  p.page_size = static_cast<uint32_t>(x.page_size);
  p.k_vectors = s.k_vectors, p.num_vectors = s.num_vectors;
  p.lanes = s.lanes, p.block_tokens = s.block_tokens;
  launch->grid[0] = ceil_div(p.num_tokens, s.block_tokens * s.tokens_per_thread);
  launch->grid[1] = s.grid_y;
  launch->num_threads = k90::num_threads;
  launch->block_m = s.block_tokens * s.tokens_per_thread;
  launch->pdl = has(d, DGRT_FLAG_PDL);
  return ok();
}

}  // namespace

DGRT_OP(KvAppend, kv_append);

}  // namespace dgrt
