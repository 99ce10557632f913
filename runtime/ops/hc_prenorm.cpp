// hc_prenorm, host side: what is accepted, which tiles are legal, how k is shared out, how one call
// is launched.
#include <algorithm>

#include "dgrt/hyper.h"
#include "hyper/sm90_hc_prenorm.cuh"  // interface half: Params, smem_bytes()
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/arg_rules.h"
#include "runtime/ops/hyper_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::hc_prenorm;

using hyper::max_size;

constexpr int64_t max_splits = 65535;
constexpr uint64_t alignment = 256;  // of what lies in the workspace
constexpr int64_t min_stages = 4;
constexpr int64_t max_register_rows = 1024;
constexpr uint32_t invariant_parts = 8;  // of k, whatever m is
constexpr int64_t tile_warps = k90::tile_warpgroups * 4;
// CTAs that add up the parts of row tiles: of one tile, in all, and the bytes that each should read.
constexpr int64_t most_adders = 8, adders_at_once = 24;
constexpr int64_t adder_bytes = 16 * 1024;

constexpr int64_t least_register_warps = 4, most_register_warps = 12;  // of a CTA

// Warps on one SM whose registers hold rows and weights of a k block each.
constexpr int64_t register_warps_per_sm(int64_t block_m) { return block_m == 16 ? 16 : 12; }

// A decoded config, with what the target adds.
struct Shape {
  uint32_t block_m, stages, blocks_per_sm, warps;
  uint32_t n, sm_count;
  bool invariant;

  static Shape of(const dgrt_hc_prenorm_desc& d, const Target& target, const Config& c) {
    const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
    return {get("block_m"),
            get("stages"),
            get("blocks_per_sm"),
            get("warps"),
            static_cast<uint32_t>(d.n),
            target.sm_count,
            (d.flags & DGRT_FLAG_BATCH_INVARIANT) != 0};
  }

  bool in_registers() const { return k90::in_registers(block_m); }
  uint32_t max_ctas() const { return sm_count * blocks_per_sm; }  // that run at once

  // How the k of one row tile is shared out.
  struct Split {
    uint32_t groups, adders;  // CTAs that multiply; that add up what the others send
  };
  // As many as run at once, but no more than needed for the fewest k blocks per warp that loads them.
  Split split(int64_t m, int64_t k) const {
    const int64_t blocks = k / k90::block_k, tiles = div_up(m, block_m);
    if (invariant) return {tiles <= sm_count ? invariant_parts : 1, 0};
    const int64_t useful = div_up(blocks, in_registers() ? int64_t{warps} : 1);
    const int64_t at_once = max_ctas() / tiles;
    const int64_t adders = in_registers() ? num_adders(m, tiles, std::min(at_once, useful)) : 0;
    const int64_t most = std::clamp<int64_t>(at_once - adders, 1, useful);
    const auto groups = static_cast<uint32_t>(div_up(blocks, div_up(blocks, most)));
    return {groups, groups > 1 ? static_cast<uint32_t>(adders) : 0};
  }

