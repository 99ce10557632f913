// attn_decode, host side: what is accepted, which tiles are legal, what they cost, how one call is launched.
#include <algorithm>
#include <bit>

#include "attention/sm90_attn_decode.cuh"  // interface half: Params
#include "dgrt/attention.h"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/attention_mask.h"
#include "runtime/ops/attention_pages.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::attn_decode;


constexpr uint32_t most_ctas_per_sm = 4;
constexpr int64_t cluster_tiles = 4;  // of keys, for each CTA at most, that suit a cluster

// A decoded config, with what the target adds.
struct Shape {
  AttnPagedConfig tile;
  uint32_t max_ctas;
  uint64_t state_bytes;
};

AttnPagedConfig decode(const dgrt_attn_decode_desc& d, const Config& c) {
  const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
  return {get("block_m"), get("block_n"),  get("head_dim_qk"),
          get("head_dim_v"), get("stages"), get("split_v"),
          attention::has_fp8_cache(d) ? 1u : 2u, get("ctas_per_sm"), get("cluster")};
}

struct AttnDecode {
  using Desc = dgrt_attn_decode_desc;
  using Args = dgrt_attn_decode_args;
  static constexpr uint32_t op_id = DGRT_OP_ATTN_DECODE;
  static constexpr const char* op = "attn_decode";
  static constexpr const char* stem = "attn_decode";

