// kv_dequant_paged, host side: what is accepted, how many rows a warp makes, how one call is launched.
#include <algorithm>

#include "dgrt/mla.h"
#include "mla/sm90_kv_dequant_paged.cuh"  // interface half: Params
#include "runtime/ops/op.h"
#include "runtime/ops/sparse_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::kv_dequant_paged;

struct KvDequantPaged {
  using Desc = dgrt_kv_dequant_paged_desc;
  using Args = dgrt_kv_dequant_paged_args;
  static constexpr uint32_t op_id = DGRT_OP_KV_DEQUANT_PAGED;
  static constexpr const char* op = "kv_dequant_paged";
  static constexpr const char* stem = "kv_dequant_paged";

  struct Shape {
    uint32_t rows_per_warp;
  };

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(sparse::check_count("max_rows", d.max_rows, sparse::max_tokens));
    DGRT_TRY(sparse::check_count("max_batch", d.max_batch, sparse::max_tokens));
    DGRT_TRY(sparse::check_format(d.format));
    if (is_by_sequence(d)) return sparse::check_flags(op, d);
    return sparse::check_flags(op, d, DGRT_KV_SLOTS_INT64, " and, by slot, KV_SLOTS_INT64");
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {sparse::powers("rows", d.max_rows, 1, sparse::max_tokens),
            {"batch", d.max_batch, {1, 4, 16, 64, 256, 1024, sparse::max_tokens}}};
  }

  static Config shape(const Desc& d) {
    return {{"format", d.format}, {"by_sequence", is_by_sequence(d)}};
  }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    return sparse::one_or_two(target, "rows_per_warp");
  }
  static Status check_config(const Desc&, const Target& target, const Config& c) {
    return sparse::check_one_or_two(op, target, c, "rows_per_warp");
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const auto format = static_cast<int>(d.format);
    const int64_t rows =
        sparse::capped_product(point[0], is_by_sequence(d) ? std::max<int64_t>(point[1], 1) : 1);
    return sparse::warp_rows_ps(target, rows, latent_columns(format) * 2 + latent_token_bytes(format),
                                c["rows_per_warp"]);
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_kv_dequant_paged.cuh";
    i.name_space = "dgrt::sm90::kv_dequant_paged";
    i.entry = fmt::format("sm90_kv_dequant_paged_{}_{}_r{}{}", sparse::format_name(d.format),
                          is_by_sequence(d) ? "seq" : "slot", c["rows_per_warp"],
                          sparse::has_wide_slots(d) ? "_slots64" : "");
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("format", d.format);
    i.cfg.set("by_sequence", is_by_sequence(d));
    i.cfg.set("wide_slots", sparse::has_wide_slots(d));
    i.num_threads = k90::num_threads;
    i.min_blocks = sparse::resident_blocks;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }
  static Prepared prepare(const Desc&, const Target&, const Config& c) {
    return Prepared::of(Shape{static_cast<uint32_t>(c["rows_per_warp"])});
  }

  static Point point(const Args& x) { return {x.rows, x.batch}; }

  static Status check_args(const Desc& d, const Args& x);

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    if (is_empty(d, x)) return ok();
    const Shape& s = prepared.as<Shape>();
    auto& p = launch->make_params<k90::Params>();
    p.cache = x.cache, p.out = x.out, p.slots = x.slots;
    p.seq_lens = x.seq_lens, p.gather_lens = x.gather_lens, p.page_table = x.page_table;
    p.page_bytes = static_cast<uint64_t>(x.cache_page_stride);
    p.out_row = static_cast<uint64_t>(x.out_row_stride);
    p.out_sequence = static_cast<uint64_t>(x.out_sequence_stride);
    p.page_table_row = static_cast<uint64_t>(x.page_table_row_stride);
    p.num_rows = static_cast<uint32_t>(x.rows), p.batch = static_cast<uint32_t>(x.batch);
    p.num_pages = static_cast<uint32_t>(x.num_pages), p.page_size = static_cast<uint32_t>(x.page_size);
    p.max_pages = static_cast<uint32_t>(x.max_pages);
    launch->block_m = k90::block_rows(s.rows_per_warp);
    launch->grid[0] = ceil_div(p.num_rows, launch->block_m);
    if (is_by_sequence(d)) launch->grid[1] = std::min(p.batch, k90::max_grid_y);
    launch->num_threads = k90::num_threads;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }

 private:
  static bool is_by_sequence(const Desc& d) { return d.max_batch > 0; }
  static bool is_empty(const Desc& d, const Args& x) {
    return x.rows == 0 || (is_by_sequence(d) && x.batch == 0);
  }
};

Status KvDequantPaged::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(sparse::check_within("rows", x.rows, "max_rows", d.max_rows));
  DGRT_TRY(sparse::check_within("batch", x.batch, "max_batch", d.max_batch));
  if (is_empty(d, x)) return ok();
  DGRT_TRY(sparse::check_range("num_pages", x.num_pages, 0, sparse::max_tokens));
  DGRT_TRY(sparse::check_cache(d.format, x));
  DGRT_TRY(check_pointer("out", x.out, 16));
  const int64_t columns = latent_columns(static_cast<int>(d.format));
  DGRT_TRY(sparse::check_stride("out_row_stride", x.out_row_stride, columns, 8));
  if (!is_by_sequence(d)) return check_pointer("slots", x.slots, sparse::has_wide_slots(d) ? 8 : 4);
  DGRT_TRY(sparse::check_stride("out_sequence_stride", x.out_sequence_stride, 0, 8));
  DGRT_TRY(check_pointer("seq_lens", x.seq_lens, 4));
  if (x.gather_lens != nullptr) DGRT_TRY(check_pointer("gather_lens", x.gather_lens, 4));
  DGRT_TRY(check_pointer("page_table", x.page_table, 4));
  DGRT_TRY(sparse::check_range("max_pages", x.max_pages, 0, sparse::max_tokens));
  return sparse::check_stride("page_table_row_stride", x.page_table_row_stride, x.max_pages);
}

}  // namespace

DGRT_OP(KvDequantPaged, kv_dequant_paged);

}  // namespace dgrt