  static uint64_t counter_bytes(uint32_t sm_count) {
    return align(uint64_t{sm_count} * 2 * sizeof(uint32_t));
  }
  // Counters of the tiles that several CTAs share, at most one per running CTA; and what is sent to adders.
  static uint64_t state_bytes(const dgrt_hc_prenorm_desc& d, uint32_t sm_count) {
    if ((d.flags & DGRT_FLAG_BATCH_INVARIANT) != 0) return counter_bytes(sm_count);
    uint64_t floats = 0;
    for (const int64_t rows : {16, 32}) {
      const auto ctas =
          static_cast<uint64_t>(sm_count * register_warps_per_sm(rows) / least_register_warps);
      floats = std::max<uint64_t>(
          floats, ctas * k90::part_floats(static_cast<uint32_t>(rows), static_cast<uint32_t>(d.n)));
    }
    return counter_bytes(sm_count) + align(floats * sizeof(float));
  }
  // The parts that are added up by the last CTA. Neither m nor k matters: no more than max_ctas() CTAs
  // share k, or every tile's invariant parts.
  uint64_t parts_bytes() const {
    if (in_registers()) return 0;
    const uint64_t ctas = invariant ? sm_count * invariant_parts : max_ctas();
    return align(ctas * k90::part_floats(block_m, n) * sizeof(float));
  }
  static uint64_t align(uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

 private:
  // Of a tile: a thread for every four floats of a part at least.
  int64_t num_adders(int64_t m, int64_t tiles, int64_t parts) const {
    const int64_t fours = k90::part_floats(block_m, n) / 4;
    const int64_t bytes = parts * std::min<int64_t>(m, block_m) * (n + 1) * 4;
    const int64_t most = std::min(most_adders, adders_at_once / tiles);
    return std::max(div_up(fours, warps * 32), std::min(div_up(bytes, adder_bytes), most));
  }
};

struct HcPrenorm {
  using Desc = dgrt_hc_prenorm_desc;
  using Args = dgrt_hc_prenorm_args;
  static constexpr uint32_t op_id = DGRT_OP_HC_PRENORM;
  static constexpr const char* op = "hc_prenorm";
  static constexpr const char* stem = "hc_prenorm";

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    DGRT_TRY(hyper::check_weights(d.n, d.k));
    if (d.max_m < 0 || d.max_m > max_size)
      return invalid("max_m={}: must be 0 to {}", d.max_m, max_size);
    if (d.max_splits < 0 || d.max_splits > max_splits)
      return invalid("max_splits={}: must be 0 to {}", d.max_splits, max_splits);
    if ((d.flags & ~uint32_t{DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT}) != 0)
      return invalid("flags={:#x}: hc_prenorm knows DGRT_FLAG_PDL and DGRT_FLAG_BATCH_INVARIANT",
                     d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  // Where the number of row tiles changes for few rows; then eighths of powers of two, then powers. A
  // caller's split says how many CTAs a tile has, and that nobody adds them up: other tiles are fastest.
  static std::vector<SelectorVar> selector(const Desc& d) {
    SelectorVar m{"m", d.max_m, {16, 32, 48, 64, 96, 128, 192, 256, 384, 512}};
    for (int64_t power = 512; power < 16384; power *= 2)
      for (int64_t eighth = 5; eighth <= 8; ++eighth) m.breaks.push_back(power * eighth / 4);
    for (int64_t power = 32768; power <= 131072; power *= 2) m.breaks.push_back(power);
    m.breaks.push_back(max_size);
    return {m, {"num_splits", d.max_splits, {0, 4, 16, 48, 128, max_splits}}};
  }

  static Config shape(const Desc& d) {
    return {{"n", d.n}, {"k", d.k}, {"batch_invariant", is_invariant(d)}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point& point) {
    if (target.arch != "sm_90a") return {};
    std::vector<Config> found;
    const auto add = [&](int64_t block_m, int64_t blocks_per_sm, int64_t warps) {
      const Config c = {{"block_m", block_m},
                        {"stages", fitting_stages(d, block_m, blocks_per_sm)},
                        {"blocks_per_sm", blocks_per_sm},
                        {"warps", warps}};
      if (check_config(d, target, c).is_ok()) found.push_back(c);
    };
    if (point[0] <= max_register_rows)
      for (const int64_t block_m : {16, 32})
        for (const int64_t warps : {least_register_warps, most_register_warps})
          add(block_m, register_warps_per_sm(block_m) / warps, warps);
    for (const int64_t blocks_per_sm : {1, 2}) add(64, blocks_per_sm, tile_warps);
    return found;
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: hc_prenorm has kernels for sm_90a", target.arch);
    for (const char* name : {"block_m", "stages", "blocks_per_sm", "warps"}) {
      const int64_t* value = c.find(name);
      if (!value) return invalid("{}: missing", name);
      if (*value < 0 || *value > 128) return invalid("{}={}: must be 0 to 128", name, *value);
    }
    const int64_t block_m = c["block_m"];
    const bool in_registers = block_m == 16 || block_m == 32;
    if (!in_registers && block_m != 64) return invalid("block_m={}: must be 16, 32 or 64", block_m);
    if (block_m == 32 && d.n > 24)
      return invalid("block_m=32: registers hold no more than 24 columns, n={}", d.n);
    if (is_invariant(d) && block_m != 64)
      return invalid("block_m={}: must be 64 with BATCH_INVARIANT, whatever m is", block_m);
    const int64_t warps = c["warps"];
    if (in_registers ? warps != least_register_warps && warps != most_register_warps
                     : warps != tile_warps)
      return invalid("warps={}: must be {}, or 4 or 12 where registers hold the tile", warps,
                     tile_warps);
    const int64_t most_blocks = in_registers ? register_warps_per_sm(block_m) / warps : 2;
    if (c["blocks_per_sm"] < 1 || c["blocks_per_sm"] > most_blocks)
      return invalid("blocks_per_sm={}: must be 1 to {} with warps={}", c["blocks_per_sm"],
                     most_blocks, warps);
    if (in_registers ? c["stages"] != 0 : c["stages"] < min_stages)
      return invalid("stages={}: must be at least {}, 0 where registers hold the tile", c["stages"],
                     min_stages);
    const int64_t bytes = smem_bytes(d, c) * c["blocks_per_sm"];
    if (bytes > sm90_max_smem_bytes)
      return invalid("stages={}: {} bytes of shared memory per SM, {} are there", c["stages"],
                     bytes, sm90_max_smem_bytes);
    return ok();
  }

  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c);

  static Instance instance(const Desc& d, const Target& target, const Config& c) {
    Instance i;
    i.stem = stem;
    i.header = "hyper/sm90_hc_prenorm.cuh";
    i.name_space = "dgrt::sm90::hc_prenorm";
    i.entry = fmt::format("sm90_hc_prenorm_{}x{}", c["block_m"], d.n);
    if (c["stages"] > 0)
      i.entry += fmt::format("_s{}", c["stages"]);
    else
      i.entry += fmt::format("_w{}", c["warps"]);
    if (c["blocks_per_sm"] > 1) i.entry += fmt::format("_b{}", c["blocks_per_sm"]);
    i.arch = target.arch;
    i.cfg = {{"block_m", c["block_m"]}, {"n", d.n}, {"stages", c["stages"]}, {"warps", c["warps"]}};
    i.num_threads =
        k90::num_threads(static_cast<uint32_t>(c["block_m"]), static_cast<uint32_t>(c["warps"]));
    i.min_blocks = static_cast<uint32_t>(c["blocks_per_sm"]);
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc& d, const Config& c) {
    return k90::smem_bytes(static_cast<uint32_t>(c["block_m"]), static_cast<uint32_t>(d.n),
                           static_cast<uint32_t>(c["stages"]), static_cast<uint32_t>(c["warps"]));
  }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    return Prepared::of(Shape::of(d, target, c));
  }

