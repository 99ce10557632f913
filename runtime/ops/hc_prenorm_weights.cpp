// hc_prenorm_weights, host side: what is accepted, how the one call per set of weights is launched.
#include "dgrt/hyper.h"
#include "hyper/sm90_hc_prenorm.cuh"          // interface half: padded()
#include "hyper/sm90_hc_prenorm_weights.cuh"  // interface half: Params
#include "runtime/ops/gemm_common.h"          // check_pointer()
#include "runtime/ops/hyper_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::hc_prenorm_weights;

constexpr uint32_t block_k = k90::num_threads * k90::thread_columns;

struct HcPrenormWeights {
  using Desc = dgrt_hc_prenorm_weights_desc;
  using Args = dgrt_hc_prenorm_weights_args;
  static constexpr uint32_t op_id = DGRT_OP_HC_PRENORM_WEIGHTS;
  static constexpr const char* op = "hc_prenorm_weights";
  static constexpr const char* stem = "hc_prenorm_weights";

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(hyper::check_weights(d.n, d.k));
    if ((d.flags & ~uint32_t{DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT}) != 0)
      return invalid(
          "flags={:#x}: hc_prenorm_weights knows DGRT_FLAG_PDL and DGRT_FLAG_BATCH_INVARIANT",
          d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  // Every size is in the desc.
  static std::vector<SelectorVar> selector(const Desc&) { return {}; }
  static Point point(const Args&) { return {}; }

  static Config shape(const Desc& d) { return {{"n", d.n}, {"k", d.k}}; }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {{{"block_k", block_k}}};
  }

  static Status check_config(const Desc&, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: hc_prenorm_weights has kernels for sm_90a",
                   target.arch);
    const int64_t* columns = c.find("block_k");
    if (!columns) return invalid("block_k: missing");
    if (*columns != block_k) return invalid("block_k={}: must be {}", *columns, block_k);
    return ok();
  }

  static int64_t cost_ps(const Desc& d, const Target&, const Point&, const Config&) {
    return 2'850'000 + 1'200'000 + d.n * d.k * 8 * 100 / 427;  // 4.27 TB/s, H200, measured
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "hyper/sm90_hc_prenorm_weights.cuh";
    i.name_space = "dgrt::sm90::hc_prenorm_weights";
    i.entry = fmt::format("sm90_hc_prenorm_weights_{}", c["block_k"]);
    i.arch = target.arch;
    i.cfg = c;
    i.num_threads = k90::num_threads;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }
  static Prepared prepare(const Desc&, const Target&, const Config&) { return {}; }

  static Status check_args(const Desc& d, const Args& x) {
    DGRT_TRY(check_pointer("f", x.f, 16));
    DGRT_TRY(check_pointer("w", x.w, 16));
    return hyper::check_stride("ldf", x.ldf, d.k, 4);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared&, const Driver&, void*,
                     Launch* launch) {
    const auto n = static_cast<uint32_t>(d.n), k = static_cast<uint32_t>(d.k);
    const uint32_t padded_n = sm90::hc_prenorm::padded(n);
    launch->make_params<k90::Params>() = {x.f, x.w, x.ldf, n, padded_n, k};
    launch->grid[0] = ceil_div(k, block_k);
    launch->grid[1] = padded_n;
    launch->num_threads = k90::num_threads;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }
};

}  // namespace

DGRT_OP(HcPrenormWeights, hc_prenorm_weights);

}  // namespace dgrt
