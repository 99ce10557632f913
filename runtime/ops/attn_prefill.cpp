// attn_prefill, host side: what is accepted, which tiles are legal, what they cost, how one call is launched.
#include <algorithm>
#include <cmath>

#include "attention/sm90_attn_prefill.cuh"  // interface half: Params
#include "dgrt/attention.h"
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::attn_prefill;

using attention::div_up;

// A decoded config, with what the target adds.
struct Shape {
  AttnConfig tile;
  uint32_t max_ctas;
};

AttnConfig decode(const Config& c) {
  const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
  return {get("block_m"),    get("block_n"), get("head_dim_qk"),
          get("head_dim_v"), get("stages"),  get("split_v")};
}

struct AttnPrefill {
  using Desc = dgrt_attn_prefill_desc;
  using Args = dgrt_attn_prefill_args;
  static constexpr uint32_t op_id = DGRT_OP_ATTN_PREFILL;
  static constexpr const char* op = "attn_prefill";
  static constexpr const char* stem = "attn_prefill";

  static bool matches(const Desc& d) { return d.dtype == DGRT_BF16 || d.dtype == DGRT_FP16; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(attention::check_heads(d.num_q_heads, d.num_kv_heads, d.head_dim_qk, d.head_dim_v));
    for (const auto& [name, value] : {std::pair{"max_batch", d.max_batch},
                                      {"max_q_len", d.max_q_len},
                                      {"max_kv_len", d.max_kv_len}})
      if (value < 0 || value > attention::max_tokens)
        return invalid("{}={}: must be 0 to {}", name, value, attention::max_tokens);
    constexpr uint32_t known = DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_ATTN_SOFTCAP |
                               DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK;
    if ((d.flags & ~known) != 0)
      return invalid(
          "flags={:#x}: attn_prefill knows PDL, BATCH_INVARIANT, SOFTCAP, LSE_BASE2 and "
          "LSE_WITH_SINK",
          d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  // Where the number of row tiles of a sequence, or of all of them, changes most.
  static std::vector<SelectorVar> selector(const Desc& d) {
    const int64_t most = attention::max_tokens;
    return {{"batch", d.max_batch, {1, 2, 4, 8, 16, 32, 64, 256, most}},
            {"max_q_len",
             d.max_q_len,
             {64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384, most}},
            {"max_kv_len", d.max_kv_len, {128, 512, 2048, 8192, most}}};
  }

  static Config shape(const Desc& d) {
    return {{"num_q_heads", d.num_q_heads},
            {"num_kv_heads", d.num_kv_heads},
            {"head_dim_qk", d.head_dim_qk},
            {"head_dim_v", d.head_dim_v},
            {"softcap", has(d, DGRT_ATTN_SOFTCAP)},
            {"batch_invariant", has(d, DGRT_FLAG_BATCH_INVARIANT)}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    const int64_t qk = (d.head_dim_qk + 15) / 16 * 16, v = attention::padded_v(d.head_dim_v);
    std::vector<Config> found;
    for (const int64_t split_v : {1, 2})
      for (const int64_t block_m : {64, 128, 192})
        for (const int64_t block_n : {64, 80, 96, 112, 128, 160, 176}) {
          // The bits of a row depend on how its keys are cut, and on nothing else of a config.
          if (has(d, DGRT_FLAG_BATCH_INVARIANT) && block_n != (qk + v > 512 ? 64 : 80)) continue;
          Config c = {{"block_m", block_m}, {"block_n", block_n}, {"head_dim_qk", qk},
                      {"head_dim_v", v},    {"stages", 2},        {"split_v", split_v}};
          if (attn_smem_bytes(decode(c)) > sm90_max_smem_bytes) c.set("stages", 1);
          if (check_config(d, target, c).is_ok()) found.push_back(c);
        }
    return found;
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: attn_prefill has kernels for sm_90a", target.arch);
    for (const char* name :
         {"block_m", "block_n", "head_dim_qk", "head_dim_v", "stages", "split_v"}) {
      const int64_t* value = c.find(name);
      if (!value) return invalid("{}: missing", name);
      if (*value < 1 || *value > 512) return invalid("{}={}: must be 1 to 512", name, *value);
    }
    const AttnConfig tile = decode(c);
    if (tile.block_m % attn_slab_rows != 0 || tile.block_m > 192)
      return invalid("block_m={}: must be 64, 128 or 192", tile.block_m);
    if (tile.block_n % 16 != 0 || tile.block_n > 192)
      return invalid("block_n={}: must be a multiple of 16 up to 192", tile.block_n);
    if (tile.head_dim_qk != (d.head_dim_qk + 15) / 16 * 16)
      return invalid("head_dim_qk={}: must be the desc's, rounded up to 16", tile.head_dim_qk);
    if (tile.head_dim_v != attention::padded_v(d.head_dim_v))
      return invalid("head_dim_v={}: must be {}", tile.head_dim_v,
                     attention::padded_v(d.head_dim_v));
    return attention::check_tile(tile);
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c);

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    const AttnConfig tile = decode(c);
    Instance i;
    i.stem = stem;
    i.header = "attention/sm90_attn_prefill.cuh";
    i.name_space = "dgrt::sm90::attn_prefill";
    i.entry =
        fmt::format("sm90_attn_prefill_{}_{}x{}_d{}x{}_s{}", attention::dtype_name(d.dtype),
                    tile.block_m, tile.block_n, tile.head_dim_qk, tile.head_dim_v, tile.stages);
    if (tile.split_v > 1) i.entry += fmt::format("_v{}", tile.split_v);
    if (has(d, DGRT_ATTN_SOFTCAP)) i.entry += "_cap";
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("dtype", d.dtype);
    i.cfg.set("softcap", has(d, DGRT_ATTN_SOFTCAP));
    i.num_threads = attn_num_threads(tile);
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config& c) { return attn_smem_bytes(decode(c)); }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    const uint32_t sms =
        d.sm_budget == 0 ? target.sm_count : std::min(d.sm_budget, target.sm_count);
    return Prepared::of(Shape{decode(c), sms});
  }

  static Point point(const Args& x) { return {x.batch, x.max_q_len, x.max_kv_len}; }

  static Status check_args(const Desc& d, const Args& x);

  static uint64_t workspace_bytes(const Desc& d, const Prepared&, const Point&) {
    return state_bytes(d, {});
  }
  static uint64_t state_bytes(const Desc&, const Target&) { return sizeof(uint32_t); }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static bool is_empty(const Args& x) { return x.batch == 0 || x.total_q == 0; }
  static Status encode_maps(const Desc& d, const Args& x, const AttnConfig& tile,
                            const Driver& driver, k90::Params* p);
};

// Rounds of tiles over the SMs, each as long as its products and its softmax take. One warpgroup hides a
// quarter of the shorter of the two, two hide half, three three quarters (H100, CUDA 13.0, 2026-11-26).
int64_t AttnPrefill::cost_ps(const Desc& d, const Target& target, const Point& point,
                             const Config& c) {
  constexpr int64_t cycle_ps = 590;
  const AttnConfig t = decode(c);
  const int64_t batch = std::clamp<int64_t>(point[0], 1, 1 << 20);
  const int64_t q_len = std::clamp<int64_t>(point[1], 1, 1 << 20);
  const int64_t kv_len = std::clamp<int64_t>(point[2], 1, 1 << 20);
  const int64_t sms = prepare(d, target, c).as<Shape>().max_ctas;
  const int64_t rows = t.block_m, keys = t.block_n;
  const int64_t flops = 2 * rows * keys * (t.head_dim_qk * t.split_v + t.head_dim_v);
  const int64_t mma = flops / 4096,
                softmax = rows * t.split_v * keys * (d.flags & DGRT_ATTN_SOFTCAP ? 4 : 2) / 20;
  const int64_t shorter = std::min(mma, softmax), longer = std::max(mma, softmax);
  const int64_t shown = shorter * (4 - static_cast<int64_t>(attn_math_warpgroups(t))) / 4;
  const int64_t step = longer + shown + 150 + (t.stages == 1 ? mma / 4 : 0);
  const int64_t tile_ps = (3000 + div_up(kv_len, keys) * step) * cycle_ps;
  const int64_t tiles = batch * div_up(q_len, rows) * d.num_q_heads;
  // Tiles of many rounds even out; half of the last one stands idle.
  const int64_t rounds_x2 = tiles <= sms ? 2 : 2 * tiles / sms + 1;
  return 2'850'000 + rounds_x2 * tile_ps / 2;
}

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
    DGRT_TRY(attention::check_tensor("k", x.k, x.k_token_stride, x.k_head_stride, d.head_dim_qk));
    DGRT_TRY(attention::check_tensor("v", x.v, x.v_token_stride, x.v_head_stride, d.head_dim_v));
  }
  DGRT_TRY(attention::check_pointer("q_indptr", x.q_indptr, 4));
  DGRT_TRY(attention::check_pointer("kv_indptr", x.kv_indptr, 4));
  DGRT_TRY(attention::check_lse(x.lse, x.lse_token_stride, x.lse_head_stride));
  if (x.sinks != nullptr) DGRT_TRY(attention::check_pointer("sinks", x.sinks, 4));
  // Slots of the smallest tiles, times heads: the kernel counts them in 32 bits.
  if ((x.total_q / 64 + x.batch) * d.num_q_heads > attention::max_tokens)
    return invalid("total_q={} batch={}: more than {} tiles of 64 rows and {} heads", x.total_q,
                   x.batch, attention::max_tokens, d.num_q_heads);
  return ok();
}

