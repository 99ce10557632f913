// build_swa_token_ids, host side: what is accepted, how one call is launched.
#include <algorithm>

#include "dgrt/mla.h"
#include "mla/sm90_build_swa_token_ids.cuh"  // interface half: Params
#include "runtime/ops/op.h"
#include "runtime/ops/sparse_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::build_swa_token_ids;

struct BuildSwaTokenIds {
  using Desc = dgrt_build_swa_token_ids_desc;
  using Args = dgrt_build_swa_token_ids_args;
  static constexpr uint32_t op_id = DGRT_OP_BUILD_SWA_TOKEN_IDS;
  static constexpr const char* op = "build_swa_token_ids";
  static constexpr const char* stem = "build_swa_token_ids";

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(sparse::check_range("window", d.window, 1, sparse::max_tokens));
    DGRT_TRY(sparse::check_count("max_batch", d.max_batch, sparse::max_tokens));
    DGRT_TRY(sparse::check_count("max_capacity", d.max_capacity, sparse::max_tokens));
    return sparse::check_flags(op, d);
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    return {sparse::powers("capacity", d.max_capacity, 1024, sparse::max_tokens)};
  }

  static Config shape(const Desc& d) { return {{"window", d.window}}; }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    return sparse::only(target, "threads", k90::num_threads);
  }
  static Status check_config(const Desc&, const Target& target, const Config& c) {
    return sparse::check_only(op, target, c, "threads", k90::num_threads);
  }

  static int64_t cost_ps(const Desc&, const Target&, const Point& point, const Config&) {
    return 6'000'000 + point[0] * 16 * 100 / 427;  // 4.27 TB/s, H200, measured
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "mla/sm90_build_swa_token_ids.cuh";
    i.name_space = "dgrt::sm90::build_swa_token_ids";
    i.entry = "sm90_build_swa_token_ids";
    i.arch = target.arch;
    i.cfg = c;
    i.num_threads = k90::num_threads;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }  // static shared memory only
  static Prepared prepare(const Desc&, const Target&, const Config&) { return {}; }

  static Point point(const Args& x) { return {x.capacity}; }

  static Status check_args(const Desc& d, const Args& x) {
    DGRT_TRY(sparse::check_within("batch", x.batch, "max_batch", d.max_batch));
    DGRT_TRY(sparse::check_within("capacity", x.capacity, "max_capacity", d.max_capacity));
    DGRT_TRY(check_pointer("offsets", x.offsets, 4));
    if (x.capacity > 0) DGRT_TRY(check_pointer("token_ids", x.token_ids, 4));
    if (x.batch == 0) return ok();
    for (const auto& [name, pointer] : {std::pair{"seq_lens", x.seq_lens},
                                        {"extend_lens", x.extend_lens},
                                        {"request_rows", x.request_rows},
                                        {"req_to_token", x.req_to_token}})
      DGRT_TRY(check_pointer(name, pointer, 4));
    DGRT_TRY(check_pointer("full_to_swa", x.full_to_swa, 8));
    DGRT_TRY(check_pointer("first", x.first, 4));
    DGRT_TRY(check_pointer("gather_lens", x.gather_lens, 4));
    DGRT_TRY(sparse::check_range("num_request_rows", x.num_request_rows, 0, sparse::max_tokens));
    DGRT_TRY(sparse::check_range("max_tokens", x.max_tokens, 0, sparse::max_tokens));
    DGRT_TRY(sparse::check_range("num_full", x.num_full, 0, sparse::max_tokens));
    return sparse::check_stride("req_to_token_row_stride", x.req_to_token_row_stride, x.max_tokens);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared&, const Driver&, void*, Launch* launch) {
    auto& p = launch->make_params<k90::Params>();
    p.seq_lens = x.seq_lens, p.extend_lens = x.extend_lens, p.request_rows = x.request_rows;
    p.req_to_token = x.req_to_token, p.full_to_swa = x.full_to_swa;
    p.token_ids = x.token_ids, p.first = x.first, p.gather_lens = x.gather_lens, p.offsets = x.offsets;
    p.req_to_token_row = static_cast<uint64_t>(x.req_to_token_row_stride);
    p.batch = static_cast<uint32_t>(x.batch), p.window = static_cast<uint32_t>(d.window);
    p.capacity = static_cast<uint32_t>(x.capacity);
    p.num_request_rows = static_cast<uint32_t>(x.num_request_rows);
    p.max_tokens = static_cast<uint32_t>(x.max_tokens), p.num_full = static_cast<uint32_t>(x.num_full);
    launch->grid[0] = std::max(ceil_div(p.capacity, k90::num_threads), 1u);  // one writes the sums
    launch->num_threads = k90::num_threads;
    launch->block_m = k90::num_threads;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }
};

}  // namespace

DGRT_OP(BuildSwaTokenIds, build_swa_token_ids);

}  // namespace dgrt
