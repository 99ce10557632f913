#include "tools/lib/lab_attn_check.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tools/lib/lab_gemm_check.h"  // check_untouched()

namespace dgrt::lab {
namespace {

using attn_reference::Allowance;
using attn_reference::Stats;

constexpr int32_t tile_rows = 64;

double roundoff(const AttnProblem& p) { return p.is_fp16 != 0 ? 0x1p-11 : 0x1p-8; }

// What an honest kernel may be off by: it rounds each weight once to the type of v and o once to its own;
// between the two it works in fp32.
//
// product: the tensor core truncates when it adds 16 products to a sum, at most 2^-23 of the sum each time.
// logit: the product of scale and logit, its difference from the maximum's, and 2^x by the hardware have
// each 2^-24 to 2^-22 of what goes in. Logits of 1e5 make that a tenth of a weight: nothing in fp32 is
// closer.
// cap: tanh to 2^-22, and its rounding.
// sum: a truncation per step of 16 keys, and in between the rescaling to a new maximum.
Allowance allowance(const AttnProblem& p) {
  Allowance a;
  a.roundoff = roundoff(p);
  a.tiny = p.is_fp16 != 0 || p.q_scale != nullptr ? 0x1p-25 : 0;  // e4m3 q: weights are fp16
  a.product = 0x1p-21 + p.head_dim_qk / 16 * 0x1p-23;
  a.logit = 0x1p-22;
  a.cap = 0x1p-20;
  a.sum = 0x1p-22;
  return a;
}

std::vector<int32_t> sample_tokens(int64_t num_tokens, int64_t most) {
  constexpr int64_t ends = 130;  // more than two slabs
  std::vector<int32_t> tokens;
  const int64_t step = std::max<int64_t>(1, num_tokens / most);
  for (int64_t token = 0; token < num_tokens; ++token)
    if (token < ends || token >= num_tokens - ends || token % step == token / step % step)
      tokens.push_back(static_cast<int32_t>(token));
  return tokens;
}

Result<std::vector<Stats>> run_reference(const Device& device, AttnProblem problem,
                                         int64_t num_tokens, int64_t most) {
  DGRT_TRY(device.synchronize());
  const std::vector<int32_t> tokens =
      num_tokens > most ? sample_tokens(num_tokens, most) : std::vector<int32_t>();
  DGRT_ASSIGN(const DeviceBuffer device_tokens,
              DeviceBuffer::make(device, tokens.size() * sizeof(int32_t)));
  DGRT_TRY(device_tokens.upload(tokens.data(), device_tokens.bytes()));
  const uint64_t num_checked = tokens.empty() ? num_tokens : tokens.size();
  DGRT_ASSIGN(const DeviceBuffer stats,
              DeviceBuffer::make(device, num_checked * problem.num_heads * sizeof(Stats)));
  problem.tokens = tokens.empty() ? nullptr : device_tokens.as<int32_t>();
  problem.stats = stats.as<Stats>();
  problem.allowance = allowance(problem);
  const LabKernel kernel{"attn_reference", attn_reference::kind_compare,
                         attn_reference::num_threads, sizeof(problem)};
  DGRT_TRY(device.launch(kernel, &problem, static_cast<uint32_t>(num_checked),
                         static_cast<uint32_t>(problem.num_heads), device.stream()));
  return stats.download_all<Stats>();
}

// Sums over the elements of one tile, or of all.
struct Products {
  double xy = 0, squares = 0;
  void add(const Stats& s) { xy += s.xy, squares += s.xx + s.yy; }
  double calc_diff() const { return squares == 0 ? 0 : 1 - 2 * xy / squares; }
};

// Of an lse, over what is allowed: attn_lse_limit, more where logits are large. 1e300: of another class.
double log_error(const AttnProblem& p, const Stats& s, double got, double want) {
  if (got == want) return 0;  // infinities too
  if (std::isnan(got) && std::isnan(want)) return 0;
  const double unit = p.lse_base2 != 0 ? 1.4426950408889634 : 1;
  const double error = std::abs(got - want) / unit, size = std::abs(want) / unit;
  if (!std::isfinite(error)) return 1e300;
  const double limit = p.top_k > 0 ? std::max(sparse_lse_limit, sparse_lse_relative * size)
                                   : attn_lse_limit + 0x1p-22 * size;
  return error / (limit + s.logit_error);
}

// Rows of one head: at most an element's roundings, at random, the weights' and its own. Their mean square is
// u^2 / 6.25 of that of numbers with evenly spread mantissas and u^2 / 3 at the worst; calc_diff is half of
// that. A tile of few rows, or of short ones, may have bad luck.
double diff_limit(const AttnProblem& p, double logit_error) {
  return 0.5 * roundoff(p) * roundoff(p) + logit_error * logit_error;
}

Status check_row(const AttnProblem& p, const Stats& s, int64_t head, AttnError* e) {
  const auto where = [&] {
    return fmt::format("sequence {}, row {}, head {}", s.sequence, s.row, head);
  };
  if (s.num_bad > 0)
    return error(DGRT_INTERNAL,
                 "{}: {} elements are unwritten, or finite where they must not be, or not", where(),
                 s.num_bad);
  if (!(s.worst <= 1))
    return error(DGRT_INTERNAL,
                 "{}, column {}: got {:.9g}, want {:.9g}, {:.3g} times what is allowed", where(),
                 s.column, s.got, s.want, s.worst);
  const double lse = p.lse == nullptr ? 0 : log_error(p, s, s.lse_got, s.lse_want);
  if (!(lse <= 1))
    return error(DGRT_INTERNAL, "{}: lse is {:.9g}, want {:.9g}, {:.3g} times what is allowed",
                 where(), s.lse_got, s.lse_want, lse);
  const double most = p.max_logits == nullptr ? 0 : log_error(p, s, s.max_got, s.max_want);
  if (!(most <= 1))
    return error(DGRT_INTERNAL, "{}: the largest logit is {:.9g}, want {:.9g}, {:.3g} times what is allowed",
                 where(), s.max_got, s.max_want, most);
  e->checked += static_cast<uint64_t>(p.head_dim_v);
  e->worst_element = std::max(e->worst_element, s.worst);
  e->worst_lse = std::max({e->worst_lse, lse, most});
  e->logit_error = std::max(e->logit_error, s.logit_error);
  return ok();
}

// The tokens of one head, tile by tile.
Status add_head(const AttnProblem& p, std::span<const Stats> stats, int64_t head, Products* all,
                AttnError* e) {
  Products tile;
  double logit_error = 0;
  for (size_t i = head; i < stats.size(); i += p.num_heads) {
    const Stats& s = stats[i];
    if (s.sequence < 0) continue;
    DGRT_TRY(check_row(p, s, head, e));
    tile.add(s), all->add(s);
    logit_error = std::max(logit_error, s.logit_error);
    const size_t next = i + p.num_heads;
    const bool goes_on = next < stats.size() && stats[next].sequence == s.sequence &&
                         stats[next].row / tile_rows == s.row / tile_rows;
    if (goes_on) continue;
    const double diff = tile.calc_diff(), limit = 4 * diff_limit(p, logit_error);
    if (!(diff <= limit))
      return error(DGRT_INTERNAL,
                   "sequence {}, rows up to {}, head {}: calc_diff {:.3g}, limit {:.3g}",
                   s.sequence, s.row, head, diff, limit);
    e->worst_tile = std::max(e->worst_tile, diff);
    tile = {}, logit_error = 0;
  }
  return ok();
}

// What the descs and args of all ops have.
template <class Desc, class Args>
AttnProblem output_problem(const Desc& desc, const Args& args) {
  AttnProblem p{};
  p.q = args.q, p.o = args.o, p.lse = args.lse;
  p.q_token_stride = args.q_token_stride, p.q_head_stride = args.q_head_stride;
  p.o_token_stride = args.o_token_stride, p.o_head_stride = args.o_head_stride;
  p.lse_token_stride = args.lse_token_stride, p.lse_head_stride = args.lse_head_stride;
  p.head_dim_qk = static_cast<int32_t>(desc.head_dim_qk);
  p.head_dim_v = static_cast<int32_t>(desc.head_dim_v);
  p.is_fp16 = desc.dtype == DGRT_FP16;
  p.scale = args.scale;
  return p;
}

// Of those over sequences.
template <class Desc, class Args>
AttnProblem rows_problem(const Desc& desc, const Args& args) {
  AttnProblem p = output_problem(desc, args);
  p.q_indptr = args.q_indptr;
  p.batch = static_cast<int32_t>(args.batch);
  p.num_heads = static_cast<int32_t>(desc.num_q_heads);
  p.group = static_cast<int32_t>(desc.num_q_heads / desc.num_kv_heads);
  return p;
}

// What those of attention.h have.
template <class Desc, class Args>
AttnProblem common_problem(const Desc& desc, const Args& args) {
  AttnProblem p = rows_problem(desc, args);
  p.sinks = args.sinks;
  p.window_left = args.window_left, p.window_right = args.window_right;
  p.lse_base2 = (desc.flags & DGRT_ATTN_LSE_BASE2) != 0;
  p.lse_with_sink = (desc.flags & DGRT_ATTN_LSE_WITH_SINK) != 0;
  p.softcap = (desc.flags & DGRT_ATTN_SOFTCAP) != 0 ? args.softcap : 0.0f;
  return p;
}

template <class Desc, class Args>
AttnProblem paged_problem(const Desc& desc, const Args& args) {
  AttnProblem p = common_problem(desc, args);
  p.k = {args.k, args.k_token_stride, args.k_head_stride, args.page_table, args.page_table_stride,
         args.k_page_stride, args.page_size, args.k_scale, args.k_scale_head_stride};
  p.v = {args.v, args.v_token_stride, args.v_head_stride, args.page_table, args.page_table_stride,
         args.v_page_stride, args.page_size, args.v_scale, args.v_scale_head_stride};
  p.kv_lens = args.seq_lens;
  if ((desc.flags & (DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS)) != 0) {
    p.mask = static_cast<const uint8_t*>(args.mask), p.mask_indptr = args.mask_indptr;
    p.mask_bytes = args.mask_bytes;
    p.mask_is_bits = (desc.flags & DGRT_ATTN_MASK_BITS) != 0;
    p.mask_skips_prefix = (desc.flags & DGRT_ATTN_MASK_SKIP_PREFIX) != 0;
    p.window_right = -1;
  }
  return p;
}

}  // namespace

AttnProblem problem_of(const dgrt_attn_prefill_desc& desc, const dgrt_attn_prefill_args& args) {
  AttnProblem p = common_problem(desc, args);
  p.k = {args.k, args.k_token_stride, args.k_head_stride, nullptr, 0, 0, 1, args.k_scale, args.k_scale_head_stride};
  p.v = {args.v, args.v_token_stride, args.v_head_stride, nullptr, 0, 0, 1, args.v_scale, args.v_scale_head_stride};
  p.kv_indptr = args.kv_indptr;
  return p;
}

AttnProblem problem_of(const dgrt_attn_decode_desc& desc, const dgrt_attn_decode_args& args) {
  return paged_problem(desc, args);
}

AttnProblem problem_of(const dgrt_attn_extend_desc& desc, const dgrt_attn_extend_args& args) {
  AttnProblem p = paged_problem(desc, args);
  p.kv_start = args.kv_start;
  p.k.new_base = args.k_new, p.v.new_base = args.v_new;
  p.k.new_token_stride = args.k_new_token_stride, p.k.new_head_stride = args.k_new_head_stride;
  p.v.new_token_stride = args.v_new_token_stride, p.v.new_head_stride = args.v_new_head_stride;
  return p;
}

AttnProblem problem_of(const dgrt_mla_decode_desc& desc, const dgrt_mla_decode_args& args) {
  AttnProblem p = rows_problem(desc, args);
  p.q_scale = args.q_scale;
  p.k = {args.kv, args.kv_token_stride, args.kv_head_stride, args.page_table, args.page_table_stride,
         args.kv_page_stride, args.page_size, args.kv_scale};
  p.v = p.k;
  p.kv_lens = args.seq_lens;
  p.window_left = -1, p.window_right = args.causal != 0 ? 0 : -1;
  p.lse_base2 = (desc.flags & DGRT_MLA_LSE_BASE2) != 0;
  p.lse_empty_inf = (desc.flags & DGRT_MLA_LSE_EMPTY_INF) != 0;
  return p;
}

AttnProblem problem_of(const dgrt_mla_sparse_prefill_desc& desc, const dgrt_mla_sparse_prefill_args& args) {
  AttnProblem p = output_problem(desc, args);
  p.sinks = args.sinks, p.max_logits = args.max_logits;
  p.batch = static_cast<int32_t>(args.tokens), p.q_len = 1;
  p.num_heads = p.group = static_cast<int32_t>(desc.num_heads);
  p.k = {args.kv, 0, 0, args.indices, args.indices_row_stride, args.kv_row_stride, 1};
  p.v = p.k;
  p.kv_lens = args.lengths, p.top_k = args.top_k, p.num_pages = args.kv_rows;
  p.window_left = p.window_right = -1;
  p.lse_base2 = (desc.flags & DGRT_MLA_LSE_BASE2) != 0;
  p.lse_empty_inf = (desc.flags & DGRT_MLA_LSE_EMPTY_INF) != 0;
  return p;
}

std::string AttnError::to_string() const {
  std::string text =
      fmt::format("calc_diff {:.2g}, tile {:.2g}, element {:.2f} and lse {:.2g} of what is allowed",
                  calc_diff, worst_tile, worst_element, worst_lse);
  if (logit_error > 1e-3) text += fmt::format(" (weights are {:.2g} uncertain)", logit_error);
  return text;
}

Result<AttnError> check_attn(const Device& device, const AttnProblem& problem, int64_t num_tokens,
                             int64_t most) {
  AttnError e;
  if (num_tokens == 0) return e;
  DGRT_ASSIGN(const std::vector<Stats> stats, run_reference(device, problem, num_tokens, most));
  Products all;
  for (int64_t head = 0; head < problem.num_heads; ++head)
    DGRT_TRY(add_head(problem, stats, head, &all, &e));
  e.calc_diff = all.calc_diff();
  // In a small problem chance may put all roundings on one side; there the tiles' limits decide.
  const double limit = diff_limit(problem, e.logit_error) * (e.checked >= 65536 ? 1 : 4);
  if (!(e.calc_diff <= limit))
    return error(DGRT_INTERNAL, "calc_diff {:.3g}, limit {:.3g}", e.calc_diff, limit);
  return e;
}

Status check_attn_untouched(const Device& device, const AttnProblem& problem, int64_t num_tokens,
                            const DeviceBuffer& o, const DeviceBuffer& lse, const DeviceBuffer& max_logits) {
  DGRT_TRY(device.synchronize());
  const LabKernel kernel{"attn_reference", attn_reference::kind_erase, attn_reference::num_threads,
                         sizeof(problem)};
  if (num_tokens > 0)
    DGRT_TRY(device.launch(kernel, &problem, static_cast<uint32_t>(num_tokens),
                           static_cast<uint32_t>(problem.num_heads), device.stream()));
  for (const auto& [name, buffer] : {std::pair{"o", &o}, {"lse", &lse}, {"max_logits", &max_logits}}) {
    if (buffer->bytes() == 0) continue;
    const ByteColumns all{buffer->data(), 1, buffer->bytes(), 0, buffer->bytes()};
    const Status status = check_untouched(device, all);
    if (!status.is_ok())
      return error(DGRT_INTERNAL, "{}: outside the shape, {}", name, status.message());
  }
  return ok();
}

}  // namespace dgrt::lab
