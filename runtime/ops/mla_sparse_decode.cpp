// mla_sparse_decode, host side: what is accepted, what it costs, how one call is launched.
#include <algorithm>

#include "mla/sm90_mla_sparse_decode.cuh"  // interface half: Params
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/mla_common.h"
#include "runtime/ops/sparse_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::mla_sparse_decode;

struct Shape : mla::SplitShape {
  uint32_t cluster;
};

// The lists of one cache: those of args' fields that begin with `prefix`.
struct ListArgs {
  sparse::CacheArgs cache;
  const int32_t *indices, *lengths;
  int64_t top_k, token_stride;
};

struct MlaSparseDecode {
  using Desc = dgrt_mla_sparse_decode_desc;
  using Args = dgrt_mla_sparse_decode_args;
  static constexpr uint32_t op_id = DGRT_OP_MLA_SPARSE_DECODE;
  static constexpr const char* op = "mla_sparse_decode";
  static constexpr const char* stem = "mla_sparse_decode";

  static bool matches(const Desc&) { return true; }
  static Status check_desc(const Desc& d);

  static std::vector<SelectorVar> selector(const Desc& d) {
    const int64_t most = attention::max_tokens;
    return {{"tokens", d.max_tokens, {16, 64, 256, most}}, {"keys", d.max_keys, {512, 2048, most}}};
  }

  static Config shape(const Desc& d) {
    return {{"num_q_heads", d.num_q_heads}, {"format", d.format}, {"split", splitting(d)}};
  }

  // Where clusters of two divide a token's row tiles, they share its rows of the cache.
  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    const bool paired = head_tiles(d) % 2 == 0 && mla::num_sms(d.sm_budget, target) >= 2;
    return {{{"block_m", mla_rows}, {"block_n", mla_keys}, {"cluster", paired ? 2 : 1}}};
  }
  static Status check_config(const Desc& d, const Target& target, const Config& c);
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c);

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    constexpr const char* splittings[] = {"", "_inv", "_whole"};
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_mla_sparse_decode.cuh";
    i.name_space = "dgrt::sm90::mla_sparse_decode";
    i.entry = fmt::format("sm90_mla_sparse_decode_{}_{}x{}_c{}{}", sparse::format_name(d.format), c["block_m"],
                          c["block_n"], c["cluster"], splittings[splitting(d)]);
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("head_dim_qk", columns(d));
    i.cfg.set("head_dim_v", mla_head_dim_v);
    i.cfg.set("format", d.format);
    mla::set_split_constants(DGRT_BF16, 2, splitting(d), &i);
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return mla_sparse_smem_bytes; }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    const auto cluster = static_cast<uint32_t>(c["cluster"]);
    const uint32_t ctas = mla::num_sms(d.sm_budget, target) / cluster * cluster;
    return Prepared::of(Shape{{ctas, state_bytes(d, target)}, cluster});
  }

  // Numbers that check_args() refuses by name pass here.
  static Point point(const Args& x) {
    for (const int64_t value : {x.batch, x.q_len, x.top_k, x.extra_top_k})
      if (value < 0 || value > attention::max_tokens) return {0, 0};
    return {x.batch * x.q_len, x.top_k + x.extra_top_k};
  }

  static Status check_args(const Desc& d, const Args& x);

  static uint64_t workspace_bytes(const Desc& d, const Prepared& prepared, const Point& point) {
    const Shape& s = prepared.as<Shape>();
    return mla::workspace_bytes(s, num_slots(d, s.max_ctas, point[0]));
  }
  static uint64_t state_bytes(const Desc& d, const Target& target) {
    return mla::state_bytes(num_slots(d, target.sm_count, d.max_tokens));
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static bool is_empty(const Args& x) { return x.batch == 0 || x.q_len == 0; }
  // Cfg::invariant.
  static int splitting(const Desc& d) {
    return has(d, DGRT_MLA_NO_SPLIT) ? attn_whole_units : has(d, DGRT_FLAG_BATCH_INVARIANT) ? 1 : 0;
  }
  static int64_t columns(const Desc& d) { return latent_columns(static_cast<int>(d.format)); }
  static int64_t tile_heads(const Desc& d) { return std::min<int64_t>(d.num_q_heads, mla_rows); }
  static int64_t head_tiles(const Desc& d) { return div_up(d.num_q_heads, mla_rows); }

  // Places for parts of units. Far too many are 2^40 and more.
  static uint64_t num_slots(const Desc& d, uint32_t ctas, int64_t tokens) {
    if (splitting(d) == attn_whole_units) return 0;
    if (splitting(d) == 0) return 2 * uint64_t{ctas};
    const int64_t parts = std::min(tokens * head_tiles(d), int64_t{1} << 40) * attn_invariant_parts;
    return static_cast<uint64_t>(parts);
  }
  static ListArgs main_list(const Args& x) {
    return {{"", "cache", x.cache, x.page_size, x.num_pages, x.cache_page_stride},
            x.indices, x.lengths, x.top_k, x.indices_token_stride};
  }
  static ListArgs extra_list(const Args& x) {
    return {{"extra_", "extra_cache", x.extra_cache, x.extra_page_size, x.extra_num_pages, x.extra_cache_page_stride},
            x.extra_indices, x.extra_lengths, x.extra_top_k, x.extra_indices_token_stride};
  }
  static Status check_list(const Desc& d, const ListArgs& x);
  static SlotPool pool_of(const ListArgs& x, const void* readable);
};

