// attn_extend, host side: what is accepted, how one call is launched. Tiles: attention_tiles.h.
#include <numeric>

#include "attention/sm90_attn_extend.cuh"  // interface half: Params
#include "dgrt/attention.h"
#include "runtime/ops/attention_pages.h"
#include "runtime/ops/attention_tiles.h"

namespace dgrt {
namespace {

using attention::TileShape;

// All tiles are multiples of 16 keys: page sizes count by what they share with that. Boxes of few rows take TMA longer
// than copies of 16 bytes: 969 us of 4 rows, 857 row by row, and 875 of 8 (H100, heads of 128, 2026-11-27).
constexpr int64_t tile_rows = 16, most_gathered = 4;

// Keys that a query of a narrow window sees, at most.
constexpr int64_t narrow_keys = 256;

struct AttnExtend
    : attention::ManyQueries<AttnExtend, dgrt_attn_extend_desc, dgrt_attn_extend_args> {
  using Params = sm90::attn_extend::Params;
  static constexpr uint32_t op_id = DGRT_OP_ATTN_EXTEND;
  static constexpr const char* op = "attn_extend";
  static constexpr const char* stem = "attn_extend";
  // Loading by several warps leaves four warpgroups too few registers.
  static constexpr uint32_t max_block_m = 192;

  static Status check_desc(const Desc& d) {
    DGRT_TRY(attention::check_paged_desc(op, d));
    return attention::check_cache_type(d);
  }

  // page_rows: of a page that lie in one tile, at least; with a narrow window 16 more.
  static std::vector<SelectorVar> selector(const Desc& d) {
    return selector_with(d, {"page_rows",
                             2 * tile_rows,
                             {most_gathered, tile_rows, tile_rows + most_gathered, 2 * tile_rows}});
  }
  static Point point(const Args& x) {
    const bool narrow = x.window_left >= 0 && x.window_left < narrow_keys && x.window_right == 0;
    return {x.batch, x.max_q_len, std::gcd(x.page_size, tile_rows) + (narrow ? tile_rows : 0)};
  }
  static bool is_narrow(const Point& point) { return point[2] > tile_rows; }
  static bool is_gathered(const Point& point) {
    return point[2] - (is_narrow(point) ? tile_rows : 0) <= most_gathered;
  }
  // Of keys before the chunk no variable tells: a thousand, which loses 3 % where they are 15000.
  static int64_t kv_len(const Point& point) { return point[1] + 1024; }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point& point) {
    std::vector<Config> found;
    for (Config& c : Base::candidates(d, target, point)) {
      c.set("gather", is_gathered(point) && !attention::has_fp8_cache(d));
      // Of a window's keys and those of a tile's own tokens, a row sees the larger part the fewer the tokens are.
      c.set("tile_heads",
            is_narrow(point) ? std::gcd(d.num_q_heads / d.num_kv_heads, int64_t{attn_most_tile_heads}) : 1);
      if (check_config(d, target, c).is_ok()) found.push_back(std::move(c));
    }
    return found;
  }
  // Tiles of few tokens suit chunks of any length: one kernel is enough for narrow windows.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    return Base::cost_ps(d, target, is_narrow(point) ? Point{2, 2048, point[2]} : point, c);
  }
  static Point same_candidates(const Desc&, const Point& point) {
    return {0, 0, (is_gathered(point) ? most_gathered : tile_rows) + (is_narrow(point) ? tile_rows : 0)};
  }
  static Status check_config(const Desc& d, const Target& target, const Config& c);
  static Config shape(const Desc& d) {
    Config c = Base::shape(d);
    c.set("new_keys", has(d, DGRT_ATTN_NEW_KEYS));
    return c;
  }
  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i = Base::instance(d, target, c);
    if (c["gather"] != 0) i.entry += "_gather";
    attention::set_page_constants(d.flags, &i);
    if (attention::mask_form(d.flags) != attn_mask_none)
      i.allow_spills |= attn_accumulators(decode(d, c)) > masked_registers(d, decode(d, c)).spill_free;
    if (has(d, DGRT_ATTN_NEW_KEYS)) i.entry += "_new";
    // Threads that load: 44 bytes were seen, without new keys 12, of head sizes that no model has.
    if (c["gather"] != 0 && c["head_dim_v"] > 256 &&
        (has(d, DGRT_ATTN_NEW_KEYS) || c["head_dim_qk"] != c["head_dim_v"]))
      i.allow_spills = true;
    return i;
  }

  static Status check_args(const Desc& d, const Args& x);
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  using Base = attention::ManyQueries<AttnExtend, Desc, Args>;
  static attention::MaskedRegisters masked_registers(const Desc& d, const AttnConfig& t) {
    return attention::masked_registers(t, has(d, DGRT_ATTN_NEW_KEYS));
  }
  static Status check_registers(const Desc& d, const AttnConfig& tile);
  static Status encode_cache(const Desc& d, const Args& x, uint32_t box_rows, const Driver& driver,
                             Params* p);
  static Status encode_new_keys(const Desc& d, const Args& x, uint32_t block_n,
                                const Driver& driver, Params* p);
};