  static bool matches(const Desc& d) {
    return (d.dtype == DGRT_BF16 || d.dtype == DGRT_FP16) &&
           (attention::has_plain_cache(d) || attention::has_fp8_cache(d));
  }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(attention::check_paged_desc(op, d));
    if (attention::has_fp8_cache(d) && has(d, DGRT_ATTN_NEW_KEYS))
      return error(DGRT_UNSUPPORTED, "dtype_kv=e4m3: not with NEW_KEYS, which are of dtype");
    return attention::check_cache_type(d);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    const int64_t most = attention::max_tokens;
    return {{"batch", d.max_batch, {1, 2, 4, 8, 16, 32, 64, 256, most}},
            {"max_q_len", d.max_q_len, {1, 2, 3, 4, 5, 6, 8, 12, 16, 32, most}},
            {"max_kv_len", d.max_kv_len, {64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, most}}};
  }

  static Config shape(const Desc& d) {
    return {{"num_q_heads", d.num_q_heads},
            {"num_kv_heads", d.num_kv_heads},
            {"head_dim_qk", d.head_dim_qk},
            {"head_dim_v", d.head_dim_v},
            {"softcap", has(d, DGRT_ATTN_SOFTCAP)},
            {"mask", attention::mask_form(d.flags)},
            {"batch_invariant", is_invariant(d)},
            {"new_keys", has(d, DGRT_ATTN_NEW_KEYS)},
            {"fp8_cache", attention::has_fp8_cache(d)}};
  }

  // Few rows and many take different ways to their bits: with BATCH_INVARIANT the batch must not choose.
  static int64_t block_m(const Desc& d, const Point& point) {
    const int64_t tokens = std::clamp<int64_t>(is_invariant(d) ? d.max_q_len : point[1], 1, 64);
    return tokens * (d.num_q_heads / d.num_kv_heads) <= attn_team_rows ? attn_team_rows : 64;
  }

  // As many stages as there is room for.
  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point& point) {
    if (target.arch != "sm_90a") return {};
    const int64_t qk = (d.head_dim_qk + 15) / 16 * 16, v = attention::padded_v(d.head_dim_v);
    std::vector<Config> found;
    for (const int64_t cluster : {0, 1, 2, 4, 8})
      for (const int64_t ctas : {2, 1, 3})
        for (const int64_t block_n : {64, 32, 128})
          for (const int64_t split_v : {1, 2}) {
            // The bits of a row depend on how its keys are cut, and on nothing else of a config.
            if (is_invariant(d) && block_n != (qk + v > 256 ? 32 : 64)) continue;
            for (int64_t stages = 8; stages >= 2; --stages) {
              const Config c = {{"block_m", block_m(d, point)},
                                {"block_n", block_n},
                                {"head_dim_qk", qk},
                                {"head_dim_v", v},
                                {"stages", stages},
                                {"split_v", split_v},
                                {"ctas_per_sm", ctas},
                                {"cluster", cluster}};
              if (!check_config(d, target, c).is_ok()) continue;
              if (cluster == 0 || suits_clusters(d, target, point, c)) found.push_back(c);
              break;
            }
          }
    return found;
  }

  // They depend on the rows of a tile and on whether clusters suit the point: with more keys than the largest suits,
  // none does.
  static Point same_candidates(const Desc& d, const Point& point) {
    const bool teams = block_m(d, point) == attn_team_rows;
    const int64_t most_keys = teams ? 128 * 8 * cluster_tiles : 128 * 2, q_len = teams ? 1 : 64;
    return is_invariant(d) || point[2] > most_keys ? Point{0, q_len, most_keys + 1} : Point{point[0], q_len, point[2]};
  }

  static bool suits_clusters(const Desc& d, const Target& target, const Point& point, const Config& c);
  static Status check_config(const Desc& d, const Target& target, const Config& c);
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c);

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    const AttnPagedConfig tile = decode(d, c);
    Instance i;
    i.stem = stem;
    i.header = "attention/sm90_attn_decode.cuh";
    i.name_space = "dgrt::sm90::attn_decode";
    i.entry = fmt::format("sm90_attn_decode_{}_{}x{}_d{}x{}_s{}_c{}",
                          attention::dtype_name(d.dtype), tile.block_m, tile.block_n,
                          tile.head_dim_qk, tile.head_dim_v, tile.stages, c["ctas_per_sm"]);
    if (tile.split_v == 2 && tile.head_dim_v <= 256) i.entry += "_v2";
    if (tile.cluster > 0) i.entry += fmt::format("_cl{}", tile.cluster);
    if (attention::has_fp8_cache(d)) i.entry += "_kve4m3";
    if (has(d, DGRT_ATTN_SOFTCAP)) i.entry += "_cap";
    if (is_invariant(d)) i.entry += "_inv";
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("dtype", d.dtype);
    i.cfg.set("kv_bytes", tile.kv_bytes);
    i.cfg.set("softcap", has(d, DGRT_ATTN_SOFTCAP));
    i.cfg.set("invariant", is_invariant(d));
    i.cfg.set("new_keys", has(d, DGRT_ATTN_NEW_KEYS));
    i.cfg.set("row_lanes", false);
    if (has(d, DGRT_ATTN_NEW_KEYS)) i.entry += "_new";
    attention::set_mask_constants(d.flags, &i);
    attention::set_page_constants(d.flags, &i);
    i.num_threads = num_threads(tile);
    i.min_blocks = static_cast<uint32_t>(c["ctas_per_sm"]);
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc& d, const Config& c) { return attn_paged_smem_bytes(decode(d, c)); }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    const uint32_t sms = d.sm_budget == 0 ? target.sm_count : std::min(d.sm_budget, target.sm_count);
    return Prepared::of(Shape{decode(d, c), sms * static_cast<uint32_t>(c["ctas_per_sm"]), state_bytes(d, target)});
  }

  // Keys that nobody sees, before the windows of a sequence's first query, cost nothing.
  static Point point(const Args& x) {
    const int64_t seen = x.window_left < 0 ? x.max_kv_len : std::min(x.max_kv_len, x.window_left + x.max_q_len);
    return {x.batch, x.max_q_len, seen};
  }

  static Status check_args(const Desc& d, const Args& x);

  static uint64_t workspace_bytes(const Desc& d, const Prepared& prepared, const Point& point) {
    const Shape& s = prepared.as<Shape>();
    const uint64_t slots = num_slots(d, s, point[0], point[1]);
    return s.state_bytes + AttnParts{s.tile.block_m, s.tile.head_dim_v}.bytes(slots);
  }
  // Two counters for a slot; the same for every config of a desc.
  static uint64_t state_bytes(const Desc& d, const Target& target) {
    const uint64_t slots = is_invariant(d) ? static_cast<uint64_t>(max_parts(d, d.max_batch, d.max_q_len, 1))
                                           : 2 * uint64_t{target.sm_count} * most_ctas_per_sm;
    return (slots * 2 * sizeof(uint32_t) + 255) / 256 * 256;
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static bool has(const Desc& d, uint32_t flag) { return (d.flags & flag) != 0; }
  static bool is_empty(const Args& x) { return x.batch == 0 || x.total_q == 0; }
  static uint32_t num_threads(const AttnPagedConfig& tile) { return tile.split_v * 128; }
  static uint32_t registers(const Desc& d, const AttnPagedConfig& tile);
  static bool is_invariant(const Desc& d) { return has(d, DGRT_FLAG_BATCH_INVARIANT); }

  // With BATCH_INVARIANT every part of every unit has a slot. tile_tokens: of a row tile, at least. Far
  // too many are 2^40 and more.
  static int64_t max_parts(const Desc& d, int64_t batch, int64_t q_len, int64_t tile_tokens) {
    int64_t parts = batch * div_up(q_len, tile_tokens);
    for (const int64_t factor : {div_up(d.num_q_heads / d.num_kv_heads, 16), d.num_kv_heads,
                                 int64_t{attn_invariant_parts}})
      parts = std::min(parts, int64_t{1} << 40) * factor;
    return parts;
  }
  static uint64_t num_slots(const Desc& d, const Shape& s, int64_t batch, int64_t q_len) {
    if (!is_invariant(d)) return s.tile.cluster > 0 ? 0 : 2 * uint64_t{s.max_ctas};
    const int64_t tokens = std::max<int64_t>(1, s.tile.block_m / (d.num_q_heads / d.num_kv_heads));
    return static_cast<uint64_t>(max_parts(d, batch, q_len, tokens));
  }
};

