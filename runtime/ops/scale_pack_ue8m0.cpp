// scale_pack_ue8m0, host side: what is accepted, how many rows a thread block packs, how a call is
// launched.
#include "dgrt/gemm.h"
#include "gemm/sm90_scale_pack_ue8m0.cuh"  // interface half: Params, max_group_words()
#include "runtime/ops/op.h"
#include "runtime/ops/scale_common.h"

namespace dgrt {
namespace {

namespace k90 = sm90::scale_pack_ue8m0;

static_assert(k90::tile_k == scale::tile_k);

struct ScalePackUe8m0 {
  using Desc = dgrt_scale_pack_ue8m0_desc;
  using Args = dgrt_scale_pack_ue8m0_args;
  static constexpr uint32_t op_id = DGRT_OP_SCALE_PACK_UE8M0;
  static constexpr const char* op = "scale_pack_ue8m0";
  static constexpr const char* stem = "scale_pack_ue8m0";

  struct Shape {
    uint32_t block_m;
  };

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(scale::check_sizes(d));
    constexpr uint32_t known = DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT | DGRT_SCALE_CEIL |
                               DGRT_SCALE_K_GROUPED;
    if ((d.flags & ~known) != 0)
      return invalid(
          "flags={:#x}: scale_pack_ue8m0 knows PDL, BATCH_INVARIANT, SCALE_CEIL and "
          "SCALE_K_GROUPED",
          d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    if (!is_k_grouped(d)) {
      if (d.gran_k != 0) return invalid("gran_k={}: must be 0 without K_GROUPED", d.gran_k);
      return ok();
    }
    if (d.gran_k != 32 && d.gran_k != 128) return invalid("gran_k={}: must be 32 or 128", d.gran_k);
    if (d.src_major != DGRT_MN_MAJOR)
      return invalid("src_major={}: must be DGRT_MN_MAJOR with K_GROUPED", d.src_major);
    if (d.num_groups > k90::max_k_groups)
      return invalid("num_groups={}: must be at most {} with K_GROUPED", d.num_groups,
                     k90::max_k_groups);
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
      configs.push_back(
          {{"block_m", rows}, {"mn_major", is_mn_major(d)}, {"k_grouped", is_k_grouped(d)}});
    return configs;
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    DGRT_TRY(scale::check_tile(op, target, c));
    DGRT_TRY(scale::check_fixed(c, "mn_major", is_mn_major(d)));
    return scale::check_fixed(c, "k_grouped", is_k_grouped(d));
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    return scale::cost_ps(target, point[0], d.k_blocks, num_z(d), sizeof(float) + 1, c["block_m"]);
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "gemm/sm90_scale_pack_ue8m0.cuh";
    i.name_space = "dgrt::sm90::scale_pack_ue8m0";
    i.entry = fmt::format("sm90_scale_pack_ue8m0_{}x{}{}", c["block_m"], k90::tile_k,
                          c["k_grouped"]  ? "_kg"
                          : c["mn_major"] ? "_mn"
                                          : "");
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
    DGRT_TRY(
        scale::check_operands(d, x, d.k_blocks, div_up(d.k_blocks, k90::word_k), num_z(d)));
    if (!is_k_grouped(d)) {
      if (x.ks != nullptr)
        return invalid("ks={}: must be NULL without K_GROUPED", static_cast<const void*>(x.ks));
      if (x.k_blocks != 0) return invalid("k_blocks={}: must be 0 without K_GROUPED", x.k_blocks);
      return ok();
    }
    if (x.k_blocks < 0 || x.k_blocks > d.k_blocks)
      return invalid("k_blocks={}: must be 0 to the desc's {}", x.k_blocks, d.k_blocks);
    return x.m == 0 || x.k_blocks == 0 ? ok() : check_pointer("ks", x.ks, 4);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    const uint32_t groups = static_cast<uint32_t>(scale::group_count(d.num_groups));
    k90::Params& p = launch->make_params<k90::Params>();
    p.src = x.src;
    p.dst = reinterpret_cast<uint32_t*>(x.dst);
    p.ks = x.ks;
    p.ld_src = x.ld_src;
    p.ld_dst = x.ld_dst;
    p.group_stride_src = x.group_stride_src;
    p.group_stride_dst = x.group_stride_dst;
    p.m = static_cast<uint32_t>(x.m);
    p.k_blocks = static_cast<uint32_t>(is_k_grouped(d) ? x.k_blocks : d.k_blocks);
    p.num_groups = groups;
    p.gran_k = d.gran_k;
    p.round_up = (d.flags & DGRT_SCALE_CEIL) != 0;
    const int64_t columns = is_k_grouped(d)
                                ? int64_t{k90::max_group_words(p.k_blocks, groups)} * k90::word_k
                                : int64_t{p.k_blocks};
    scale::set_grid(columns, x.m, num_z(d), prepared.as<Shape>().block_m, k90::num_threads, d.flags,
                    launch);
    return ok();
  }

 private:
  static int64_t is_mn_major(const Desc& d) { return d.src_major == DGRT_MN_MAJOR; }
  static int64_t is_k_grouped(const Desc& d) { return (d.flags & DGRT_SCALE_K_GROUPED) != 0; }
  // Groups that lie group strides apart.
  static int64_t num_z(const Desc& d) {
    return is_k_grouped(d) ? 1 : scale::group_count(d.num_groups);
  }
};

}  // namespace

DGRT_OP(ScalePackUe8m0, scale_pack_ue8m0);

}  // namespace dgrt