  static Point point(const Args& x) { return {x.m, x.num_splits}; }

  static Status check_args(const Desc& d, const Args& x) {
    if (x.m < 0 || x.m > d.max_m) return invalid("m={}: must be 0 to max_m={}", x.m, d.max_m);
    if (x.num_splits < 0 || x.num_splits > d.max_splits)
      return invalid("num_splits={}: must be 0 to max_splits={}", x.num_splits, d.max_splits);
    if (x.m == 0) return ok();
    DGRT_TRY(check_pointer("x", x.x, 16));
    DGRT_TRY(check_pointer("w", x.w, 16));
    DGRT_TRY(check_pointer("z", x.z, 16));
    DGRT_TRY(check_pointer("q", x.q, 4));
    DGRT_TRY(hyper::check_stride("ldx", x.ldx, d.k, 2));
    DGRT_TRY(hyper::check_stride("ldz", x.ldz, d.n, 4));
    if (x.num_splits <= 1) return ok();
    if (x.z_split_stride / x.m < x.ldz || x.z_split_stride % 4 != 0)
      return invalid("z_split_stride={}: must be at least m * ldz = {} * {}, and a multiple of 4",
                     x.z_split_stride, x.m, x.ldz);
    if (x.q_split_stride < x.m)
      return invalid("q_split_stride={}: must be at least m={}", x.q_split_stride, x.m);
    if (div_up(x.m, 64) * x.num_splits > max_size)
      return invalid("m={} num_splits={}: the product may be at most 64 * {}", x.m, x.num_splits,
                     max_size);
    return ok();
  }