Status AttnPrefill::encode_maps(const Desc& d, const Args& x, const AttnConfig& tile,
                                const Driver& driver, k90::Params* p) {
  const auto encode = [&](const void* base, int64_t tokens, int64_t columns, int64_t heads,
                          int64_t token_stride, int64_t head_stride, uint32_t rows,
                          TensorMap* map) {
    return encode_tensor_map(
        driver,
        {d.dtype, base, static_cast<uint64_t>(tokens), static_cast<uint64_t>(columns),
         static_cast<uint64_t>(token_stride), rows, attn_box_columns, Swizzle::b128,
         static_cast<uint32_t>(heads), static_cast<uint64_t>(head_stride)},
        map);
  };
  DGRT_TRY(encode(x.q, x.total_q, d.head_dim_qk, d.num_q_heads, x.q_token_stride, x.q_head_stride,
                  tile.block_m, &p->q));
  if (x.total_kv == 0) return ok();  // never read
  DGRT_TRY(encode(x.k, x.total_kv, d.head_dim_qk, d.num_kv_heads, x.k_token_stride, x.k_head_stride,
                  tile.block_n, &p->k));
  return encode(x.v, x.total_kv, d.head_dim_v, d.num_kv_heads, x.v_token_stride, x.v_head_stride,
                tile.block_n, &p->v);
}

