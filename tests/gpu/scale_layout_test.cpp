// scale_layout bit for bit: sizes around the tiles, both source orders, groups, row strides, the
// zeros up to the next multiple of 4.
#include <algorithm>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_input_ops_check.h"

namespace dgrt::test {
namespace {

struct LayoutCase {
  int64_t k_blocks = 0;
  std::vector<int64_t> m;
  int64_t pad = 0;  // elements between rows of src and between groups; four times as many in dst
  uint32_t flags = 0;
  dgrt_major src_major = DGRT_K_MAJOR;
  int64_t num_groups = 1;

  std::string name() const {
    return fmt::format("scale_layout k_blocks={}{}{}{}{}", k_blocks,
                       src_major == DGRT_MN_MAJOR ? " mn-major" : "",
                       num_groups != 1 ? fmt::format(" groups={}", num_groups) : "",
                       pad != 0 ? fmt::format(" pad={}", pad) : "", flags != 0 ? " pdl" : "");
  }
  dgrt_scale_layout_desc desc() const {
    dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
    desc.k_blocks = k_blocks, desc.max_m = 1 << 24, desc.flags = flags;
    desc.src_major = src_major, desc.num_groups = num_groups;
    return desc;
  }
};

// No two elements alike in reach of a mistake; as bits, so NaN patterns must survive too.
uint32_t pattern(size_t idx, uint32_t seed) {
  return static_cast<uint32_t>(idx + seed) * 0x9e3779b1u ^ static_cast<uint32_t>(idx >> 7);
}

// Operands of one call. src need not be aligned to more than its elements: it starts one element
// into its buffer.
class LayoutRun {
 public:
  static Result<LayoutRun> make(Gpu& gpu, const LayoutCase& test, int64_t m) {
    LayoutRun run;
    run.gpu_ = &gpu;
    const bool mn_major = test.src_major == DGRT_MN_MAJOR;
    dgrt_scale_layout_args& args = run.args_;
    args.m = m;
    args.ld_src = (mn_major ? m : test.k_blocks) + test.pad;
    args.ld_dst = dgrt_tma_aligned_rows(m, 4) + 4 * test.pad;
    args.group_stride_src = (mn_major ? test.k_blocks : m) * args.ld_src + test.pad;
    args.group_stride_dst = test.k_blocks * args.ld_dst + 4 * test.pad;
    run.src_.resize(test.num_groups * args.group_stride_src);
    DGRT_ASSIGN(run.src_dev_, lab::DeviceBuffer::make(*gpu.lab, (run.src_.size() + 1) * 4));
    DGRT_ASSIGN(run.dst_dev_,
                lab::DeviceBuffer::make(*gpu.lab, test.num_groups * args.group_stride_dst * 4));
    args.src = run.src_dev_.as<float>() + 1;
    args.dst = run.dst_dev_.as<float>();
    return run;
  }
  // New contents of src, and dst as if fresh.
  Status refill(uint32_t seed) {
    for (size_t i = 0; i < src_.size(); ++i) src_[i] = pattern(i, seed);
    DGRT_TRY(dst_dev_.poison());
    return src_dev_.upload(src_.data(), src_.size() * 4, 4);
  }
  Status check(const dgrt_scale_layout_desc& desc) const {
    DGRT_TRY(gpu_->lab->synchronize());
    DGRT_TRY(src_dev_.check_guards());
    DGRT_TRY(dst_dev_.check_guards());
    DGRT_ASSIGN(const std::vector<uint32_t> dst, dst_dev_.download_all<uint32_t>());
    return lab::check_scale_layout(desc, args_, src_, dst);
  }
  const dgrt_args* args() const { return &args_.op; }