  static uint64_t workspace_bytes(const Desc& d, const Prepared& prepared, const Point& point) {
    if (point[0] == 0 || point[1] != 0) return 0;
    const Shape& s = prepared.as<Shape>();
    return Shape::state_bytes(d, s.sm_count) + s.parts_bytes();
  }
  static uint64_t state_bytes(const Desc& d, const Target& target) {
    return Shape::state_bytes(d, target.sm_count);
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static bool is_invariant(const Desc& d) { return (d.flags & DGRT_FLAG_BATCH_INVARIANT) != 0; }

  // As many as fit.
  static int64_t fitting_stages(const Desc& d, int64_t block_m, int64_t blocks_per_sm) {
    if (k90::in_registers(static_cast<uint32_t>(block_m))) return 0;
    const auto rows = static_cast<uint32_t>(block_m), n = static_cast<uint32_t>(d.n);
    uint32_t stages = 1;
    while (k90::smem_bytes(rows, n, stages + 1, tile_warps) * blocks_per_sm <= sm90_max_smem_bytes)
      ++stages;
    return stages;
  }
  static void set_split(const Desc& d, const Args& x, const Shape& s, void* workspace,
                        k90::Params* p);
  static Status set_inputs(const Desc& d, const Args& x, const Shape& s, const Driver& driver,
                           k90::Params* p);
};

// The launch; the largest of: device memory, L2 (which sends w once per tile), what one SM pulls and
// multiplies in its rounds, and a part of the others; then the sum of a tile's parts, where SMs read them.
// NVIDIA H100, CUDA 13.0. Tiles in shared memory: fitted to 42 calls of n = 24 (14 m from 1 to 8192; k = 7168,
// 7680, 28672), 2026-11-26. Tiles in registers: to 20 calls (m 1 to 512; n = 4, 24; k = 16384, 20480, 28672),
// 2026-11-27: there picks are 0.7 % behind the fastest config in the mean, 6.0 % at worst.
int64_t HcPrenorm::cost_ps(const Desc& d, const Target& target, const Point& point,
                           const Config& c) {
  const Shape s = Shape::of(d, target, c);
  const int64_t m = std::clamp<int64_t>(point[0], 1, 1 << 22);  // so that products fit
  const int64_t blocks = d.k / k90::block_k;
  const int64_t splits = point[1], tiles = div_up(m, s.block_m);
  const Shape::Split split = s.split(m, d.k);
  const int64_t groups = splits > 0 ? splits : split.groups;
  const int64_t rounds = div_up(tiles * groups, s.max_ctas());
  const int64_t per_cta = div_up(blocks, groups);
  const int64_t w_rows = 2 * k90::padded(static_cast<uint32_t>(d.n));
  const int64_t memory_ps = (m + w_rows) * d.k * 2 * 100 / 310;      // 3.1 TB/s
  const int64_t l2_ps = (m + tiles * w_rows) * d.k * 2 * 100 / 600;  // 6 TB/s
  int64_t cta_ps = 0;
  if (s.in_registers()) {
    // Each warp waits for its blocks, one after the other; the SM multiplies those of all, and squares rows.
    const int64_t ctas = std::clamp<int64_t>(div_up(tiles * groups, s.sm_count), 1, s.blocks_per_sm);
    const int64_t slab_ps = 24'400 + w_rows / 8 * 6'850;  // 16 rows
    cta_ps = 2'610'000 + div_up(per_cta, s.warps) * 404'000 + per_cta * ctas * s.block_m / 16 * slab_ps;
  } else {
    // Rows past m cost no memory, but fill their slots all the same. 44 GB/s into one SM.
    const int64_t tile_bytes = (s.block_m + w_rows) * k90::row_bytes;
    cta_ps = 2'530'000 + per_cta * tile_bytes * 23 * s.blocks_per_sm;
  }
  const int64_t part_bytes = std::min<int64_t>(m, s.block_m) * (d.n + 1) * 4;
  const bool meets = splits == 0 && groups > 1;
  int64_t meet_ps = 0;
  if (meets && s.in_registers())
    meet_ps = groups * part_bytes / split.adders * 43;  // 23 GB/s into an adder
  else if (meets)
    meet_ps = 2'240'000 + groups * part_bytes * 10;  // 100 GB/s into the last CTA
  const int64_t sm_ps = rounds * cta_ps, longest = std::max({memory_ps, l2_ps, sm_ps});
  const int64_t shown = s.in_registers() ? 257 : 77;  // thousandths of what is not the longest
  return 3'290'000 + longest + (memory_ps + l2_ps + sm_ps - longest) * shown / 1000 + meet_ps;
}

// How k is shared out, and where sums go.
void HcPrenorm::set_split(const Desc& d, const Args& x, const Shape& s, void* workspace,
                          k90::Params* p) {
  p->out = {x.z, x.q, static_cast<uint64_t>(x.ldz), static_cast<uint64_t>(x.z_split_stride),
            static_cast<uint64_t>(x.q_split_stride)};
  const auto splits = static_cast<uint32_t>(x.num_splits);
  const Shape::Split split = splits == 0 ? s.split(x.m, d.k) : Shape::Split{splits, 0};
  p->num_groups = split.groups, p->num_adders = split.adders;
  p->parts_per_cta = s.invariant && splits == 0 ? invariant_parts / p->num_groups : 1;
  const auto blocks = static_cast<uint32_t>(d.k / k90::block_k);
  p->least_k_blocks = blocks / (p->num_groups * p->parts_per_cta);
  p->num_longer_parts = blocks % (p->num_groups * p->parts_per_cta);
  if (splits != 0) return;
  p->max_slices = s.invariant ? 1 : std::min(p->num_groups, k90::most_slices);
  if (p->num_groups == 1) return;
  auto* bytes = static_cast<std::byte*>(workspace);
  const uint64_t counters = Shape::counter_bytes(s.sm_count);
  if (!s.in_registers()) p->counters = reinterpret_cast<uint32_t*>(bytes);
  p->parts = reinterpret_cast<float*>(
      bytes + (s.in_registers() ? counters : Shape::state_bytes(d, s.sm_count)));
}

Status HcPrenorm::set_inputs(const Desc& d, const Args& x, const Shape& s, const Driver& driver,
                             k90::Params* p) {
  const auto m = static_cast<uint64_t>(x.m), k = static_cast<uint64_t>(d.k);
  const auto ldx = static_cast<uint64_t>(x.ldx);
  p->m = static_cast<uint32_t>(x.m);
  if (s.in_registers()) {
    p->x_rows = x.x, p->w_rows = x.w;
    p->ldx = ldx, p->ldw = k;
    return ok();
  }
  const uint32_t w_rows = 2 * k90::padded(static_cast<uint32_t>(d.n));
  DGRT_TRY(encode_tensor_map(
      driver, {DGRT_BF16, x.x, m, k, ldx, s.block_m, k90::block_k, Swizzle::b128}, &p->x));
  return encode_tensor_map(
      driver, {DGRT_BF16, x.w, w_rows, k, k, w_rows, k90::block_k, Swizzle::b128}, &p->w);
}

Status HcPrenorm::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                       void* workspace, Launch* launch) {
  if (x.m == 0) return ok();
  const Shape& s = prepared.as<Shape>();
  auto& p = launch->make_params<k90::Params>();
  DGRT_TRY(set_inputs(d, x, s, driver, &p));
  set_split(d, x, s, workspace, &p);
  const uint32_t tiles = ceil_div(p.m, s.block_m), ctas = p.num_groups + p.num_adders;
  launch->grid[0] = s.in_registers() ? tiles : tiles * ctas;
  launch->grid[1] = s.in_registers() ? ctas : 1;
  launch->num_threads = k90::num_threads(s.block_m, s.warps);
  launch->smem_bytes = k90::smem_bytes(s.block_m, s.n, s.stages, s.warps);
  launch->block_m = s.block_m;
  launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
  return ok();
}

}  // namespace

DGRT_OP(HcPrenorm, hc_prenorm);

}  // namespace dgrt
