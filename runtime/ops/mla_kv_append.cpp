// mla_kv_append, host side: what is accepted, how many tokens a warp moves, how one call is launched.
#include <algorithm>

#include "dgrt/mla.h"
#include "mla/sm90_mla_kv_append.cuh"  // interface half: Params
#include "runtime/ops/op.h"
#include "runtime/ops/sparse_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::mla_kv_append;

struct MlaKvAppend {
  using Desc = dgrt_mla_kv_append_desc;
  using Args = dgrt_mla_kv_append_args;
  static constexpr uint32_t op_id = DGRT_OP_MLA_KV_APPEND;
  static constexpr const char* op = "mla_kv_append";
  static constexpr const char* stem = "mla_kv_append";

  struct Shape {
    uint32_t tokens_per_warp;
  };

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(sparse::check_count("max_tokens", d.max_tokens, sparse::max_tokens));
    DGRT_TRY(sparse::check_format(d.format));
    return sparse::check_flags(op, d, DGRT_KV_SLOTS_INT64, ", KV_SLOTS_INT64");
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {sparse::powers("tokens", d.max_tokens, 1, sparse::max_tokens)};
  }

  static Config shape(const Desc& d) { return {{"format", d.format}}; }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    return sparse::one_or_two(target, "tokens_per_warp");
  }
  static Status check_config(const Desc&, const Target& target, const Config& c) {
    return sparse::check_one_or_two(op, target, c, "tokens_per_warp");
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const auto format = static_cast<int>(d.format);
    return sparse::warp_rows_ps(target, point[0], latent_columns(format) * 2 + latent_token_bytes(format),
                                c["tokens_per_warp"]);
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_mla_kv_append.cuh";
    i.name_space = "dgrt::sm90::mla_kv_append";
    i.entry = fmt::format("sm90_mla_kv_append_{}_t{}{}", sparse::format_name(d.format), c["tokens_per_warp"],
                          sparse::has_wide_slots(d) ? "_slots64" : "");
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("format", d.format);
    i.cfg.set("wide_slots", sparse::has_wide_slots(d));
    i.num_threads = k90::num_threads;
    i.min_blocks = sparse::resident_blocks;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }
  static Prepared prepare(const Desc&, const Target&, const Config& c) {
    return Prepared::of(Shape{static_cast<uint32_t>(c["tokens_per_warp"])});
  }

  static Point point(const Args& x) { return {x.tokens}; }

  static Status check_args(const Desc& d, const Args& x) {
    DGRT_TRY(sparse::check_within("tokens", x.tokens, "max_tokens", d.max_tokens));
    DGRT_TRY(sparse::check_range("num_pages", x.num_pages, 0, sparse::max_tokens));
    if (is_empty(x)) return ok();
    DGRT_TRY(sparse::check_cache(d.format, x));
    const int64_t columns = latent_columns(static_cast<int>(d.format)) - latent_rotary_columns;
    DGRT_TRY(check_pointer("latent", x.latent, 16));
    DGRT_TRY(sparse::check_stride("latent_token_stride", x.latent_token_stride, columns, 8));
    DGRT_TRY(check_pointer("rotary", x.rotary, 16));
    DGRT_TRY(sparse::check_stride("rotary_token_stride", x.rotary_token_stride, latent_rotary_columns, 8));
    return check_pointer("slot_mapping", x.slot_mapping, sparse::has_wide_slots(d) ? 8 : 4);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    if (is_empty(x)) return ok();
    const Shape& s = prepared.as<Shape>();
    auto& p = launch->make_params<k90::Params>();
    p.latent = x.latent, p.rotary = x.rotary, p.cache = x.cache, p.slots = x.slot_mapping;
    p.latent_token = static_cast<uint64_t>(x.latent_token_stride);
    p.rotary_token = static_cast<uint64_t>(x.rotary_token_stride);
    p.page_bytes = static_cast<uint64_t>(x.cache_page_stride);
    p.num_tokens = static_cast<uint32_t>(x.tokens);
    p.num_slots = static_cast<uint32_t>(x.num_pages * x.page_size);
    p.page_size = static_cast<uint32_t>(x.page_size);
    launch->block_m = k90::block_tokens(s.tokens_per_warp);
    launch->grid[0] = ceil_div(p.num_tokens, launch->block_m);
    launch->num_threads = k90::num_threads;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }

 private:
  static bool is_empty(const Args& x) { return x.tokens == 0 || x.num_pages == 0; }
};

}  // namespace

DGRT_OP(MlaKvAppend, mla_kv_append);

}  // namespace dgrt