Status AttnExtend::check_config(const Desc& d, const Target& target, const Config& c) {
  DGRT_TRY(Base::check_config(d, target, c));
  const int64_t* gather = c.find("gather");
  if (gather == nullptr) return invalid("gather: missing");
  if (*gather != 0 && *gather != 1) return invalid("gather={}: must be 0 or 1", *gather);
  const int64_t* heads = c.find("tile_heads");
  if (heads == nullptr) return invalid("tile_heads: missing");
  if (*heads < 1 || (d.num_q_heads / d.num_kv_heads) % *heads != 0 || attn_most_tile_heads % *heads != 0)
    return invalid("tile_heads={}: must divide {} and query heads per key head", *heads, attn_most_tile_heads);
  if (*gather == 1 && attention::has_fp8_cache(d))
    return invalid("gather=1: an e4m3 cache is converted on its way");
  if (*gather == 1 && c["block_n"] > 128)
    return invalid("block_n={}: must be at most 128 with gather", c["block_n"]);
  if (*gather == 1 && c["split_v"] == 2 && c["head_dim_v"] <= 256)
    return invalid("split_v=2: for more than 256 columns with gather; it spills");
  return check_registers(d, decode(d, c));
}

// Threads that load from pages need registers that attn_prefill's math has; softcap and masks take some too.
Status AttnExtend::check_registers(const Desc& d, const AttnConfig& t) {
  const bool softcap = has(d, DGRT_ATTN_SOFTCAP);
  uint32_t most = attention::most_registers(t, softcap);
  const bool counted = t.kv_bytes == 1;  // what loading takes
  if (!counted && attn_math_warpgroups(t) == 3)
    most -= 12;
  else if (!counted && attn_math_warpgroups(t) == 2 && (softcap || t.split_v == 2))
    most -= 8;
  if (attention::mask_form(d.flags) != attn_mask_none) most = std::min(most, masked_registers(d, t).most);
  const uint32_t registers = attn_accumulators(t);
  if (registers > most)
    return invalid("block_n={}: {} registers of accumulators, {} are there", t.block_n, registers,
                   most);
  return ok();
}

Status AttnExtend::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(attention::check_paged_counts(d, x));
  if (is_empty(x)) return ok();
  DGRT_TRY(attention::check_paged_cache(d, x));
  DGRT_TRY(attention::check_page_error(d.flags, x.page_error));
  // Byte strides of tensor maps have 40 bits.
  if (attention::has_pages(x))
    for (const auto& [name, stride] : {std::pair{"k", x.k_page_stride}, {"v", x.v_page_stride}})
      if (stride > (int64_t{1} << 39) - 16)
        return invalid("{}_page_stride={}: must be less than 2^40 bytes", name, stride);
  if (x.kv_start != nullptr) DGRT_TRY(check_pointer("kv_start", x.kv_start, 4));
  DGRT_TRY(attention::check_new_keys(d, x));
  DGRT_TRY(attention::check_softmax(d.flags, x.scale, x.softcap, x.window_left, x.window_right));
  DGRT_TRY(attention::check_mask(d.flags, x));
  DGRT_TRY(attention::check_tensor("q", x.q, x.q_token_stride, x.q_head_stride, d.head_dim_qk));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, d.head_dim_v));
  return check_outputs_and_rows(d, x);
}

