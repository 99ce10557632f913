// attn_merge, host side: what is accepted, how many threads share the parts of a row, how one call is
// launched.
#include <algorithm>

#include "attention/sm90_attn_merge.cuh"  // interface half: Params, block_rows()
#include "dgrt/attention.h"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::attn_merge;


// Of the 256 threads' blocks on one SM; their registers stay below 42 (tests/compile checks).
constexpr uint32_t resident_blocks = 6;

struct Shape {
  uint32_t row_vectors, block_rows;
};

bool is_output(dgrt_dtype dtype) {
  return dtype == DGRT_BF16 || dtype == DGRT_FP16 || dtype == DGRT_FP32;
}
int64_t bytes_of(dgrt_dtype dtype) { return dtype == DGRT_FP32 ? 4 : 2; }

struct AttnMerge {
  using Desc = dgrt_attn_merge_desc;
  using Args = dgrt_attn_merge_args;
  static constexpr uint32_t op_id = DGRT_OP_ATTN_MERGE;
  static constexpr const char* op = "attn_merge";
  static constexpr const char* stem = "attn_merge";

  static bool matches(const Desc& d) { return is_output(d.dtype_part) && is_output(d.dtype_o); }

  static Status check_desc(const Desc& d) {
    if (d.num_heads < 1 || d.num_heads > attention::max_heads)
      return invalid("num_heads={}: must be 1 to {}", d.num_heads, attention::max_heads);
    DGRT_TRY(attention::check_head_dim("head_dim", d.head_dim));
    if (d.max_tokens < 0 || d.max_tokens > attention::max_tokens)
      return invalid("max_tokens={}: must be 0 to {}", d.max_tokens, attention::max_tokens);
    if (d.max_parts < 1 || d.max_parts > k90::max_parts)
      return invalid("max_parts={}: must be 1 to {}", d.max_parts, k90::max_parts);
    constexpr uint32_t known =
        DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK;
    if ((d.flags & ~known) != 0)
      return invalid(
          "flags={:#x}: attn_merge knows PDL, BATCH_INVARIANT, LSE_BASE2 and LSE_WITH_SINK",
          d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    SelectorVar tokens{"tokens", d.max_tokens, {}};
    for (int64_t most = 1; most < attention::max_tokens; most *= 4) tokens.breaks.push_back(most);
    tokens.breaks.push_back(attention::max_tokens);
    return {tokens, {"num_parts", d.max_parts, {2, 4, 8, 16, 32, k90::max_parts}}};
  }

  static Config shape(const Desc& d) {
    return {{"num_heads", d.num_heads}, {"head_dim", d.head_dim}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point& point) {
    if (target.arch != "sm_90a") return {};
    // The order of a row's sums depends on the split, which must then not depend on other rows.
    if ((d.flags & DGRT_FLAG_BATCH_INVARIANT) != 0) return {{{"split", point[1] > 16 ? 4 : 1}}};
    return {{{"split", 1}}, {{"split", 2}}, {{"split", 4}}, {{"split", 8}}};
  }

  static Status check_config(const Desc&, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: attn_merge has kernels for sm_90a", target.arch);
    const int64_t* split = c.find("split");
    if (!split) return invalid("split: missing");
    if (*split != 1 && *split != 2 && *split != 4 && *split != 8)
      return invalid("split={}: must be 1, 2, 4 or 8", *split);
    return ok();
  }

  // The larger of device memory and, in rounds of resident blocks, how long each waits for lse and then for
  // its parts.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const int64_t tokens = std::clamp<int64_t>(point[0], 1, 1 << 22);  // so that products fit
    const int64_t parts = std::max<int64_t>(point[1], 1);
    const int64_t rows = tokens * d.num_heads, split = c["split"];
    const Shape s = make_shape(d, c);
    const int64_t row_bytes =
        d.head_dim * (parts * bytes_of(d.dtype_part) + bytes_of(d.dtype_o)) + 4 * parts;
    const int64_t memory_ps = rows * row_bytes / 427 * 100;  // 4.27 TB/s, H200, measured
    const int64_t blocks = div_up(rows, s.block_rows);
    const int64_t rounds = div_up(blocks, int64_t{target.sm_count} * resident_blocks);
    const int64_t steps = div_up(s.block_rows * s.row_vectors, k90::num_threads / split);
    const int64_t step_ps =
        div_up(parts, split * k90::unroll) * 600'000 + (split > 1 ? 150'000 : 0);
    return 2'850'000 + std::max(memory_ps, rounds * (700'000 + steps * step_ps));
  }

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "attention/sm90_attn_merge.cuh";
    i.name_space = "dgrt::sm90::attn_merge";
    i.entry = fmt::format("sm90_attn_merge_{}_{}_p{}", attention::dtype_name(d.dtype_part),
                          attention::dtype_name(d.dtype_o), c["split"]);
    i.arch = target.arch;
    i.cfg = c;
    i.cfg.set("dtype_part", d.dtype_part);
    i.cfg.set("dtype_o", d.dtype_o);
    i.num_threads = k90::num_threads;
    i.min_blocks = resident_blocks;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }  // static shared memory only
  static Prepared prepare(const Desc& d, const Target&, const Config& c) {
    return Prepared::of(make_shape(d, c));
  }

  static Point point(const Args& x) { return {x.tokens, x.num_parts}; }

  static Status check_args(const Desc& d, const Args& x);
  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch);

