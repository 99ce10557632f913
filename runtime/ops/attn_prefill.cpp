// attn_prefill, host side: what is accepted, how one call is launched. Tiles: attention_tiles.h.
#include "attention/sm90_attn_prefill.cuh"  // interface half: Params
#include "dgrt/attention.h"
#include "runtime/ops/attention_tiles.h"

namespace dgrt {
namespace {

using attention::TileShape;

struct AttnPrefill
    : attention::ManyQueries<AttnPrefill, dgrt_attn_prefill_desc, dgrt_attn_prefill_args> {
  using Params = sm90::attn_prefill::Params;
  static constexpr uint32_t op_id = DGRT_OP_ATTN_PREFILL;
  static constexpr const char* op = "attn_prefill";
  static constexpr const char* stem = "attn_prefill";
  static constexpr uint32_t max_block_m = 256;

  static Status check_desc(const Desc& d) {
    DGRT_TRY(attention::check_desc(op, d));
    return attention::check_cache_type(d);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return selector_with(
        d, {"max_kv_len",
            d.max_kv_len,
            {128, 256, 512, 1024, 2048, 4096, 8192, attention::max_tokens}});
  }
  static Point point(const Args& x) { return {x.batch, x.max_q_len, x.max_kv_len}; }
  static int64_t kv_len(const Point& point) { return point[2]; }

  static Status check_args(const Desc& d, const Args& x);
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static Status encode_keys(const Desc& d, const Args& x, uint32_t block_n, const Driver& driver,
                            Params* p);
};

Status AttnPrefill::check_args(const Desc& d, const Args& x) {
  for (const auto& [name, value, max_name, max] :
       {std::tuple{"batch", x.batch, "max_batch", d.max_batch},
        {"max_q_len", x.max_q_len, "max_q_len of the desc", d.max_q_len},
        {"max_kv_len", x.max_kv_len, "max_kv_len of the desc", d.max_kv_len},
        {"total_q", x.total_q, "the largest number of tokens", attention::max_tokens},
        {"total_kv", x.total_kv, "the largest number of tokens", attention::max_tokens}})
    if (value < 0 || value > max)
      return invalid("{}={}: must be 0 to {}={}", name, value, max_name, max);
  if (is_empty(x)) return ok();
  DGRT_TRY(attention::check_softmax(d.flags, x.scale, x.softcap, x.window_left, x.window_right));
  DGRT_TRY(attention::check_tensor("q", x.q, x.q_token_stride, x.q_head_stride, d.head_dim_qk));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, d.head_dim_v));
  if (x.total_kv > 0) {
    const int64_t multiple = attention::has_fp8_cache(d) ? 16 : 8;
    DGRT_TRY(attention::check_tensor("k", x.k, x.k_token_stride, x.k_head_stride, d.head_dim_qk, multiple));
    DGRT_TRY(attention::check_tensor("v", x.v, x.v_token_stride, x.v_head_stride, d.head_dim_v, multiple));
  }
  DGRT_TRY(attention::check_scales(x, attention::has_fp8_cache(d)));
  DGRT_TRY(check_pointer("kv_indptr", x.kv_indptr, 4));
  return check_outputs_and_rows(d, x);
}

Status AttnPrefill::encode_keys(const Desc& d, const Args& x, uint32_t block_n,
                                const Driver& driver, Params* p) {
  const auto e4m3_rows = [](const void* base, int64_t token, int64_t head) {
    return AttnPageRows{base, 0, static_cast<uint64_t>(token), static_cast<uint64_t>(head)};
  };
  p->k_rows = e4m3_rows(x.k, x.k_token_stride, x.k_head_stride);
  p->v_rows = e4m3_rows(x.v, x.v_token_stride, x.v_head_stride);
  if (x.total_kv == 0 || attention::has_fp8_cache(d)) return ok();  // maps are never read
  const auto rows = [&](const void* base, int64_t columns, int64_t token, int64_t head) {
    return attention::TokenRows{base, x.total_kv, d.num_kv_heads, columns, token, head};
  };
  DGRT_TRY(attention::encode_rows(driver, d.dtype,
                                  rows(x.k, d.head_dim_qk, x.k_token_stride, x.k_head_stride),
                                  block_n, &p->k));
  return attention::encode_rows(
      driver, d.dtype, rows(x.v, d.head_dim_v, x.v_token_stride, x.v_head_stride), block_n, &p->v);
}

Status AttnPrefill::bind(const Desc& d, const Args& x, const Prepared& prepared,
                         const Driver& driver, void* workspace, Launch* launch) {
  if (is_empty(x)) return ok();
  const TileShape& s = prepared.as<TileShape>();
  auto& p = launch->make_params<Params>();
  DGRT_TRY(encode_keys(d, x, s.tile.block_n, driver, &p));
  p.kv_indptr = x.kv_indptr;
  p.total_kv = static_cast<uint32_t>(x.total_kv);
  return bind_rows(d, x, s, driver, workspace, &p, launch);
}

}  // namespace

DGRT_OP(AttnPrefill, attn_prefill);

}  // namespace dgrt