Status MlaSparseDecode::check_desc(const Desc& d) {
  DGRT_TRY(sparse::check_range("num_q_heads", d.num_q_heads, 1, attention::max_heads));
  DGRT_TRY(sparse::check_count("max_tokens", d.max_tokens, attention::max_tokens));
  DGRT_TRY(sparse::check_count("max_keys", d.max_keys, attention::max_tokens));
  DGRT_TRY(sparse::check_format(d.format));
  return sparse::check_flags(op, d, DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF | DGRT_MLA_NO_SPLIT,
                             ", LSE_BASE2, LSE_EMPTY_INF, NO_SPLIT");
}

Status MlaSparseDecode::check_config(const Desc& d, const Target& target, const Config& c) {
  DGRT_TRY(sparse::check_arch(op, target));
  return mla::check_fields(candidates(d, target, {}).front(), c);
}

// A tile of keys and 64 heads, on an H100: its products bind where two CTAs share its conversion, else the conversion.
int64_t MlaSparseDecode::cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
  constexpr int64_t most = 1 << 30;
  const int64_t ctas = prepare(d, target, c).as<Shape>().max_ctas;
  const int64_t units = std::clamp<int64_t>(point[0], 1, most) * head_tiles(d);
  const int64_t tiles = div_up(std::clamp<int64_t>(point[1], 1, most), mla_keys) + 1;
  const int64_t tile_ps = c["cluster"] > 1 ? 2'900'000 : 3'700'000;
  return 8'000'000 + attention::capped_product(attention::capped_product(units, tiles), tile_ps) / ctas;
}

Status MlaSparseDecode::check_list(const Desc& d, const ListArgs& x) {
  if (x.top_k == 0) return ok();
  const bool extra = x.cache.prefix[0] != '\0';
  DGRT_TRY(sparse::check_count(extra ? "extra_num_pages" : "num_pages", x.cache.num_pages, sparse::max_size));
  if (x.cache.num_pages > 0) DGRT_TRY(sparse::check_cache(d.format, x.cache));
  DGRT_TRY(check_pointer(extra ? "extra_indices" : "indices", x.indices, 4));
  if (x.lengths != nullptr) DGRT_TRY(check_pointer(extra ? "extra_lengths" : "lengths", x.lengths, 4));
  return sparse::check_stride(extra ? "extra_indices_token_stride" : "indices_token_stride", x.token_stride, x.top_k);
}