 private:
  static Shape make_shape(const Desc& d, const Config& c) {
    const auto vectors = static_cast<uint32_t>(d.head_dim * bytes_of(d.dtype_part) / 16);
    return {vectors, k90::block_rows(vectors, static_cast<uint32_t>(c["split"]))};
  }
};

Status AttnMerge::check_args(const Desc& d, const Args& x) {
  if (x.tokens < 0 || x.tokens > d.max_tokens)
    return invalid("tokens={}: must be 0 to max_tokens={}", x.tokens, d.max_tokens);
  if (x.num_parts < 1 || x.num_parts > d.max_parts)
    return invalid("num_parts={}: must be 1 to max_parts={}", x.num_parts, d.max_parts);
  if (x.tokens * d.num_heads > INT32_MAX)
    return invalid("tokens={}: times {} heads must be less than 2^31", x.tokens, d.num_heads);
  if (x.tokens == 0) return ok();
  const int64_t multiple = 16 / bytes_of(d.dtype_part);
  DGRT_TRY(attention::check_tensor("part_o", x.part_o, x.part_o_token_stride, x.part_o_head_stride,
                                   d.head_dim, multiple));
  DGRT_TRY(attention::check_stride("part_o", "part", x.part_o_part_stride, d.head_dim, multiple));
  DGRT_TRY(attention::check_tensor("o", x.o, x.o_token_stride, x.o_head_stride, d.head_dim,
                                   16 / bytes_of(d.dtype_o)));
  DGRT_TRY(check_pointer("part_lse", x.part_lse, 4));
  for (const auto& [name, stride] : {std::pair{"part_lse_part_stride", x.part_lse_part_stride},
                                     {"part_lse_token_stride", x.part_lse_token_stride},
                                     {"part_lse_head_stride", x.part_lse_head_stride}})
    if (stride < 1) return invalid("{}={}: must be at least 1", name, stride);
  if (x.sinks != nullptr) DGRT_TRY(check_pointer("sinks", x.sinks, 4));
  return attention::check_lse(x.lse, x.lse_token_stride, x.lse_head_stride);
}

Status AttnMerge::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                       Launch* launch) {
  if (x.tokens == 0) return ok();
  const Shape& s = prepared.as<Shape>();
  const auto strides = [](int64_t part, int64_t token, int64_t head) {
    return k90::Strides{static_cast<uint64_t>(part), static_cast<uint64_t>(token),
                        static_cast<uint64_t>(head)};
  };
  auto& p = launch->make_params<k90::Params>();
  p.part_o = x.part_o, p.part_lse = x.part_lse, p.o = x.o, p.lse = x.lse, p.sinks = x.sinks;
  p.part_o_strides = strides(x.part_o_part_stride, x.part_o_token_stride, x.part_o_head_stride);
  p.part_lse_strides =
      strides(x.part_lse_part_stride, x.part_lse_token_stride, x.part_lse_head_stride);
  p.o_strides = strides(0, x.o_token_stride, x.o_head_stride);
  p.lse_strides = strides(0, x.lse_token_stride, x.lse_head_stride);
  p.num_parts = static_cast<uint32_t>(x.num_parts);
  p.num_heads = static_cast<uint32_t>(d.num_heads);
  p.num_rows = static_cast<uint32_t>(x.tokens * d.num_heads);
  p.row_vectors = s.row_vectors, p.block_rows = s.block_rows;
  p.lse_lanes = 1;
  while (p.lse_lanes < 32 && p.lse_lanes < p.num_parts) p.lse_lanes *= 2;
  p.lse_form = attention::lse_form(d.flags);
  launch->grid[0] = ceil_div(p.num_rows, s.block_rows);
  launch->num_threads = k90::num_threads;
  launch->block_m = s.block_rows;
  launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
  return ok();
}

}  // namespace

DGRT_OP(AttnMerge, attn_merge);

}  // namespace dgrt