Status AttnDecode::check_config(const Desc& d, const Target& target, const Config& c) {
  if (target.arch != "sm_90a")
    return error(DGRT_UNSUPPORTED, "arch={}: attn_decode has kernels for sm_90a", target.arch);
  for (const char* name :
       {"block_m", "block_n", "head_dim_qk", "head_dim_v", "stages", "split_v", "ctas_per_sm", "cluster"}) {
    const int64_t* value = c.find(name);
    if (!value) return invalid("{}: missing", name);
    const int64_t least = std::string_view(name) == "cluster" ? 0 : 1;
    if (*value < least || *value > 512) return invalid("{}={}: must be {} to 512", name, *value, least);
  }
  const AttnPagedConfig t = decode(d, c);
  const auto ctas = static_cast<uint32_t>(c["ctas_per_sm"]);
  if (t.block_m != 16 && t.block_m != 64) return invalid("block_m={}: must be 16 or 64", t.block_m);
  if (t.block_n != 32 && t.block_n != 64 && t.block_n != 128)
    return invalid("block_n={}: must be 32, 64 or 128", t.block_n);
  if (t.head_dim_qk != (d.head_dim_qk + 15) / 16 * 16)
    return invalid("head_dim_qk={}: must be the desc's, rounded up to 16", t.head_dim_qk);
  if (t.head_dim_v != attention::padded_v(d.head_dim_v))
    return invalid("head_dim_v={}: must be {}", t.head_dim_v, attention::padded_v(d.head_dim_v));
  if (t.split_v > 2 || (t.head_dim_v > 256 && t.split_v != 2))
    return invalid("split_v={}: must be 1 or 2, a warpgroup holds up to 256 columns of o", t.split_v);
  // Twice the threads load and compute a tile in less time: of use where nothing else goes on meanwhile. (Half a row must
  // be whole rounds of the swizzle.)
  if (t.head_dim_v <= 256 && t.split_v == 2 &&
      (t.cluster == 0 || !attn_paged_by_teams(t) || t.head_dim_v < 256 || t.kv_bytes != 2))
    return invalid("split_v=2: must be 1 for {} columns of o with cluster={}", t.head_dim_v, t.cluster);
  if (t.stages < 2 || t.stages > 8) return invalid("stages={}: must be 2 to 8", t.stages);
  if (ctas > most_ctas_per_sm)
    return invalid("ctas_per_sm={}: must be 1 to {}", ctas, most_ctas_per_sm);
  if (t.cluster > 8 || (t.cluster > 0 && !std::has_single_bit(t.cluster)))
    return invalid("cluster={}: must be 0, 1, 2, 4 or 8", t.cluster);
  if (t.cluster > prepare(d, target, c).as<Shape>().max_ctas)
    return invalid("cluster={}: more CTAs than sm_budget={} has", t.cluster, d.sm_budget);
  if (t.cluster > 0 && is_invariant(d)) return invalid("cluster={}: must be 0 with BATCH_INVARIANT", t.cluster);
  if (t.cluster > 1 && !attn_paged_by_teams(t))
    return invalid("cluster={}: must be 0 or 1 with block_m={}", t.cluster, t.block_m);
  if (ctas > 2 && attention::mask_form(d.flags) != attn_mask_none)
    return invalid("ctas_per_sm={}: a mask's words need registers, must be 1 or 2", ctas);
  if (registers(d, t) > std::min(65536 / (ctas * num_threads(t)), 255u))
    return invalid("ctas_per_sm={}: {} registers a thread are too many", ctas, registers(d, t));
  if (attn_paged_by_teams(t) && attn_paged_stage_bytes(t) < attn_team_rows * attn_teams * 64 * t.split_v)
    return invalid("block_n={}: a stage must hold 16 columns of every team's o", t.block_n);
  // 1024: what the system keeps of every CTA's.
  if (ctas * (attn_paged_smem_bytes(t) + 1024) > sm90_max_smem_bytes + 1024)
    return invalid("stages={}: {} bytes of shared memory for {} CTAs", t.stages,
                   attn_paged_smem_bytes(t), ctas);
  return ok();
}

