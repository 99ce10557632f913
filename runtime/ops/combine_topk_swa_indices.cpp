// combine_topk_swa_indices, host side: what is accepted, how one call is launched.
#include <algorithm>

#include "dgrt/mla.h"
#include "mla/sm90_combine_topk_swa_indices.cuh"  // interface half: Params
#include "runtime/ops/op.h"
#include "runtime/ops/sparse_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::combine_topk_swa_indices;

constexpr int64_t vectors = 4;  // that a lane works on at once

struct CombineTopkSwaIndices {
  using Desc = dgrt_combine_topk_swa_indices_desc;
  using Args = dgrt_combine_topk_swa_indices_args;
  static constexpr uint32_t op_id = DGRT_OP_COMBINE_TOPK_SWA_INDICES;
  static constexpr const char* op = "combine_topk_swa_indices";
  static constexpr const char* stem = "combine_topk_swa_indices";

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(sparse::check_range("window", d.window, 1, sparse::max_tokens));
    DGRT_TRY(sparse::check_range("ratio", d.ratio, 1, sparse::max_tokens));
    DGRT_TRY(sparse::check_count("max_tokens", d.max_tokens, sparse::max_tokens));
    return sparse::check_flags(op, d);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {sparse::powers("tokens", d.max_tokens, 64, sparse::max_tokens)};
  }

  static Config shape(const Desc& d) { return {{"window", d.window}, {"ratio", d.ratio}}; }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    return sparse::only(target, "vectors", vectors);
  }
  static Status check_config(const Desc&, const Target& target, const Config& c) {
    return sparse::check_only(op, target, c, "vectors", vectors);
  }

  static int64_t cost_ps(const Desc&, const Target&, const Point& point, const Config&) {
    return 4'000'000 + point[0] * 640 * 8 * 100 / 427;  // rows of 640; 4.27 TB/s, H200, measured
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_combine_topk_swa_indices.cuh";
    i.name_space = "dgrt::sm90::combine_topk_swa_indices";
    i.entry = "sm90_combine_topk_swa_indices";
    i.arch = target.arch;
    i.cfg = c;
    i.num_threads = k90::num_threads;
    i.min_blocks = sparse::resident_blocks;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }
  static Prepared prepare(const Desc&, const Target&, const Config&) { return {}; }

  static Point point(const Args& x) { return {x.tokens}; }

  static Status check_args(const Desc& d, const Args& x) {
    DGRT_TRY(sparse::check_within("tokens", x.tokens, "max_tokens", d.max_tokens));
    DGRT_TRY(sparse::check_range("batch", x.batch, 0, sparse::max_tokens));
    if (x.tokens == 0) return ok();
    DGRT_TRY(sparse::check_range("top_k", x.top_k, 0, sparse::max_tokens));
    if (x.width < x.top_k + d.window || x.width > sparse::max_tokens || x.width % 4 != 0)
      return invalid("width={}: must be a multiple of 4 from top_k + window = {} + {} to {}", x.width, x.top_k,
                     d.window, sparse::max_tokens);
    if (x.topk_indices != nullptr) {
      DGRT_TRY(check_pointer("topk_indices", x.topk_indices, 16));
      DGRT_TRY(sparse::check_stride("topk_row_stride", x.topk_row_stride, x.top_k, 4));
    }
    DGRT_TRY(check_pointer("indices", x.indices, 16));
    DGRT_TRY(sparse::check_stride("indices_row_stride", x.indices_row_stride, x.width, 4));
    DGRT_TRY(check_pointer("lengths", x.lengths, 4));
    if (x.query_pos != nullptr) DGRT_TRY(check_pointer("query_pos", x.query_pos, 4));
    if (x.batch == 0) return ok();
    for (const auto& [name, pointer] : {std::pair{"query_start_loc", x.query_start_loc},
                                        {"seq_lens", x.seq_lens},
                                        {"gather_lens", x.gather_lens},
                                        {"compressed_base", x.compressed_base},
                                        {"swa_base", x.swa_base}})
      DGRT_TRY(check_pointer(name, pointer, 4));
    return ok();
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared&, const Driver&, void*, Launch* launch) {
    if (x.tokens == 0) return ok();
    auto& p = launch->make_params<k90::Params>();
    p.topk_indices = x.topk_indices, p.query_start_loc = x.query_start_loc, p.seq_lens = x.seq_lens;
    p.gather_lens = x.gather_lens, p.compressed_base = x.compressed_base, p.swa_base = x.swa_base;
    p.query_pos = x.query_pos, p.indices = x.indices, p.lengths = x.lengths;
    p.topk_row = static_cast<uint64_t>(x.topk_row_stride);
    p.index_row = static_cast<uint64_t>(x.indices_row_stride);
    p.num_tokens = static_cast<uint32_t>(x.tokens), p.batch = static_cast<uint32_t>(x.batch);
    p.window = static_cast<uint32_t>(d.window), p.ratio = static_cast<uint32_t>(d.ratio);
    p.top_k = static_cast<uint32_t>(x.top_k), p.width = static_cast<uint32_t>(x.width);
    launch->grid[0] = ceil_div(p.num_tokens, k90::block_tokens);
    launch->num_threads = k90::num_threads;
    launch->block_m = k90::block_tokens;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }
};

}  // namespace

DGRT_OP(CombineTopkSwaIndices, combine_topk_swa_indices);

}  // namespace dgrt
