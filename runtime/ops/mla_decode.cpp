// mla_decode, host side: what is accepted, what it costs, how one call is launched.
#include <algorithm>
#include <numeric>

#include "mla/sm90_mla_decode.cuh"  // interface half: Params
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/mla_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::mla_decode;

using Shape = mla::SplitShape;

struct MlaDecode {
  using Desc = dgrt_mla_decode_desc;
  using Args = dgrt_mla_decode_args;
  static constexpr uint32_t op_id = DGRT_OP_MLA_DECODE;
  static constexpr const char* op = "mla_decode";
  static constexpr const char* stem = "mla_decode";

  static bool matches(const Desc& d) {
    return (d.dtype == DGRT_BF16 || d.dtype == DGRT_FP16) && d.head_dim_qk == mla_head_dim_qk &&
           d.head_dim_v == mla_head_dim_v &&
           (attention::has_fp8_cache(d) ? is_plain_q(d) || has_fp8_q(d) : attention::has_plain_cache(d) && is_plain_q(d));
  }

  static Status check_desc(const Desc& d);

  static std::vector<SelectorVar> selector(const Desc& d) {
    const int64_t most = attention::max_tokens;
    return {{"batch", d.max_batch, {16, 64, 256, most}},
            {"max_q_len", d.max_q_len, {1, 2, 4, 8, most}},
            {"max_kv_len", d.max_kv_len, {1024, 8192, most}}};
  }

  static Config shape(const Desc& d) {
    return {{"num_q_heads", d.num_q_heads},
            {"num_kv_heads", d.num_kv_heads},
            {"batch_invariant", is_invariant(d)},
            {"fp8_cache", attention::has_fp8_cache(d)},
            {"fp8_q", has_fp8_q(d)}};
  }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {{{"block_m", mla_rows},
             {"block_n", mla_keys},
             {"head_dim_qk", mla_head_dim_qk},
             {"head_dim_v", mla_head_dim_v}}};
  }
  static Status check_config(const Desc& d, const Target& target, const Config& c);
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c);

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_mla_decode.cuh";
    i.name_space = "dgrt::sm90::mla_decode";
    i.entry = fmt::format("sm90_mla_decode_{}_{}x{}_d{}x{}", attention::dtype_name(d.dtype), c["block_m"],
                          c["block_n"], c["head_dim_qk"], c["head_dim_v"]);
    if (attention::has_fp8_cache(d)) i.entry += "_kve4m3";
    if (has_fp8_q(d)) i.entry += "_qe4m3";
    if (is_invariant(d)) i.entry += "_inv";
    i.arch = target.arch;
    i.cfg = c;
    mla::set_split_constants(d.dtype, has_fp8_q(d) ? 1 : 2, is_invariant(d), &i);
    i.cfg.set("kv_bytes", attention::has_fp8_cache(d) ? 1 : 2);
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return mla_smem_bytes; }
  static Prepared prepare(const Desc& d, const Target& target, const Config&) {
    return Prepared::of(Shape{mla::num_sms(d.sm_budget, target), state_bytes(d, target)});
  }

  static Point point(const Args& x) { return {x.batch, x.max_q_len, x.max_kv_len}; }

  static Status check_args(const Desc& d, const Args& x);

  static uint64_t workspace_bytes(const Desc& d, const Prepared& prepared, const Point& point) {
    const Shape& s = prepared.as<Shape>();
    const uint64_t slots = is_invariant(d) ? max_parts(d, point[0], point[1]) : 2 * uint64_t{s.max_ctas};
    return mla::workspace_bytes(s, slots);
  }
  static uint64_t state_bytes(const Desc& d, const Target& target) {
    const uint64_t slots =
        is_invariant(d) ? max_parts(d, d.max_batch, d.max_q_len) : 2 * uint64_t{target.sm_count};
    return mla::state_bytes(slots);
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static bool has_fp8_q(const Desc& d) { return d.dtype_q == DGRT_E4M3; }
  static bool is_plain_q(const Desc& d) { return d.dtype_q == 0 || d.dtype_q == d.dtype; }
  static int64_t multiple(bool fp8) { return fp8 ? 16 : 8; }  // elements: 16 bytes
  static bool is_empty(const Args& x) { return x.batch == 0 || x.total_q == 0; }
  static bool is_invariant(const Desc& d) { return has(d, DGRT_FLAG_BATCH_INVARIANT); }
  static int64_t group(const Desc& d) { return d.num_q_heads / d.num_kv_heads; }
  static int64_t tile_heads(const Desc& d) { return std::min<int64_t>(group(d), mla_rows); }
  static int64_t head_tiles(const Desc& d) { return div_up(group(d), tile_heads(d)); }
  static int64_t token_tiles(const Desc& d, int64_t q_len) { return div_up(q_len, mla_rows / tile_heads(d)); }

  // With BATCH_INVARIANT every part of every unit has a slot. Far too many are 2^40 and more.
  static uint64_t max_parts(const Desc& d, int64_t batch, int64_t q_len) {
    int64_t parts = batch;
    for (const int64_t factor :
         {token_tiles(d, q_len), head_tiles(d), d.num_kv_heads, int64_t{attn_invariant_parts}})
      parts = std::min(parts, int64_t{1} << 40) * factor;
    return static_cast<uint64_t>(parts);
  }
  static Status check_scales(const Desc& d, const Args& x);
  static uint32_t row_lanes(const Desc& d, const Args& x, uint32_t max_ctas);
  static Status encode_rows(const Desc& d, const Args& x, const Driver& driver, k90::Params* p);
  static Status encode_queries(const Desc& d, const Args& x, const Driver& driver, k90::Params* p);
};