Status MlaSparseDecode::check_args(const Desc& d, const Args& x) {
  for (const auto& [name, value] :
       {std::pair{"batch", x.batch}, {"q_len", x.q_len}, {"top_k", x.top_k}, {"extra_top_k", x.extra_top_k}})
    DGRT_TRY(sparse::check_count(name, value, attention::max_tokens));
  if (is_empty(x)) return ok();
  DGRT_TRY(check_list(d, main_list(x)));
  DGRT_TRY(check_list(d, extra_list(x)));
  if (!(x.scale > 0.0f) || !std::isfinite(x.scale)) return invalid("scale={}: must be greater than 0", x.scale);
  if (x.lengths_per_token > 1) return invalid("lengths_per_token={}: must be 0 or 1", x.lengths_per_token);
  DGRT_TRY(attention::check_tensor("q", x.q, x.q_token_stride, x.q_head_stride, columns(d)));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, mla_head_dim_v));
  DGRT_TRY(attention::check_lse(x.lse, x.lse_token_stride, x.lse_head_stride));
  if (x.sinks != nullptr) DGRT_TRY(check_pointer("sinks", x.sinks, 4));
  if (num_slots(d, 0, x.batch * x.q_len) > uint64_t{attention::max_tokens})
    return invalid("batch={} q_len={}: more than {} parts with BATCH_INVARIANT", x.batch, x.q_len,
                   attention::max_tokens);
  // The kernel counts them in 32 bits.
  const double tiles = static_cast<double>(x.batch * x.q_len) * static_cast<double>(head_tiles(d)) *
                       static_cast<double>((x.top_k + x.extra_top_k) / mla_keys + 2);
  if (tiles >= 4294967296.0)
    return invalid("batch={} q_len={} top_k={} extra_top_k={}: more than 2^32 tiles of keys", x.batch, x.q_len, x.top_k,
                   x.extra_top_k);
  return ok();
}

// readable: what is loaded for entries that name no slot, where there is no first slot; a row's codes at least.
SlotPool MlaSparseDecode::pool_of(const ListArgs& x, const void* readable) {
  SlotPool pool = {};
  pool.page_size = 1, pool.cache = readable;
  if (x.top_k == 0) return pool;
  pool.indices = x.indices, pool.lengths = x.lengths;
  pool.index_token = static_cast<uint64_t>(x.token_stride);
  pool.top_k = static_cast<uint32_t>(x.top_k);
  if (x.cache.num_pages == 0) return pool;
  pool.cache = x.cache.cache;
  pool.page_bytes = static_cast<uint64_t>(x.cache.page_stride);
  pool.page_size = static_cast<uint32_t>(x.cache.page_size);
  pool.num_slots = static_cast<uint32_t>(x.cache.num_pages * x.cache.page_size);
  return pool;
}

Status MlaSparseDecode::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                             void* workspace, Launch* launch) {
  if (is_empty(x)) return ok();
  const Shape& s = prepared.as<Shape>();
  auto& p = launch->make_params<k90::Params>();
  const auto u64 = [](int64_t value) { return static_cast<uint64_t>(value); };
  const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
  const int64_t tokens = x.batch * x.q_len;
  p.o = x.o, p.lse = x.lse, p.sinks = x.sinks;
  mla::set_workspace(workspace, s, &p);
  p.o_token = u64(x.o_token_stride), p.o_head = u64(x.o_head_stride);
  p.lse_token = u64(x.lse_token_stride), p.lse_head = u64(x.lse_head_stride);
  p.main = pool_of(main_list(x), x.q), p.extra = pool_of(extra_list(x), x.q);
  // Lists of one length are a sequence.
  p.list_tokens = x.lengths_per_token != 0 ? 1 : u32(x.q_len);
  p.batch = u32(tokens) / p.list_tokens;
  p.num_kv_heads = 1, p.group = u32(d.num_q_heads);
  p.v_columns = mla_head_dim_v;
  p.tile_heads = u32(tile_heads(d)), p.tile_tokens = Divisor(1);
  p.head_tiles = Divisor(u32(head_tiles(d)));
  // A token's row tiles read the same rows of the cache side by side.
  const uint32_t lanes = mla::row_lanes(p.head_tiles.by, s.max_ctas, s.cluster);
  p.row_lanes = Divisor(lanes);
  p.row_scale = attn_row_scale(p.tile_heads);
  attention::set_softmax(0, x.scale, 0.0f, -1, -1, &p);
  p.lse_form = mla::lse_form(d.flags);
  DGRT_TRY(encode_tensor_map(
      driver,
      {DGRT_BF16, x.q, u64(d.num_q_heads), u64(columns(d)), u64(x.q_head_stride), p.tile_heads, attn_box_columns,
       Swizzle::b128, u32(tokens), u64(x.q_token_stride)},
      &p.q_map));
  mla::set_launch(s.max_ctas / lanes * lanes, mla_sparse_smem_bytes, d.flags, launch);
  launch->cluster[0] = s.cluster;
  return ok();
}

}  // namespace

DGRT_OP(MlaSparseDecode, mla_sparse_decode);

}  // namespace dgrt
