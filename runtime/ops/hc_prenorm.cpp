// hc_prenorm, host side: what is accepted, which tiles are legal, how k is shared out, how one call
// is launched.
#include <algorithm>

#include "dgrt/hyper.h"
#include "hyper/sm90_hc_prenorm.cuh"  // interface half: Params, smem_bytes()
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/gemm_common.h"  // check_pointer()
#include "runtime/ops/hyper_common.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::hc_prenorm;

using hyper::max_size;

constexpr int64_t max_splits = 65535;
constexpr uint64_t alignment = 256;  // of what lies in the workspace
constexpr int64_t min_stages = 4;

int64_t div_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

// A decoded config, with what the target adds.
struct Shape {
  uint32_t block_m, stages, blocks_per_sm;
  uint32_t cluster;   // CTAs that share k inside a cluster, when the library decides
  uint32_t max_ctas;  // that run at once, in clusters of that size
  uint32_t sm_count;
  bool invariant;

  static Shape of(const dgrt_hc_prenorm_desc& d, const Target& target, const Config& c) {
    const auto get = [&](const char* name) { return static_cast<uint32_t>(c[name]); };
    Shape s{get("block_m"),
            get("stages"),
            get("blocks_per_sm"),
            get("cluster"),
            0,
            target.sm_count,
            (d.flags & DGRT_FLAG_BATCH_INVARIANT) != 0};
    // GPCs hold 16 or 18 SMs: clusters of 4 and 8 leave some idle.
    const uint32_t sms = s.cluster <= 2 ? s.sm_count : std::max(16u, s.sm_count / 16 * 16);
    s.max_ctas = sms * s.blocks_per_sm;
    return s;
  }

  // Clusters that share k of one row tile: as many as run at once, but no more than needed for the
  // fewest k blocks per CTA.
  uint32_t num_groups(int64_t m, int64_t k) const {
    if (invariant) return 1;
    const int64_t blocks = k / k90::block_k, tiles = div_up(m, block_m);
    const int64_t most = std::clamp<int64_t>(max_ctas / (tiles * cluster), 1,
                                             std::max<int64_t>(1, blocks / cluster));
    const int64_t per_cta = div_up(blocks, most * cluster);
    return static_cast<uint32_t>(std::max<int64_t>(1, div_up(blocks, per_cta * cluster)));
  }

  // Counters of the slices of every tile that several groups share: at most one per running CTA.
  static uint64_t state_bytes(uint32_t sm_count) {
    return align(uint64_t{sm_count} * 2 * sizeof(uint32_t));
  }
  // Parts of z and q: tiles times groups never exceeds the clusters that run at once, so neither m
  // nor k matters.
  uint64_t workspace_bytes(int64_t n) const {
    if (invariant) return 0;
    return state_bytes(sm_count) +
           align(uint64_t{max_ctas / cluster} * block_m * (n + 1) * sizeof(float));
  }
  static uint64_t align(uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }
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

  // Where the number of row tiles changes for few rows; then eighths of powers of two, then powers.
  static std::vector<SelectorVar> selector(const Desc& d) {
    SelectorVar m{"m", d.max_m, {64, 128, 192, 256, 384, 512}};
    for (int64_t power = 512; power < 16384; power *= 2)
      for (int64_t eighth = 5; eighth <= 8; ++eighth) m.breaks.push_back(power * eighth / 4);
    for (int64_t power = 32768; power <= 131072; power *= 2) m.breaks.push_back(power);
    m.breaks.push_back(max_size);
    return {m};
  }

