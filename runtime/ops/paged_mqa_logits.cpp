// paged_mqa_logits, host side: what is accepted and how one call is launched.
#include "dgrt/indexer.h"
#include "indexer/sm90_paged_mqa_logits.cuh"  // interface half: Params
#include "runtime/ops/indexer_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::paged_mqa_logits;

constexpr int64_t most_pages = INT32_MAX;
// Of keys on their way to an SM. With three times as many some SMs had a third more of the memory's bandwidth than
// others, for which all waited at the end.
constexpr int64_t most_kv_bytes = 64 << 10;
constexpr int64_t most_page_bytes = (int64_t{1} << 40) - 16;  // strides of tensor maps have 40 bits

struct PagedMqaLogits {
  using Desc = dgrt_paged_mqa_logits_desc;
  using Args = dgrt_paged_mqa_logits_args;
  static constexpr uint32_t op_id = DGRT_OP_PAGED_MQA_LOGITS;
  static constexpr const char* op = "paged_mqa_logits";
  static constexpr const char* stem = "paged_mqa_logits";

  static bool matches(const Desc& d) { return indexer::is_output(d.dtype_out); }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(indexer::check_desc(op, d, 0, " and LOGITS_CLEAN"));
    if (d.next_n < 1 || d.next_n > 4) return invalid("next_n={}: must be 1 to 4", d.next_n);
    if (d.page_size != 32 && d.page_size != 64 && d.page_size != 128)
      return invalid("page_size={}: must be 32, 64 or 128", d.page_size);
    DGRT_TRY(indexer::check_size("max_batch", d.max_batch, indexer::max_keys));
    return indexer::check_size("max_context_len", d.max_context_len, indexer::max_keys);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {indexer::count_var("batch", d.max_batch), indexer::count_var("max_context_len", d.max_context_len)};
  }
  static Point point(const Args& x) { return {x.batch, x.max_context_len}; }

  static Config shape(const Desc& d) {
    return {{"num_heads", d.num_heads}, {"head_dim", d.head_dim}, {"next_n", d.next_n}, {"page_size", d.page_size}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {indexer::make_config(d.num_heads, d.head_dim, d.next_n, most_kv_bytes / (mqa_block_kv * d.head_dim))};
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    DGRT_TRY(indexer::check_config(op, d, target, c));
    if (c["tokens"] != d.next_n) return invalid("tokens={}: must be next_n={}", c["tokens"], d.next_n);
    return ok();
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const indexer::Shape s = prepare(d, target, c).as<indexer::Shape>();
    const int64_t tiles = div_up(std::max<int64_t>(point[1], 1), mqa_block_kv) + 1;
    return 6'000'000 + indexer::tiles_ps(s, std::max<int64_t>(point[0], 1) * tiles);
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i = indexer::make_instance(stem, d, target, c);
    i.entry += fmt::format("_p{}", d.page_size);
    i.cfg.set("page_size", d.page_size);
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
  static bool has_keys(const Args& x) { return x.num_pages > 0 && x.max_pages > 0; }
  static bool is_empty(const Desc& d, const Args& x) {
    return x.batch == 0 || x.max_context_len == 0 || (!has_keys(x) && !has(d, DGRT_LOGITS_CLEAN));
  }
};

Status PagedMqaLogits::check_args(const Desc& d, const Args& x) {
  DGRT_TRY(indexer::check_size("batch", x.batch, d.max_batch));
  DGRT_TRY(indexer::check_size("max_context_len", x.max_context_len, d.max_context_len));
  DGRT_TRY(indexer::check_size("num_pages", x.num_pages, most_pages));
  DGRT_TRY(indexer::check_size("max_pages", x.max_pages, indexer::max_keys / d.page_size));
  if (is_empty(d, x)) return ok();
  if (x.batch * d.next_n > INT32_MAX)
    return invalid("batch={}: times {} tokens must be less than 2^31", x.batch, d.next_n);
  // The kernel counts them in 32 bits.
  if (x.batch * (x.max_context_len / mqa_block_kv + 2) > UINT32_MAX)
    return invalid("batch={} max_context_len={}: more than 2^32 tiles of keys", x.batch, x.max_context_len);
  DGRT_TRY(check_pointer("q", x.q, 16));
  DGRT_TRY(check_pointer("w", x.w, 4));
  DGRT_TRY(check_pointer("context_lens", x.context_lens, 4));
  DGRT_TRY(check_pointer("out", x.out, indexer::out_bytes(d.dtype_out)));
  if (x.batch * d.next_n > 1) {
    DGRT_TRY(indexer::check_stride("w_token_stride", x.w_token_stride, d.num_heads));
    DGRT_TRY(indexer::check_stride("out_token_stride", x.out_token_stride, x.max_context_len));
  }
  if (!has_keys(x)) return ok();
  DGRT_TRY(check_pointer("kv_cache", x.kv_cache, 16));
  DGRT_TRY(check_pointer("page_table", x.page_table, 4));
  if (x.batch > 1) DGRT_TRY(indexer::check_stride("page_table_stride", x.page_table_stride, x.max_pages));
  const int64_t least = d.page_size * (d.head_dim + 4);
  if (x.kv_page_stride < least || x.kv_page_stride > most_page_bytes || x.kv_page_stride % 16 != 0)
    return invalid("kv_page_stride={}: must be a multiple of 16 bytes from {} to {}", x.kv_page_stride, least,
                   most_page_bytes);
  return ok();
}

Status PagedMqaLogits::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver, void*,
                            Launch* launch) {
  if (is_empty(d, x)) return ok();
  const indexer::Shape& s = prepared.as<indexer::Shape>();
  const auto head_dim = static_cast<uint32_t>(d.head_dim), page_size = static_cast<uint32_t>(d.page_size);
  const auto elements = [](int64_t stride) { return static_cast<uint64_t>(stride); };
  auto& p = launch->make_params<k90::Params>();
  DGRT_TRY(encode_tensor_map(driver, indexer::columns_of(x.q, x.batch * d.next_n, s.tile), &p.q));
  p.kv = p.kv_scale = p.q;  // without keys: never read
  if (has_keys(x)) {
    TmaMatrix values = indexer::keys_of(x.kv_cache, page_size, head_dim, page_size);
    values.groups = static_cast<uint32_t>(x.num_pages), values.group_stride = elements(x.kv_page_stride);
    DGRT_TRY(encode_tensor_map(driver, values, &p.kv));
    const TmaMatrix scales = {.dtype = DGRT_FP32,
                              .base = static_cast<const uint8_t*>(x.kv_cache) + uint64_t{page_size} * head_dim,
                              .rows = elements(x.num_pages),
                              .cols = page_size,
                              .row_stride = elements(x.kv_page_stride) / 4,
                              .box_rows = 1,
                              .box_cols = page_size,
                              .swizzle = Swizzle::none};
    DGRT_TRY(encode_tensor_map(driver, scales, &p.kv_scale));
    p.max_len = static_cast<uint32_t>(std::min(x.max_context_len, x.max_pages * d.page_size));
  }
  p.w = x.w, p.context_lens = x.context_lens, p.page_table = x.page_table, p.out = x.out;
  p.w_row = elements(x.w_token_stride), p.out_row = elements(x.out_token_stride);
  p.table_row = elements(x.page_table_stride);
  p.batch = static_cast<uint32_t>(x.batch);
  p.columns = static_cast<uint32_t>(x.max_context_len);
  launch->grid[0] = s.max_ctas;
  launch->num_threads = mqa_num_threads;
  launch->smem_bytes = mqa_smem_bytes(s.tile);
  launch->block_m = s.tile.tokens;
  launch->pdl = has(d, DGRT_FLAG_PDL);
  return ok();
}

}  // namespace

DGRT_OP(PagedMqaLogits, paged_mqa_logits);

}  // namespace dgrt
