// mla_sparse_prefill, host side: what is accepted, what it costs, how one call is launched.
#include <algorithm>
#include <cmath>

#include "mla/sm90_mla_sparse_prefill.cuh"  // interface half: Params
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/mla_common.h"
#include "runtime/ops/sparse_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::mla_sparse_prefill;

struct MlaSparsePrefill {
  using Desc = dgrt_mla_sparse_prefill_desc;
  using Args = dgrt_mla_sparse_prefill_args;
  static constexpr uint32_t op_id = DGRT_OP_MLA_SPARSE_PREFILL;
  static constexpr const char* op = "mla_sparse_prefill";
  static constexpr const char* stem = "mla_sparse_prefill";

  struct Shape {
    uint32_t max_ctas;
  };

  static bool matches(const Desc& d) {
    return (d.dtype == DGRT_BF16 || d.dtype == DGRT_FP16) && (d.head_dim_qk == 576 || d.head_dim_qk == 512) &&
           d.head_dim_v == mla_head_dim_v;
  }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(sparse::check_range("num_heads", d.num_heads, 1, attention::max_heads));
    DGRT_TRY(sparse::check_count("max_tokens", d.max_tokens, sparse::max_tokens));
    DGRT_TRY(sparse::check_range("max_top_k", d.max_top_k, mla_keys, sparse::max_tokens));
    return sparse::check_flags(op, d, DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF, ", LSE_BASE2, LSE_EMPTY_INF");
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {sparse::powers("tokens", d.max_tokens, 64, sparse::max_tokens),
            {"top_k", d.max_top_k, {128, 512, 1024, 2048, sparse::max_tokens}}};
  }

  static Config shape(const Desc& d) { return {{"num_heads", d.num_heads}, {"head_dim_qk", d.head_dim_qk}}; }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {config(d)};
  }
  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    DGRT_TRY(sparse::check_arch(op, target));
    return mla::check_fields(config(d), c);
  }

  // A tile takes its products, or its rows' way through the L2 cache.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    constexpr int64_t item_ps = 2'000'000;
    constexpr int64_t product_ps = 1250;  // a column of scores or of output; 865 TFLOPS of 132 SMs
    constexpr int64_t column_ps = 3900;   // 64 keys of one column; 4.3 TB/s of 132 SMs
    const int64_t ctas = prepare(d, target, c).as<Shape>().max_ctas;
    const int64_t tile_ps = std::max(product_ps * (d.head_dim_qk + d.head_dim_v), column_ps * d.head_dim_qk);
    const int64_t item = item_ps + tile_ps * div_up(point[1], mla_keys);
    const int64_t rounds = div_up(sparse::capped_product(point[0], head_tiles(d)), ctas);
    return 4'000'000 + sparse::capped_product(rounds, item);
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_mla_sparse_prefill.cuh";
    i.name_space = "dgrt::sm90::mla_sparse_prefill";
    i.entry = fmt::format("sm90_mla_sparse_prefill_{}_{}x{}_d{}x{}", attention::dtype_name(d.dtype), c["block_m"],
                          c["block_n"], c["head_dim_qk"], c["head_dim_v"]);
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("dtype", d.dtype);
    i.cfg.set("q_bytes", 2);
    i.num_threads = mla_num_threads;
    i.min_blocks = 1;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return mla_smem_bytes; }
  // Tiles of a token go to CTAs side by side.
  static Prepared prepare(const Desc& d, const Target& target, const Config&) {
    const auto tiles = static_cast<uint32_t>(head_tiles(d));
    const uint32_t sms = mla::num_sms(d.sm_budget, target), together = tiles < sms ? tiles : 1;
    return Prepared::of(Shape{sms / together * together});
  }

  static Point point(const Args& x) { return {x.tokens, x.top_k}; }

  static Status check_args(const Desc& d, const Args& x);

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver, void*,
                     Launch* launch);

 private:
  static int64_t head_tiles(const Desc& d) { return div_up(d.num_heads, mla_rows); }
  static Config config(const Desc& d) {
    return {{"block_m", mla_rows},
            {"block_n", mla_keys},
            {"head_dim_qk", d.head_dim_qk},
            {"head_dim_v", mla_head_dim_v}};
  }
};