// Of a thread: accumulators and weights, and what the rest takes, which is more where rows are not a power of
// two of chunks.
uint32_t AttnDecode::registers(const Desc& d, const AttnPagedConfig& t) {
  const bool irregular = !std::has_single_bit(t.head_dim_qk) || !std::has_single_bit(t.head_dim_v);
  const uint32_t o = t.head_dim_v / t.split_v / 2;
  if (attn_paged_by_teams(t))
    return o + t.block_n / attn_teams / 2 + (attn_teams_hold_queries(t) ? t.head_dim_qk / 4 : 0) +
           (irregular || (o >= 128 && t.block_n > 64) ? 115 : 88) +
           (has(d, DGRT_ATTN_SOFTCAP) && t.kv_bytes == 2 ? 8 : 0);
  const uint32_t upcast = t.kv_bytes == 1 ? 32 : 0;
  return o + t.block_n / 2 + t.block_n / 4 + (irregular ? 100 : 76) + (t.ctas_per_sm > 2 ? t.block_n / 4 + upcast : 0);
}

// Sequences are so short that it hardly matters if they are not alike, and so few that they are worked on at the same
// time, or in two rounds.
bool AttnDecode::suits_clusters(const Desc& d, const Target& target, const Point& point, const Config& c) {
  const AttnPagedConfig t = decode(d, c);
  const int64_t ctas = attention::capped_product(point[0], d.num_kv_heads * t.cluster);
  const int64_t most = prepare(d, target, c).as<Shape>().max_ctas, tiles = div_up(point[2], t.block_n * t.cluster);
  // A cluster's CTAs are on neighbouring SMs: not all SMs find partners.
  if (t.cluster > 1) return ctas <= most * 3 / 4 && tiles <= cluster_tiles;
  return ctas <= most * 2 && tiles <= (attn_paged_by_teams(t) && ctas <= most ? cluster_tiles : 2);
}