  static Config shape(const Desc& d) {
    return {{"n", d.n}, {"k", d.k}, {"batch_invariant", is_invariant(d)}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    std::vector<Config> found;
    for (const int64_t block_m : {64, 128})
      for (const int64_t blocks_per_sm : {1, 2})
        for (const int64_t cluster : {1, 2, 4, 8}) {
          if (is_invariant(d) && cluster != k90::max_cluster) continue;
          const Config c = {{"block_m", block_m},
                            {"stages", fitting_stages(d, block_m, blocks_per_sm)},
                            {"blocks_per_sm", blocks_per_sm},
                            {"cluster", cluster}};
          if (check_config(d, target, c).is_ok()) found.push_back(c);
        }
    return found;
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: hc_prenorm has kernels for sm_90a", target.arch);
    for (const char* name : {"block_m", "stages", "blocks_per_sm", "cluster"}) {
      const int64_t* value = c.find(name);
      if (!value) return invalid("{}: missing", name);
      if (*value < 1 || *value > 128) return invalid("{}={}: must be 1 to 128", name, *value);
    }
    if (c["block_m"] != 64 && c["block_m"] != 128)
      return invalid("block_m={}: must be 64 or 128", c["block_m"]);
    if (c["blocks_per_sm"] > 2)
      return invalid("blocks_per_sm={}: must be 1 or 2", c["blocks_per_sm"]);
    const int64_t cluster = c["cluster"];
    if (cluster > k90::max_cluster || (cluster & (cluster - 1)) != 0)
      return invalid("cluster={}: must be 1, 2, 4 or 8", cluster);
    if (is_invariant(d) && cluster != k90::max_cluster)
      return invalid("cluster={}: must be {} with BATCH_INVARIANT, whatever m is", cluster,
                     k90::max_cluster);
    if (c["stages"] < min_stages)
      return invalid("stages={}: must be at least {}", c["stages"], min_stages);
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
    i.entry = fmt::format("sm90_hc_prenorm_{}x{}_s{}", c["block_m"], d.n, c["stages"]);
    if (c["blocks_per_sm"] > 1) i.entry += fmt::format("_b{}", c["blocks_per_sm"]);
    i.arch = target.arch;
    i.cfg = {{"block_m", c["block_m"]}, {"n", d.n}, {"stages", c["stages"]}};
    i.num_threads = k90::num_threads(static_cast<uint32_t>(c["block_m"]));
    i.min_blocks = static_cast<uint32_t>(c["blocks_per_sm"]);
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc& d, const Config& c) {
    return k90::smem_bytes(static_cast<uint32_t>(c["block_m"]), static_cast<uint32_t>(d.n),
                           static_cast<uint32_t>(c["stages"]));
  }
  static Prepared prepare(const Desc& d, const Target& target, const Config& c) {
    return Prepared::of(Shape::of(d, target, c));
  }

  // num_splits changes no choice, but what the call needs.
  static Point point(const Args& x) { return {x.m, x.num_splits}; }

  static Status check_args(const Desc& d, const Args& x) {
    if (x.m < 0 || x.m > d.max_m) return invalid("m={}: must be 0 to max_m={}", x.m, d.max_m);
    if (x.num_splits < 0 || x.num_splits > d.max_splits)
      return invalid("num_splits={}: must be 0 to max_splits={}", x.num_splits, d.max_splits);
    if (x.m == 0) return ok();
    DGRT_TRY(gemm::check_pointer("x", x.x, 16));
    DGRT_TRY(gemm::check_pointer("w", x.w, 16));
    DGRT_TRY(gemm::check_pointer("z", x.z, 16));
    DGRT_TRY(gemm::check_pointer("q", x.q, 4));
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
    return point[0] == 0 || point[1] != 0 ? 0 : prepared.as<Shape>().workspace_bytes(d.n);
  }
  static uint64_t state_bytes(const Desc& d, const Target& target) {
    return is_invariant(d) ? 0 : Shape::state_bytes(target.sm_count);
  }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void* workspace, Launch* launch);

 private:
  static bool is_invariant(const Desc& d) { return (d.flags & DGRT_FLAG_BATCH_INVARIANT) != 0; }

  // As many as fit.
  static int64_t fitting_stages(const Desc& d, int64_t block_m, int64_t blocks_per_sm) {
    const auto rows = static_cast<uint32_t>(block_m), n = static_cast<uint32_t>(d.n);
    uint32_t stages = 1;
    while (k90::smem_bytes(rows, n, stages + 1) * blocks_per_sm <= sm90_max_smem_bytes) ++stages;
    return stages;
  }
  static void set_sums(const Desc& d, const Args& x, const Shape& s, void* workspace,
                       k90::Params* p);
};