Status MlaDecode::check_desc(const Desc& d) {
  DGRT_TRY(attention::check_head_counts(d.num_q_heads, d.num_kv_heads));
  DGRT_TRY(attention::check_bounds(d));
  constexpr uint32_t known =
      DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF;
  if ((d.flags & ~known) != 0)
    return invalid("flags={:#x}: mla_decode knows PDL, BATCH_INVARIANT, LSE_BASE2, LSE_EMPTY_INF", d.flags);
  if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
  return ok();
}

Status MlaDecode::check_config(const Desc& d, const Target& target, const Config& c) {
  if (target.arch != "sm_90a")
    return error(DGRT_UNSUPPORTED, "arch={}: mla_decode has kernels for sm_90a", target.arch);
  return mla::check_fields(candidates(d, target, {}).front(), c);
}

// A tile takes its products, or its bytes where few rows share them.
int64_t MlaDecode::cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
  constexpr int64_t most = 1 << 20;
  const int64_t ctas = prepare(d, target, c).as<Shape>().max_ctas;
  const int64_t batch = std::clamp<int64_t>(point[0], 1, most), q_len = std::clamp<int64_t>(point[1], 1, most);
  const int64_t row_tiles = token_tiles(d, q_len) * head_tiles(d);
  const int64_t tiles = batch * d.num_kv_heads * div_up(std::clamp<int64_t>(point[2], 1, most), mla_keys);
  const int64_t tile_ps = std::max<int64_t>(3'200'000, 1'600'000 * row_tiles);
  return 6'000'000 + attention::capped_product(tiles, tile_ps) / ctas;
}

Status MlaDecode::check_scales(const Desc& d, const Args& x) {
  for (const auto& [name, scale, quantised] :
       {std::tuple{"q_scale", x.q_scale, has_fp8_q(d)}, {"kv_scale", x.kv_scale, attention::has_fp8_cache(d)}}) {
    if (scale == nullptr) continue;
    if (!quantised) return invalid("{}: must be NULL where it scales no e4m3", name);
    DGRT_TRY(check_pointer(name, scale, 4));
  }
  return ok();
}

Status MlaDecode::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(attention::check_paged_counts(d, x));
  if (is_empty(x)) return ok();
  DGRT_TRY(attention::check_pages(x));
  if (x.max_pages > 0) DGRT_TRY(check_pointer("page_table", x.page_table, 4));
  if (x.num_pages > 0) {
    const int64_t kv_multiple = multiple(attention::has_fp8_cache(d));
    DGRT_TRY(attention::check_tensor("kv", x.kv, x.kv_token_stride, x.kv_head_stride, d.head_dim_qk, kv_multiple));
    DGRT_TRY(attention::check_page_stride("kv", x.kv_page_stride, kv_multiple));
  }
  if (!(x.scale > 0.0f) || !std::isfinite(x.scale)) return invalid("scale={}: must be greater than 0", x.scale);
  if (x.causal > 1) return invalid("causal={}: must be 0 or 1", x.causal);
  DGRT_TRY(check_scales(d, x));
  DGRT_TRY(attention::check_tensor("q", x.q, x.q_token_stride, x.q_head_stride, d.head_dim_qk, multiple(has_fp8_q(d))));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, d.head_dim_v));
  DGRT_TRY(check_pointer("q_indptr", x.q_indptr, 4));
  DGRT_TRY(attention::check_lse(x.lse, x.lse_token_stride, x.lse_head_stride));
  if (is_invariant(d) && max_parts(d, x.batch, x.max_q_len) > uint64_t{attention::max_tokens})
    return invalid("batch={} max_q_len={}: more than {} parts with BATCH_INVARIANT", x.batch, x.max_q_len,
                   attention::max_tokens);
  // The kernel counts them in 32 bits.
  const double tiles = static_cast<double>(x.total_q + x.batch) *
                       static_cast<double>(d.num_kv_heads * head_tiles(d)) *
                       static_cast<double>(x.max_pages * x.page_size / mla_keys + 2);
  if (tiles >= 4294967296.0)
    return invalid("total_q={} batch={} max_pages={}: more than 2^32 tiles of keys", x.total_q, x.batch,
                   x.max_pages);
  return ok();
}