// CTAs of one SM share its part of the memory's rate; each computes a tile while others load. Every unit of
// rows and every part of one that CTAs share takes its time. Fitted to an H100 with heads of 64 to 512
// (CUDA 13.0, 2026-11-27).
int64_t AttnDecode::cost_ps(const Desc& d, const Target& target, const Point& point,
                            const Config& c) {
  const AttnPagedConfig t = decode(d, c);
  const int64_t ctas = prepare(d, target, c).as<Shape>().max_ctas;
  const int64_t batch = std::clamp<int64_t>(point[0], 1, 1 << 20);
  const int64_t q_len = std::clamp<int64_t>(point[1], 1, 1 << 10);
  const int64_t kv_len = std::clamp<int64_t>(point[2], 1, 1 << 20);
  const int64_t row_tiles = div_up(q_len * (d.num_q_heads / d.num_kv_heads), t.block_m);
  const int64_t units = batch * d.num_kv_heads * row_tiles, unit_tiles = div_up(kv_len, t.block_n);
  const int64_t load_ps = attn_paged_stage_bytes(t) * c["ctas_per_sm"] * 1000 / 25;
  const int64_t compute_ps = 600'000 + int64_t{t.block_n} * t.head_dim_v / t.split_v * 30;
  const int64_t shorter = std::min(load_ps, compute_ps), longer = std::max(load_ps, compute_ps);
  if (t.cluster > 0) {  // all loads of a round are on their way at once; tiles follow one another
    const int64_t per_sm = div_up(units * t.cluster * c["ctas_per_sm"], ctas);
    const int64_t rounds = div_up(units * t.cluster, ctas);
    const int64_t bytes = div_up(kv_len, t.cluster) * (t.head_dim_qk + t.head_dim_v) * t.kv_bytes;
    return (t.cluster > 1 ? 6'000'000 : 5'500'000) + attention::capped_product(per_sm, bytes * 1000 / 25) +
           rounds * div_up(unit_tiles, t.cluster) * compute_ps;
  }
  const int64_t steps = div_up(attention::capped_product(units, unit_tiles), ctas);
  const int64_t parts = std::min(unit_tiles, std::max<int64_t>(1, ctas / units));
  return 7'000'000 + attention::capped_product(steps, longer + shorter * 3 / 8) +
         attention::capped_product(16 * std::max(units, ctas) / ctas, 1'500'000) / 16 +
         (parts - 1) * t.head_dim_v * 800;
}

Status AttnDecode::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(attention::check_paged_counts(d, x));
  if (is_empty(x)) return ok();
  DGRT_TRY(attention::check_paged_cache(d, x));
  DGRT_TRY(attention::check_page_error(d.flags, x.page_error));
  DGRT_TRY(attention::check_new_keys(d, x));
  DGRT_TRY(attention::check_softmax(d.flags, x.scale, x.softcap, x.window_left, x.window_right));
  DGRT_TRY(attention::check_mask(d.flags, x));
  DGRT_TRY(attention::check_tensor("q", x.q, x.q_token_stride, x.q_head_stride, d.head_dim_qk));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, d.head_dim_v));
  DGRT_TRY(check_pointer("q_indptr", x.q_indptr, 4));
  DGRT_TRY(attention::check_lse(x.lse, x.lse_token_stride, x.lse_head_stride));
  if (x.sinks != nullptr) DGRT_TRY(check_pointer("sinks", x.sinks, 4));
  if (is_invariant(d) && max_parts(d, x.batch, x.max_q_len, 1) > attention::max_tokens)
    return invalid("batch={} max_q_len={}: more than {} parts with BATCH_INVARIANT", x.batch,
                   x.max_q_len, attention::max_tokens);
  // Of the smallest tiles; the kernel counts them in 32 bits.
  const int64_t keys = x.max_pages * x.page_size + (has(d, DGRT_ATTN_NEW_KEYS) ? x.total_q : 0);
  const double tiles = static_cast<double>(x.total_q + x.batch) *
                       static_cast<double>(d.num_kv_heads * div_up(d.num_q_heads / d.num_kv_heads, 16)) *
                       static_cast<double>(keys / 32 + 2);
  if (tiles >= 4294967296.0)
    return invalid("total_q={} batch={} max_pages={}: more than 2^32 tiles of keys", x.total_q,
                   x.batch, x.max_pages);
  return ok();
}