// The largest of: device memory, L2 (which sends w once per tile), what one SM pulls and adds up in
// its rounds of CTAs; plus the launch, and meeting in the cluster and at the counters.
int64_t HcPrenorm::cost_ps(const Desc& d, const Target& target, const Point& point,
                           const Config& c) {
  const Shape s = Shape::of(d, target, c);
  const int64_t m = std::clamp<int64_t>(point[0], 1, 1 << 22);  // so that products fit
  const int64_t blocks = d.k / k90::block_k;
  const int64_t groups = s.num_groups(m, d.k), tiles = div_up(m, s.block_m);
  const int64_t rounds = div_up(tiles * groups * s.cluster, s.max_ctas);
  const int64_t per_cta = div_up(blocks, groups * s.cluster);
  const int64_t w_rows = 2 * k90::padded(static_cast<uint32_t>(d.n));
  const int64_t memory_ps = (m + w_rows) * d.k * 2 * 100 / 427;      // 4.27 TB/s, H200, measured
  const int64_t l2_ps = (m + tiles * w_rows) * d.k * 2 * 100 / 650;  // 6.5 TB/s
  // Rows past m cost no memory, but fill their slots all the same.
  const int64_t tile_bytes = (s.block_m + w_rows) * k90::row_bytes;
  const int64_t pull_ps = tile_bytes * 25 / 2 * s.blocks_per_sm;         // 80 GB/s into one SM
  const int64_t math_ps = 180'000 * (s.blocks_per_sm == 2 ? 6 : 5) / 5;  // one k block of a CTA
  const int64_t sm_ps = rounds * (1'500'000 + per_cta * std::max(pull_ps, math_ps));
  // Rounds of loads that a thread waits for when its slice is added up over the groups.
  const int64_t slice = int64_t{s.cluster} * k90::num_math_threads(s.block_m);
  const int64_t waits = div_up(s.block_m * d.n / 4, slice) * div_up(groups, 8);
  const int64_t meet_ps = (s.cluster > 1 ? 500'000 + s.cluster * 25'000 : 0) +
                          (groups > 1 ? 1'000'000 + waits * 600'000 : 0);
  // Clusters of 4 and 8 stream more slowly, by 20 to 28 % from m = 137 to 8192; tiles of 128 rows end
  // later (H100, CUDA 13.0, 2026-11-26).
  const int64_t stream_ps = std::max({memory_ps, l2_ps, sm_ps}) * (s.cluster >= 4 ? 13 : 10) / 10;
  return 2'850'000 + stream_ps + meet_ps + (s.block_m == 128 ? 1'000'000 : 0);
}

void HcPrenorm::set_sums(const Desc& d, const Args& x, const Shape& s, void* workspace,
                         k90::Params* p) {
  const auto ldz = static_cast<uint64_t>(x.ldz);
  p->parts = {x.z, x.q, ldz, static_cast<uint64_t>(x.z_split_stride),
              static_cast<uint64_t>(x.q_split_stride)};
  if (x.num_splits != 0 || p->num_groups == 1) return;
  const auto m = static_cast<uint64_t>(x.m), n = static_cast<uint64_t>(d.n);
  auto* bytes = static_cast<std::byte*>(workspace);
  auto* z = reinterpret_cast<float*>(bytes + Shape::state_bytes(s.sm_count));
  p->counters = reinterpret_cast<uint32_t*>(bytes);
  p->total = p->parts;
  p->parts = {z, z + p->num_groups * m * n, n, m * n, m};
}

Status HcPrenorm::bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                       void* workspace, Launch* launch) {
  if (x.m == 0) return ok();
  const Shape& s = prepared.as<Shape>();
  const auto m = static_cast<uint32_t>(x.m), n = static_cast<uint32_t>(d.n);
  auto& p = launch->make_params<k90::Params>();
  const uint64_t k = static_cast<uint64_t>(d.k), w_rows = 2 * k90::padded(n);
  DGRT_TRY(encode_tensor_map(
      driver,
      {DGRT_BF16, x.x, m, k, static_cast<uint64_t>(x.ldx), s.block_m, k90::block_k, Swizzle::b128},
      &p.x));
  DGRT_TRY(encode_tensor_map(
      driver,
      {DGRT_BF16, x.w, w_rows, k, k, static_cast<uint32_t>(w_rows), k90::block_k, Swizzle::b128},
      &p.w));
  p.m = m;
  p.num_k_blocks = static_cast<uint32_t>(d.k / k90::block_k);
  p.cluster = x.num_splits == 0 ? s.cluster : 1;
  p.num_groups = x.num_splits == 0 ? s.num_groups(x.m, d.k) : static_cast<uint32_t>(x.num_splits);
  set_sums(d, x, s, workspace, &p);
  launch->grid[0] = ceil_div(m, s.block_m) * p.num_groups * p.cluster;
  launch->cluster[0] = p.cluster;
  launch->num_threads = k90::num_threads(s.block_m);
  launch->smem_bytes = k90::smem_bytes(s.block_m, n, s.stages);
  launch->block_m = s.block_m;
  launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
  return ok();
}

}  // namespace

DGRT_OP(HcPrenorm, hc_prenorm);

}  // namespace dgrt
