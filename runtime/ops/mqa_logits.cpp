// mqa_logits, host side: what is accepted, how one call is launched.
#include "dgrt/indexer.h"
#include "indexer/sm90_mqa_logits.cuh"  // interface half: Params
#include "runtime/ops/indexer_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::mqa_logits;

struct MqaLogits {
  using Desc = dgrt_mqa_logits_desc;
  using Args = dgrt_mqa_logits_args;
  static constexpr uint32_t op_id = DGRT_OP_MQA_LOGITS;
  static constexpr const char* op = "mqa_logits";
  static constexpr const char* stem = "mqa_logits";

  static bool matches(const Desc& d) { return indexer::is_output(d.dtype_out); }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(indexer::check_desc(op, d, DGRT_LOGITS_COMPRESSED, ", LOGITS_CLEAN and LOGITS_COMPRESSED"));
    DGRT_TRY(indexer::check_size("max_tokens", d.max_tokens, indexer::max_keys));
    return indexer::check_size("max_kv_tokens", d.max_kv_tokens, indexer::max_keys);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {indexer::count_var("tokens", d.max_tokens), indexer::count_var("kv_tokens", d.max_kv_tokens)};
  }
  static Point point(const Args& x) { return {x.tokens, x.kv_tokens}; }

  static Config shape(const Desc& d) { return {{"num_heads", d.num_heads}, {"head_dim", d.head_dim}}; }

  // As many tokens as registers have room for: each tile of keys is read once for all of them.
  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {indexer::make_config(d.num_heads, d.head_dim, (d.num_heads >= 32 ? 256 : 128) / d.num_heads)};
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    return indexer::check_config(op, d, target, c);
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const indexer::Shape s = prepare(d, target, c).as<indexer::Shape>();
    const int64_t blocks = div_up(std::max<int64_t>(point[0], 1), s.tile.tokens);
    const int64_t tiles = div_up(std::max<int64_t>(point[1], 1), mqa_block_kv);
    return 6'000'000 + indexer::tiles_ps(s, blocks * tiles);
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i = indexer::make_instance(stem, d, target, c);
    if (has(d, DGRT_LOGITS_COMPRESSED)) i.entry += "_compressed";
    i.cfg.set("compressed", has(d, DGRT_LOGITS_COMPRESSED));
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc& d, const Config& c) { return mqa_smem_bytes(indexer::decode(d, c)); }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    return indexer::prepare(d, target, c);
  }

  static Status check_args(const Desc& d, const Args& x);
  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver, void*,
                     Launch* launch);

 private:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static int64_t columns(const Desc& d, const Args& x) {
    return has(d, DGRT_LOGITS_COMPRESSED) ? x.max_k : x.kv_tokens;
  }
  static bool is_empty(const Desc& d, const Args& x) {
    return x.tokens == 0 || columns(d, x) == 0 || (x.kv_tokens == 0 && !has(d, DGRT_LOGITS_CLEAN));
  }
};

Status MqaLogits::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(indexer::check_size("tokens", x.tokens, d.max_tokens));
  DGRT_TRY(indexer::check_size("kv_tokens", x.kv_tokens, d.max_kv_tokens));
  DGRT_TRY(indexer::check_size("max_k", x.max_k, has(d, DGRT_LOGITS_COMPRESSED) ? indexer::max_keys : 0));
  if (is_empty(d, x)) return ok();
  // Of the smallest blocks; the kernel counts them in 32 bits.
  if (div_up(x.tokens, 4) * (x.kv_tokens / mqa_block_kv + 3) > UINT32_MAX)
    return invalid("tokens={} kv_tokens={}: more than 2^32 tiles of 4 tokens and {} keys", x.tokens, x.kv_tokens,
                   mqa_block_kv);
  DGRT_TRY(check_pointer("q", x.q, 16));
  if (x.kv_tokens > 0) {
    DGRT_TRY(check_pointer("kv", x.kv, 16));
    DGRT_TRY(check_pointer("kv_scale", x.kv_scale, 4));
  }
  DGRT_TRY(check_pointer("w", x.w, 4));
  DGRT_TRY(check_pointer("ks", x.ks, 4));
  DGRT_TRY(check_pointer("ke", x.ke, 4));
  DGRT_TRY(check_pointer("out", x.out, indexer::out_bytes(d.dtype_out)));
  if (x.tokens == 1) return ok();
  DGRT_TRY(indexer::check_stride("w_token_stride", x.w_token_stride, d.num_heads));
  return indexer::check_stride("out_token_stride", x.out_token_stride, columns(d, x));
}

Status MqaLogits::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver, void*,
                       Launch* launch) {
  if (is_empty(d, x)) return ok();
  const indexer::Shape& s = prepared.as<indexer::Shape>();
  auto& p = launch->make_params<k90::Params>();
  DGRT_TRY(encode_tensor_map(driver, indexer::columns_of(x.q, x.tokens, s.tile), &p.q));
  p.kv = p.q;  // without keys: never read
  if (x.kv_tokens > 0)
    DGRT_TRY(encode_tensor_map(driver, indexer::keys_of(x.kv, x.kv_tokens, s.tile.head_dim, mqa_block_kv), &p.kv));
  p.kv_scale = x.kv_scale, p.w = x.w, p.ks = x.ks, p.ke = x.ke, p.out = x.out;
  p.w_row = static_cast<uint64_t>(x.w_token_stride), p.out_row = static_cast<uint64_t>(x.out_token_stride);
  p.tokens = static_cast<uint32_t>(x.tokens), p.kv_tokens = static_cast<uint32_t>(x.kv_tokens);
  p.columns = static_cast<uint32_t>(columns(d, x));
  p.blocks = ceil_div(p.tokens, s.tile.tokens);
  launch->grid[0] = s.max_ctas;
  launch->num_threads = mqa_num_threads;
  launch->smem_bytes = mqa_smem_bytes(s.tile);
  launch->block_m = s.tile.tokens;
  launch->pdl = has(d, DGRT_FLAG_PDL);
  return ok();
}

}  // namespace

DGRT_OP(MqaLogits, mqa_logits);

}  // namespace dgrt