Status AttnDecode::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&,
                        void* workspace, Launch* launch) {
  if (is_empty(x)) return ok();
  const Shape& s = prepared.as<Shape>();
  auto& p = launch->make_params<k90::Params>();
  const auto elements = [](int64_t stride) { return static_cast<uint64_t>(stride); };
  p.q = x.q, p.k = x.k, p.v = x.v, p.o = x.o, p.lse = x.lse, p.sinks = x.sinks;
  p.q_indptr = x.q_indptr, p.page_table = x.page_table, p.seq_lens = x.seq_lens;
  auto* bytes = static_cast<uint8_t*>(workspace);
  p.counters = reinterpret_cast<uint32_t*>(bytes);
  p.parts = reinterpret_cast<float*>(bytes + s.state_bytes);
  p.q_token = elements(x.q_token_stride), p.q_head = elements(x.q_head_stride);
  p.k_page = elements(x.k_page_stride), p.k_token = elements(x.k_token_stride);
  p.k_head = elements(x.k_head_stride);
  p.v_page = elements(x.v_page_stride), p.v_token = elements(x.v_token_stride);
  p.v_head = elements(x.v_head_stride);
  p.o_token = elements(x.o_token_stride), p.o_head = elements(x.o_head_stride);
  p.lse_token = elements(x.lse_token_stride), p.lse_head = elements(x.lse_head_stride);
  p.table_row = elements(x.page_table_stride);
  p.batch = static_cast<uint32_t>(x.batch);
  p.num_kv_heads = static_cast<uint32_t>(d.num_kv_heads);
  p.group = static_cast<uint32_t>(d.num_q_heads / d.num_kv_heads);
  p.total_q = static_cast<uint32_t>(x.total_q);
  p.page_size = static_cast<uint32_t>(x.page_size);
  p.num_pages = static_cast<uint32_t>(x.num_pages);
  p.max_kv_len = attention::has_pages(x) ? static_cast<uint32_t>(x.max_pages * x.page_size) : 0;
  p.qk_columns = static_cast<uint32_t>(d.head_dim_qk);
  p.v_columns = static_cast<uint32_t>(d.head_dim_v);
  p.tile_heads = std::min(p.group, s.tile.block_m);
  p.tile_tokens = Divisor(s.tile.block_m / p.tile_heads);
  p.head_tiles = Divisor(ceil_div(p.group, p.tile_heads));
  p.row_scale = attn_row_scale(p.tile_heads);
  p.max_q_len = is_invariant(d) ? static_cast<uint32_t>(x.max_q_len) : p.total_q;
  attention::set_scales(x, &p);
  attention::set_softmax(d.flags, x.scale, x.softcap, x.window_left, x.window_right, &p);
  p.mask = attention::make_mask(x);
  p.page_error = x.page_error;
  // What the addresses of new keys have over the cache's, whose elements are of 16 bits too.
  const auto elements_between = [](const void* from, const void* to) {
    return static_cast<uint64_t>((reinterpret_cast<intptr_t>(to) - reinterpret_cast<intptr_t>(from)) / 2);
  };
  p.k_new = elements_between(x.k, x.k_new), p.v_new = elements_between(x.v, x.v_new);
  p.k_new_token = elements(x.k_new_token_stride), p.k_new_head = elements(x.k_new_head_stride);
  p.v_new_token = elements(x.v_new_token_stride), p.v_new_head = elements(x.v_new_head_stride);
  launch->grid[0] = s.max_ctas;
  if (s.tile.cluster > 0) {
    const int64_t clusters = std::min<int64_t>(x.batch * d.num_kv_heads, s.max_ctas / s.tile.cluster);
    launch->grid[0] = static_cast<uint32_t>(clusters) * s.tile.cluster;
    launch->cluster[0] = s.tile.cluster;
  }
  launch->num_threads = num_threads(s.tile);
  launch->smem_bytes = attn_paged_smem_bytes(s.tile);
  launch->block_m = s.tile.block_m;
  launch->pdl = has(d, DGRT_FLAG_PDL);
  return ok();
}

}  // namespace

DGRT_OP(AttnDecode, attn_decode);

}  // namespace dgrt
