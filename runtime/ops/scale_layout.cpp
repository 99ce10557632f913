// scale_layout, host side: what is accepted, how many rows a thread block turns, how a call is
// launched.
#include <algorithm>

#include "dgrt/gemm.h"
#include "gemm/sm90_scale_layout.cuh"  // interface half: Params
#include "runtime/ops/gemm_common.h"   // check_pointer()
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::scale_layout;

constexpr int64_t max_size = INT32_MAX;

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
    if (d.k_blocks < 1 || d.k_blocks > max_size)
      return invalid("k_blocks={}: must be 1 to {}", d.k_blocks, max_size);
    if (d.max_m < 0 || d.max_m > max_size)
      return invalid("max_m={}: must be 0 to {}", d.max_m, max_size);
    if ((d.flags & ~uint32_t{DGRT_FLAG_PDL}) != 0)
      return invalid("flags={:#x}: scale_layout knows DGRT_FLAG_PDL only", d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    SelectorVar m{"m", d.max_m, {}};
    for (int64_t rows = 32; rows < max_size; rows *= 2) m.breaks.push_back(rows);
    m.breaks.push_back(max_size);
    return {m};
  }

  static Config shape(const Desc& d) { return {{"k_blocks", d.k_blocks}}; }

  static std::vector<Config> candidates(const Desc&, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    return {{{"block_m", 32}}, {{"block_m", 64}}, {{"block_m", 128}}};
  }

  static Status check_config(const Desc&, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: scale_layout has kernels for sm_90a", target.arch);
    const int64_t* block_m = c.find("block_m");
    if (!block_m) return invalid("block_m: missing");
    if (*block_m != 32 && *block_m != 64 && *block_m != 128)
      return invalid("block_m={}: must be 32, 64 or 128", *block_m);
    return ok();
  }

  // Memory, or rounds of blocks if they are too few to keep it busy; plus the launch.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const int64_t m = std::max<int64_t>(point[0], 1), block_m = c["block_m"];
    const int64_t blocks = div_up(m, block_m) * div_up(d.k_blocks, k90::tile_k);
    const int64_t memory_ps = m * d.k_blocks * 8 * 100 / 427;  // 4.27 TB/s, H200, measured
    // One round trip to memory and back per block, 8 blocks at once on an SM; longer tiles take
    // longer.
    const int64_t rounds_ps =
        div_up(blocks, int64_t{target.sm_count} * 8) * (1'200'000 + block_m * 3000);
    return 2'850'000 + std::max(memory_ps, rounds_ps);
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "gemm/sm90_scale_layout.cuh";
    i.name_space = "dgrt::sm90::scale_layout";
    i.entry = fmt::format("sm90_scale_layout_{}x{}", c["block_m"], k90::tile_k);
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
    if (x.m < 0 || x.m > d.max_m) return invalid("m={}: must be 0 to max_m={}", x.m, d.max_m);
    if (x.ld_src < d.k_blocks)
      return invalid("ld_src={}: must be at least k_blocks={}", x.ld_src, d.k_blocks);
    if (x.ld_dst < div_up(x.m, 4) * 4 || x.ld_dst % 4 != 0)
      return invalid("ld_dst={}: must be at least m={} rounded up to 4, and a multiple of 4",
                     x.ld_dst, x.m);
    if (x.m == 0) return ok();
    DGRT_TRY(gemm::check_pointer("src", x.src, 4));
    return gemm::check_pointer("dst", x.dst, 16);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    const uint32_t block_m = prepared.as<Shape>().block_m;
    const uint32_t m = static_cast<uint32_t>(x.m), k_blocks = static_cast<uint32_t>(d.k_blocks);
    launch->make_params<k90::Params>() = {x.src, x.dst, x.ld_src, x.ld_dst, m, k_blocks};
    launch->grid[0] = m == 0 ? 0 : ceil_div(k_blocks, k90::tile_k);
    launch->grid[1] = std::min(ceil_div(m, block_m), k90::max_grid_y);
    launch->num_threads = k90::num_threads;
    launch->block_m = block_m;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }

 private:
  static int64_t div_up(int64_t x, int64_t y) { return (x + y - 1) / y; }
};

}  // namespace

DGRT_OP(ScaleLayout, scale_layout);

}  // namespace dgrt