Status MlaSparsePrefill::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(sparse::check_within("tokens", x.tokens, "max_tokens", d.max_tokens));
  DGRT_TRY(sparse::check_within("top_k", x.top_k, "max_top_k", d.max_top_k));
  if (x.tokens == 0) return ok();
  if (x.top_k < mla_keys || x.top_k % mla_keys != 0)
    return invalid("top_k={}: must be a multiple of {}", x.top_k, mla_keys);
  DGRT_TRY(sparse::check_range("kv_rows", x.kv_rows, 0, sparse::max_tokens));
  if (x.tokens * head_tiles(d) > sparse::max_size)
    return invalid("tokens={}: times {} tiles of 64 heads must be less than 2^31", x.tokens, head_tiles(d));
  DGRT_TRY(attention::check_tensor("q", x.q, x.q_token_stride, x.q_head_stride, d.head_dim_qk));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, d.head_dim_v));
  if (x.kv_rows > 0) {
    DGRT_TRY(check_pointer("kv", x.kv, 16));
    DGRT_TRY(sparse::check_stride("kv_row_stride", x.kv_row_stride, d.head_dim_qk, 8));
  }
  DGRT_TRY(check_pointer("indices", x.indices, 4));
  DGRT_TRY(sparse::check_stride("indices_row_stride", x.indices_row_stride, x.top_k));
  if (x.lengths != nullptr) DGRT_TRY(check_pointer("lengths", x.lengths, 4));
  if (x.sinks != nullptr) DGRT_TRY(check_pointer("sinks", x.sinks, 4));
  DGRT_TRY(attention::check_lse(x.lse, x.lse_token_stride, x.lse_head_stride));
  if (x.max_logits != nullptr) {
    DGRT_TRY(check_pointer("max_logits", x.max_logits, 4));
    DGRT_TRY(sparse::check_stride("lse_token_stride", x.lse_token_stride, 1));
    DGRT_TRY(sparse::check_stride("lse_head_stride", x.lse_head_stride, 1));
  }
  if (!(x.scale > 0.0f) || !std::isfinite(x.scale)) return invalid("scale={}: must be greater than 0", x.scale);
  if (x.reserved != 0) return invalid("reserved={}: must be 0", x.reserved);
  return ok();
}

Status MlaSparsePrefill::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver, void*,
                              Launch* launch) {
  if (x.tokens == 0) return ok();
  constexpr float log2e = 1.4426950408889634f;
  auto& p = launch->make_params<k90::Params>();
  const auto u64 = [](int64_t value) { return static_cast<uint64_t>(value); };
  const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
  DGRT_TRY(encode_tensor_map(driver,
                             {d.dtype, x.q, u64(d.num_heads), u64(d.head_dim_qk), u64(x.q_head_stride), mla_rows,
                              attn_box_columns, Swizzle::b128, u32(x.tokens), u64(x.q_token_stride)},
                             &p.q));
  p.kv = x.kv, p.o = x.o, p.lse = x.lse, p.max_logits = x.max_logits;
  p.sinks = x.sinks, p.indices = x.indices, p.lengths = x.lengths;
  p.kv_row = u64(x.kv_row_stride), p.indices_row = u64(x.indices_row_stride);
  p.o_token = u64(x.o_token_stride), p.o_head = u64(x.o_head_stride);
  p.lse_token = u64(x.lse_token_stride), p.lse_head = u64(x.lse_head_stride);
  p.num_heads = u32(d.num_heads), p.head_tiles = u32(head_tiles(d));
  p.num_items = u32(x.tokens) * p.head_tiles;
  p.top_k = u32(x.top_k), p.num_rows = u32(x.kv_rows);
  p.scale_log2 = x.scale * log2e;
  p.lse_form = mla::lse_form(d.flags);
  mla::set_launch(std::min(p.num_items, prepared.as<Shape>().max_ctas), mla_smem_bytes, d.flags, launch);
  return ok();
}

}  // namespace

DGRT_OP(MlaSparsePrefill, mla_sparse_prefill);

}  // namespace dgrt