// Row tiles that read the same keys side by side: all of a sequence with the average number of tokens, or the
// largest divisor that leaves CTAs enough to divide keys. With BATCH_INVARIANT slots are counted for every
// sequence's tiles, and those are multiples of its heads' alone.
uint32_t MlaDecode::row_lanes(const Desc& d, const Args& x, uint32_t max_ctas) {
  const int64_t tokens = std::min(std::max<int64_t>(x.max_q_len, 1), div_up(x.total_q, x.batch));
  const int64_t row_tiles = head_tiles(d) * (is_invariant(d) ? 1 : token_tiles(d, tokens));
  return mla::row_lanes(row_tiles, max_ctas);
}

// Boxes of 8 rows are whole patterns of the swizzle. Rows of e4m3 are found one by one.
Status MlaDecode::encode_rows(const Desc& d, const Args& x, const Driver& driver, k90::Params* p) {
  const auto u64 = [](int64_t value) { return static_cast<uint64_t>(value); };
  const auto box_rows = static_cast<uint32_t>(std::gcd(x.page_size, int64_t{mla_keys}));
  if (attention::has_fp8_cache(d) || box_rows < 8 || x.num_pages == 0 || x.kv_page_stride == 0) return ok();
  p->box_rows = box_rows;
  return encode_tensor_map(
      driver,
      {d.dtype, x.kv, u64(x.page_size), mla_head_dim_qk, u64(x.kv_token_stride), box_rows, attn_box_columns,
       Swizzle::b128, static_cast<uint32_t>(d.num_kv_heads), u64(x.kv_head_stride),
       static_cast<uint32_t>(x.num_pages), u64(x.kv_page_stride)},
      &p->rows);
}

// A token's heads, or, where they are no whole patterns of the swizzle, those of all tokens of a row tile. Over e4m3
// whole warps load queries.
Status MlaDecode::encode_queries(const Desc& d, const Args& x, const Driver& driver, k90::Params* p) {
  const auto u64 = [](int64_t value) { return static_cast<uint64_t>(value); };
  if (attention::has_fp8_cache(d)) return ok();
  p->q_box_tokens = p->tile_heads % 8 == 0 ? 1 : p->tile_tokens.by;
  TmaMatrix q{d.dtype, x.q, u64(d.num_q_heads), mla_head_dim_qk, u64(x.q_head_stride), p->tile_heads, attn_box_columns,
              Swizzle::b128, p->total_q, u64(x.q_token_stride)};
  q.box_groups = p->q_box_tokens;
  return encode_tensor_map(driver, q, &p->q_map);
}

Status MlaDecode::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                       void* workspace, Launch* launch) {
  if (is_empty(x)) return ok();
  const Shape& s = prepared.as<Shape>();
  auto& p = launch->make_params<k90::Params>();
  const auto elements = [](int64_t stride) { return static_cast<uint64_t>(stride); };
  p.q = x.q, p.k = p.v = x.kv, p.o = x.o, p.lse = x.lse;
  p.q_indptr = x.q_indptr, p.page_table = x.page_table, p.seq_lens = x.seq_lens;
  mla::set_workspace(workspace, s, &p);
  p.q_token = elements(x.q_token_stride), p.q_head = elements(x.q_head_stride);
  p.k_page = elements(x.kv_page_stride), p.k_token = elements(x.kv_token_stride);
  p.k_head = elements(x.kv_head_stride);
  p.o_token = elements(x.o_token_stride), p.o_head = elements(x.o_head_stride);
  p.lse_token = elements(x.lse_token_stride), p.lse_head = elements(x.lse_head_stride);
  p.table_row = elements(x.page_table_stride);
  p.batch = static_cast<uint32_t>(x.batch);
  p.num_kv_heads = static_cast<uint32_t>(d.num_kv_heads);
  p.group = static_cast<uint32_t>(group(d));
  p.total_q = static_cast<uint32_t>(x.total_q);
  p.page_size = static_cast<uint32_t>(x.page_size);
  p.num_pages = static_cast<uint32_t>(x.num_pages);
  p.max_kv_len = static_cast<uint32_t>(x.max_pages * x.page_size);
  p.qk_columns = mla_head_dim_qk, p.v_columns = mla_head_dim_v;
  p.tile_heads = static_cast<uint32_t>(tile_heads(d));
  p.tile_tokens = Divisor(mla_rows / p.tile_heads);
  p.head_tiles = Divisor(static_cast<uint32_t>(head_tiles(d)));
  const uint32_t lanes = row_lanes(d, x, s.max_ctas);
  p.row_lanes = Divisor(lanes);
  p.row_scale = attn_row_scale(p.tile_heads);
  p.max_q_len = is_invariant(d) ? static_cast<uint32_t>(x.max_q_len) : p.total_q;
  attention::set_softmax(0, x.scale, 0.0f, -1, x.causal != 0 ? 0 : -1, &p);
  p.q_scale = x.q_scale, p.k_scale = p.v_scale = x.kv_scale;
  p.lse_form = mla::lse_form(d.flags);
  DGRT_TRY(encode_rows(d, x, driver, &p));
  DGRT_TRY(encode_queries(d, x, driver, &p));
  mla::set_launch(s.max_ctas / lanes * lanes, mla_smem_bytes, d.flags, launch);
  return ok();
}

}  // namespace

DGRT_OP(MlaDecode, mla_decode);

}  // namespace dgrt
