// quant_fp8, host side: what is accepted, which thread blocks suit how many rows, how a call is
// launched.
#include <algorithm>

#include "dgrt/gemm.h"
#include "gemm/sm90_quant_fp8.cuh"    // interface half: Params, num_threads()
#include "runtime/ops/arg_rules.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

namespace k90 = sm90::quant_fp8;

constexpr int64_t max_size = INT32_MAX;

// A decoded config.
struct Shape {
  uint32_t group_m, block_m, k_blocks, rows_per_thread;

  static Shape of(const Config& config) {
    return {static_cast<uint32_t>(config["group_m"]), static_cast<uint32_t>(config["block_m"]),
            static_cast<uint32_t>(config["k_blocks"]),
            static_cast<uint32_t>(config["rows_per_thread"])};
  }
  uint32_t num_threads() const { return k90::num_threads(block_m, k_blocks, rows_per_thread); }
  // Threads of one SM that the registers allow: 32, 51 and 64 of them per thread hold the data of
  // 1, 2 and 4 rows without spilling (tests/compile checks).
  uint32_t resident_threads() const {
    return rows_per_thread == 1 ? 2048 : rows_per_thread == 2 ? 1280 : 1024;
  }
  uint32_t resident_blocks() const {
    const uint32_t blocks = resident_threads() / num_threads();
    return blocks < 1 ? 1 : blocks > 32 ? 32 : blocks;  // 32: blocks per SM, SM90
  }
};

struct QuantFp8 {
  using Desc = dgrt_quant_fp8_desc;
  using Args = dgrt_quant_fp8_args;
  static constexpr uint32_t op_id = DGRT_OP_QUANT_FP8;
  static constexpr const char* op = "quant_fp8";
  static constexpr const char* stem = "quant_fp8";

  static bool matches(const Desc&) { return true; }

  static Status check_desc(const Desc& d) {
    if (d.k < 1 || d.k > max_size) return invalid("k={}: must be 1 to {}", d.k, max_size);
    if (d.max_m < 0 || d.max_m > max_size)
      return invalid("max_m={}: must be 0 to {}", d.max_m, max_size);
    if (d.block != DGRT_QUANT_1X128 && d.block != DGRT_QUANT_128X128)
      return invalid("block={}: must be DGRT_QUANT_1X128 or DGRT_QUANT_128X128", d.block);
    if (d.scale_major != DGRT_K_MAJOR && d.scale_major != DGRT_MN_MAJOR)
      return invalid("scale_major={}: must be DGRT_K_MAJOR or DGRT_MN_MAJOR", d.scale_major);
    if ((d.flags & ~uint32_t{DGRT_FLAG_PDL | DGRT_FLAG_BATCH_INVARIANT}) != 0)
      return invalid("flags={:#x}: quant_fp8 knows PDL and BATCH_INVARIANT only", d.flags);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    SelectorVar m{"m", d.max_m, {}};
    for (int64_t rows = 1; rows < max_size; rows *= 2) m.breaks.push_back(rows);
    m.breaks.push_back(max_size);
    return {m};
  }