 private:
  Gpu* gpu_ = nullptr;
  dgrt_scale_layout_args args_ = DGRT_SCALE_LAYOUT_ARGS;
  std::vector<uint32_t> src_;
  lab::DeviceBuffer src_dev_, dst_dev_;
};

Result<std::string> check(Gpu& gpu, const LayoutCase& test, const Plan& plan, int64_t m) {
  DGRT_ASSIGN(LayoutRun run, LayoutRun::make(gpu, test, m));
  DGRT_TRY(run.refill(1));
  std::string kernel = "no kernel";
  if (m > 0) {
    DGRT_ASSIGN(kernel, plan.kernel_name(run.args()));
  }
  DGRT_TRY(plan.launch(run.args(), gpu.lab->stream()));
  const Status status = run.check(test.desc());
  if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
  return fmt::format("m={} {}", m, kernel);
}

void run_layout_cases(Gpu& gpu, const std::vector<LayoutCase>& cases) {
  for (const LayoutCase& test : cases)
    run_case(test.name(), [&]() -> Result<std::string> {
      const dgrt_scale_layout_desc desc = test.desc();
      DGRT_ASSIGN(const Plan plan, Plan::make(gpu, &desc.op));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, check(gpu, test, plan, m));
        details += (details.empty() ? "" : "; ") + detail;
      }
      return details;
    });
}

}  // namespace

TEST_CASE("scale_layout: sizes around the tiles, rows further apart than they are long", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: sizes around the tiles, rows further apart than they are long");
  if (!gpu) return;
  std::vector<LayoutCase> cases;
  for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR})
    for (const int64_t k_blocks : {1, 5, 16, 31, 32, 33, 56, 128, 144})
      for (const int64_t pad : {0, 3})
        cases.push_back(
            {k_blocks, {0, 1, 2, 3, 4, 7, 31, 32, 33, 64, 65, 127, 128, 129, 1000}, pad, 0, major});
  run_layout_cases(*gpu, cases);
}

TEST_CASE("scale_layout: groups", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: groups");
  if (!gpu) return;
  std::vector<LayoutCase> cases;
  for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR}) {
    for (const int64_t k_blocks : {1, 56, 57})
      for (const int64_t groups : {1, 2, 4})
        cases.push_back({k_blocks, {4096, 4097, 8192}, groups == 2, 0, major, groups});
    cases.push_back({9, {0, 1, 33}, 1, 0, major, 70});
    cases.push_back({1, {3}, 0, 0, major, 65535});
  }
  run_layout_cases(*gpu, cases);
}

TEST_CASE("scale_layout: many rows", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: many rows");
  if (!gpu) return;
  // The last two have more rows than the grid has room for.
  run_layout_cases(
      *gpu,
      {{56, {4096, 16384}}, {16, {8191}}, {1, {8'400'001}}, {1, {8'400'001}, 0, 0, DGRT_MN_MAJOR}});
}

TEST_CASE("scale_layout: dependent launch", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: dependent launch");
  if (!gpu) return;
  run_layout_cases(*gpu, {{56, {1, 129, 4096}, 0, DGRT_FLAG_PDL}});
}

TEST_CASE("scale_layout: graph replay", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: graph replay");
  if (!gpu) return;
  const LayoutCase test{57, {4097}, 0, 0, DGRT_K_MAJOR, 2};
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    const dgrt_scale_layout_desc desc = test.desc();
    DGRT_ASSIGN(const Plan plan, Plan::make(*gpu, &desc.op));
    DGRT_ASSIGN(LayoutRun run, LayoutRun::make(*gpu, test, test.m.front()));
    DGRT_TRY(gpu->lab->synchronize());
    Graph graph(gpu->lab->driver());
    DGRT_TRY(capture(&graph, gpu->lab->stream(),
                     [&] { return plan.launch(run.args(), gpu->lab->stream()); }));
    for (const uint32_t seed : {2, 3}) {
      DGRT_TRY(run.refill(seed));
      DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, gpu->lab->stream()));
      DGRT_TRY(run.check(desc));
    }
    return std::string("two replays");
  });
}

TEST_CASE("scale_layout: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("scale_layout: small sizes");
  if (!gpu) return;
  run_layout_cases(*gpu, {{33, {0, 1, 65}, 3, 0, DGRT_K_MAJOR}, {5, {33}, 0, 0, DGRT_MN_MAJOR, 3}});
}

}  // namespace dgrt::test