Status AttnExtend::encode_cache(const Desc& d, const Args& x, uint32_t box_rows,
                                const Driver& driver, Params* p) {
  const auto encode = [&](const void* base, int64_t columns, int64_t page_stride,
                          int64_t token_stride, int64_t head_stride, TensorMap* map) {
    TmaMatrix m{d.dtype,
                base,
                static_cast<uint64_t>(x.page_size),
                static_cast<uint64_t>(columns),
                static_cast<uint64_t>(token_stride),
                box_rows,
                attn_box_columns,
                Swizzle::b128,
                static_cast<uint32_t>(d.num_kv_heads),
                static_cast<uint64_t>(head_stride)};
    m.pages = static_cast<uint32_t>(x.num_pages);
    m.page_stride = static_cast<uint64_t>(page_stride);
    return encode_tensor_map(driver, m, map);
  };
  DGRT_TRY(encode(x.k, d.head_dim_qk, x.k_page_stride, x.k_token_stride, x.k_head_stride, &p->k));
  return encode(x.v, d.head_dim_v, x.v_page_stride, x.v_token_stride, x.v_head_stride, &p->v);
}

Status AttnExtend::encode_new_keys(const Desc& d, const Args& x, uint32_t block_n,
                                   const Driver& driver, Params* p) {
  if (!has(d, DGRT_ATTN_NEW_KEYS)) return ok();
  const auto rows = [&](const void* base, int64_t columns, int64_t token, int64_t head) {
    return attention::TokenRows{base, x.total_q, d.num_kv_heads, columns, token, head};
  };
  DGRT_TRY(attention::encode_rows(
      driver, d.dtype, rows(x.k_new, d.head_dim_qk, x.k_new_token_stride, x.k_new_head_stride),
      block_n, &p->k_new));
  return attention::encode_rows(
      driver, d.dtype, rows(x.v_new, d.head_dim_v, x.v_new_token_stride, x.v_new_head_stride),
      block_n, &p->v_new);
}

Status AttnExtend::bind(const Desc& d, const Args& x, const Prepared& prepared,
                        const Driver& driver, void* workspace, Launch* launch) {
  if (is_empty(x)) return ok();
  const TileShape& s = prepared.as<TileShape>();
  auto& p = launch->make_params<Params>();
  // A page and a tile are whole boxes: no box lies in two of either.
  p.box_rows = std::gcd(static_cast<uint32_t>(x.page_size), s.tile.block_n);
  p.page_table = x.page_table, p.seq_lens = x.seq_lens, p.kv_start = x.kv_start;
  p.table_row = static_cast<uint64_t>(x.page_table_stride);
  p.page_size = static_cast<uint32_t>(x.page_size);
  p.tile_pages = s.tile.block_n / p.page_size, p.tile_tokens = s.tile.block_n % p.page_size;
  p.mask = attention::make_mask(x);
  p.page_error = x.page_error;
  const auto rows = [](const void* base, int64_t page, int64_t token, int64_t head) {
    return AttnPageRows{base, static_cast<uint64_t>(page), static_cast<uint64_t>(token),
                        static_cast<uint64_t>(head)};
  };
  p.k_rows = rows(x.k, x.k_page_stride, x.k_token_stride, x.k_head_stride);
  p.v_rows = rows(x.v, x.v_page_stride, x.v_token_stride, x.v_head_stride);
  if (attention::has_pages(x)) {
    if (attention::has_plain_cache(d)) DGRT_TRY(encode_cache(d, x, p.box_rows, driver, &p));
    p.num_pages = static_cast<uint32_t>(x.num_pages);
    p.max_kv_len = static_cast<uint32_t>(x.max_pages * x.page_size);
  }
  DGRT_TRY(encode_new_keys(d, x, s.tile.block_n, driver, &p));
  return bind_rows(d, x, s, driver, workspace, &p, launch);
}

}  // namespace

DGRT_OP(AttnExtend, attn_extend);

}  // namespace dgrt