  static Config shape(const Desc& d) {
    return {{"k", d.k}, {"group_m", group_m(d)}, {"scale_major", d.scale_major}};
  }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    if (target.arch != "sm_90a") return {};
    if (d.block == DGRT_QUANT_128X128) return {config(128, 128, 1, 2), config(128, 128, 1, 4)};
    return {config(1, 1, 4, 1), config(1, 1, 8, 1), config(1, 1, 16, 1),
            config(1, 4, 4, 1), config(1, 8, 4, 1), config(1, 8, 8, 1),
            config(1, 8, 4, 2), config(1, 8, 8, 2), config(1, 16, 4, 2)};
  }

  static Status check_config(const Desc& d, const Target& target, const Config& c) {
    if (target.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: quant_fp8 has kernels for sm_90a", target.arch);
    for (const char* name : {"group_m", "block_m", "k_blocks", "rows_per_thread"}) {
      const int64_t* value = c.find(name);
      if (!value) return invalid("{}: missing", name);
      if (*value < 1 || *value > 128) return invalid("{}={}: must be 1 to 128", name, *value);
    }
    const Shape s = Shape::of(c);
    if (s.group_m != group_m(d))
      return invalid("group_m={}: the desc wants {}", s.group_m, group_m(d));
    if (s.group_m != 1 && (s.block_m != s.group_m || s.k_blocks != 1))
      return invalid("block_m={} k_blocks={}: must be 128 and 1 where one scale covers 128 rows",
                     s.block_m, s.k_blocks);
    if (s.rows_per_thread != 1 && s.rows_per_thread != 2 && s.rows_per_thread != 4)
      return invalid("rows_per_thread={}: must be 1, 2 or 4", s.rows_per_thread);
    if (s.block_m % s.rows_per_thread != 0)
      return invalid("block_m={}: must be a multiple of rows_per_thread={}", s.block_m,
                     s.rows_per_thread);
    const uint32_t threads = s.num_threads();
    if (threads % 32 != 0 || threads > 1024)
      return invalid(
          "block_m * k_blocks / rows_per_thread * 8 = {} threads: must be a multiple of 32 "
          "up to 1024",
          threads);
    return ok();
  }

  // The largest of: device memory, what one SM can pull, and issuing the instructions; plus the
  // launch.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point, const Config& c) {
    const Shape s = Shape::of(c);
    const int64_t m = point[0] > 0 ? point[0] : 1;
    const int64_t num_k = div_up(d.k, k90::block_k);
    const int64_t blocks = div_up(m, s.block_m) * div_up(num_k, s.k_blocks);
    const int64_t blocks_per_sm = div_up(blocks, target.sm_count);
    // A 32-byte sector of scales that several blocks share is written in parts.
    const int64_t run = s.group_m != 1                   ? 1
                        : d.scale_major == DGRT_MN_MAJOR ? s.block_m
                                                         : s.k_blocks;
    const int64_t scale_bytes = div_up(m, s.group_m) * num_k * 32 / (run < 8 ? run : 8);
    const int64_t memory_ps = (m * d.k * 3 + scale_bytes) * 100 / 427;  // 4.27 TB/s, H200, measured
    const int64_t block_elems = int64_t{s.block_m} * s.k_blocks * k90::block_k;
    const int64_t sm_ps = blocks_per_sm * block_elems * 3 * 25 / 2;  // 80 GB/s into one SM
    const int64_t warps = s.num_threads() / 32;
    // About 100 instructions per warp and 90 per row of it; 4 a cycle at 1.7 GHz.
    const int64_t issue_ps = blocks_per_sm * warps * (100 + 90 * s.rows_per_thread) * 147;
    // Each round of blocks waits once for memory before it can finish; threads with two rows took about
    // 0.2 us longer (H100, 2026-11-26, 35 calls of m from 16 to 1024).
    const int64_t start_ps =
        div_up(blocks_per_sm, s.resident_blocks()) * 500'000 + (s.rows_per_thread - 1) * 200'000;
    return 2'850'000 + start_ps + std::max({memory_ps, sm_ps, issue_ps});
  }

  static Instance instance(const Desc&, const Target& target, const Config& c) {
    const Shape s = Shape::of(c);
    Instance i;
    i.stem = stem;
    i.header = "gemm/sm90_quant_fp8.cuh";
    i.name_space = "dgrt::sm90::quant_fp8";
    i.entry = fmt::format("sm90_quant_fp8_{}x128_{}x{}_r{}", s.group_m, s.block_m,
                          s.k_blocks * k90::block_k, s.rows_per_thread);
    i.arch = target.arch;
    i.cfg = c;
    i.num_threads = s.num_threads();
    i.min_blocks = s.resident_blocks();
    i.params_bytes = sizeof(k90::Params);
    return i;
  }

  static uint32_t smem_bytes(const Desc&, const Config&) { return 0; }  // static shared memory only
  static Prepared prepare(const Desc&, const Target&, const Config& c) {
    return Prepared::of(Shape::of(c));
  }

  static Point point(const Args& x) { return {x.m}; }

  static Status check_args(const Desc& d, const Args& x) {
    if (x.m < 0 || x.m > d.max_m) return invalid("m={}: must be 0 to max_m={}", x.m, d.max_m);
    if (x.ldx < d.k || x.ldx % 8 != 0)
      return invalid("ldx={}: must be at least k={} and a multiple of 8 (16-byte rows)", x.ldx,
                     d.k);
    if (x.ldq < d.k || x.ldq % 16 != 0)
      return invalid("ldq={}: must be at least k={} and a multiple of 16 (16-byte rows)", x.ldq,
                     d.k);
    const int64_t row =
        d.scale_major == DGRT_K_MAJOR ? div_up(d.k, k90::block_k) : div_up(x.m, group_m(d));
    if (x.ld_scale < row)
      return invalid("ld_scale={}: must be at least {}, the number of {}", x.ld_scale, row,
                     d.scale_major == DGRT_K_MAJOR ? "blocks of k" : "block rows");
    if (x.m == 0) return ok();
    DGRT_TRY(check_pointer("x", x.x, 16));
    DGRT_TRY(check_pointer("q", x.q, 16));
    return check_pointer("scale", x.scale, 4);
  }

  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }

  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver&, void*,
                     Launch* launch) {
    const Shape& s = prepared.as<Shape>();
    const uint32_t m = static_cast<uint32_t>(x.m), k = static_cast<uint32_t>(d.k);
    const bool k_major = d.scale_major == DGRT_K_MAJOR;
    auto& p = launch->make_params<k90::Params>();
    p = {x.x, x.q, x.scale, x.ldx, x.ldq, k_major ? x.ld_scale : 1, k_major ? 1 : x.ld_scale, m, k};
    launch->grid[0] = m == 0 ? 0 : ceil_div(ceil_div(k, k90::block_k), s.k_blocks);
    launch->grid[1] = std::min(ceil_div(m, s.block_m), k90::max_grid_y);
    launch->num_threads = s.num_threads();
    launch->block_m = s.block_m;
    launch->pdl = (d.flags & DGRT_FLAG_PDL) != 0;
    return ok();
  }

 private:
  static uint32_t group_m(const Desc& d) { return d.block == DGRT_QUANT_1X128 ? 1 : 128; }
  static Config config(int64_t group_m, int64_t block_m, int64_t k_blocks,
                       int64_t rows_per_thread) {
    return {{"group_m", group_m},
            {"block_m", block_m},
            {"k_blocks", k_blocks},
            {"rows_per_thread", rows_per_thread}};
  }
};

}  // namespace

DGRT_OP(QuantFp8, quant_fp8);

}  // namespace dgrt
