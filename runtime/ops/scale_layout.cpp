// scale_layout, host side: what is accepted, how many rows a thread block turns, how a call is
// launched.
#include "dgrt/gemm.h"
#include "gemm/sm90_scale_layout.cuh"  // interface half: Params
#include "runtime/ops/op.h"
#include "runtime/ops/scale_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::scale_layout;

static_assert(k90::tile_k == scale::tile_k);

struct ScaleLayout {
  using Desc = dgrt_scale_layout_desc;
  using Args = dgrt_scale_layout_args;
  static constexpr uint32_t op_id = DGRT_OP_SCALE_LAYOUT;
  static constexpr const char* op = "scale_layout";
  static constexpr const char* stem = "scale_layout";

  struct Shape {
    uint32_t block_m;
  };

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(scale::check_sizes(d));
    if ((d.flags & ~uint32_t{DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT}) != 0)
      return invalid("flags={:#x}: scale_layout knows PDL and BATCH_INVARIANT only", d.flags);
    return ok();
  }

  static std::vector<SelectorVar> selector(const Desc& d) { return {scale::selector_m(d.max_m)}; }

  static Config shape(const Desc& d) {
    return {{"k_blocks", d.k_blocks}, {"num_groups", scale::group_count(d.num_groups)}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    std::vector<Config> configs;
    if (target.arch != "sm_90a") return configs;
    for (const int64_t rows : scale::tile_rows)
      configs.push_back({{"block_m", rows}, {"mn_major", is_mn_major(d)}});
    return configs;
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    DGRT_TRY(scale::check_tile(op, target, c));
    return scale::check_fixed(c, "mn_major", is_mn_major(d));
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    return scale::cost_ps(target, point[0], d.k_blocks, scale::group_count(d.num_groups),
                          2 * sizeof(float), c["block_m"]);
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "gemm/sm90_scale_layout.cuh";
    i.name_space = "dgrt::sm90::scale_layout";
    i.entry = fmt::format("sm90_scale_layout_{}x{}{}", c["block_m"], k90::tile_k,
                          c["mn_major"] ? "_mn" : "");
    i.arch = target.arch;
    i.cfg = c;
    i.num_threads = k90::num_threads;
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }  // static shared memory only
  static Prepared prepare(const Desc&, const Target&, const Config& c) {
    return Prepared::of(Shape{static_cast<uint32_t>(c["block_m"])});
  }

  static Point point(const Args& x) { return {x.m}; }

  static Status check_args(const Desc& d, const Args& x) {
    return scale::check_operands(d, x, d.k_blocks, d.k_blocks, scale::group_count(d.num_groups));
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    k90::Params& p = launch->make_params<k90::Params>();
    p.src = x.src;
    p.dst = x.dst;
    p.ld_src = x.ld_src;
    p.ld_dst = x.ld_dst;
    p.group_stride_src = x.group_stride_src;
    p.group_stride_dst = x.group_stride_dst;
    p.m = static_cast<uint32_t>(x.m);
    p.k_blocks = static_cast<uint32_t>(d.k_blocks);
    scale::set_grid(d.k_blocks, x.m, scale::group_count(d.num_groups), prepared.as<Shape>().block_m,
                    k90::num_threads, d.flags, launch);
    return ok();
  }

 private:
  static int64_t is_mn_major(const Desc& d) { return d.src_major == DGRT_MN_MAJOR; }
};

}  // namespace

DGRT_OP(ScaleLayout, scale_layout);

}  // namespace dgrt