Status AttnPrefill::bind(const Desc& d, const Args& x, const Prepared& prepared,
                         const Driver& driver, void* workspace, Launch* launch) {
  if (is_empty(x)) return ok();
  const Shape& s = prepared.as<Shape>();
  auto& p = launch->make_params<k90::Params>();
  DGRT_TRY(encode_maps(d, x, s.tile, driver, &p));
  p.o = x.o, p.lse = x.lse, p.sinks = x.sinks;
  p.q_indptr = x.q_indptr, p.kv_indptr = x.kv_indptr;
  p.counter = static_cast<uint32_t*>(workspace);
  p.o_token = static_cast<uint64_t>(x.o_token_stride);
  p.o_head = static_cast<uint64_t>(x.o_head_stride);
  p.lse_token = static_cast<uint64_t>(x.lse_token_stride);
  p.lse_head = static_cast<uint64_t>(x.lse_head_stride);
  p.batch = static_cast<uint32_t>(x.batch);
  p.num_heads = static_cast<uint32_t>(d.num_q_heads);
  p.group = static_cast<uint32_t>(d.num_q_heads / d.num_kv_heads);
  p.total_q = static_cast<uint32_t>(x.total_q);
  p.total_kv = static_cast<uint32_t>(x.total_kv);
  p.head_section =
      attention::head_section(d.num_kv_heads, p.group, x.max_kv_len, d.head_dim_qk + d.head_dim_v);
  p.v_columns = static_cast<uint32_t>(d.head_dim_v);
  attention::set_softmax(d.flags, x.scale, x.softcap, x.window_left, x.window_right, &p);
  const uint32_t tiles = (p.total_q / s.tile.block_m + p.batch) * p.num_heads;
  launch->grid[0] = std::min(tiles, s.max_ctas);
  launch->num_threads = attn_num_threads(s.tile);
  launch->smem_bytes = attn_smem_bytes(s.tile);
  launch->block_m = s.tile.block_m;
  launch->pdl = has(d, DGRT_FLAG_PDL);
  return ok();
}

}  // namespace

DGRT_OP(AttnPrefill, attn_prefill);

}  // namespace dgrt
