// scale_layout bit for bit: sizes around the tiles, row strides, the zeros up to the next multiple
// of 4.
#include <algorithm>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_input_ops_check.h"

namespace dgrt::test {
namespace {

struct LayoutCase {
  int64_t k_blocks = 0;
  std::vector<int64_t> m;
  int64_t pad = 0;  // elements between rows of src; four times as many in dst
  uint32_t flags = 0;

  std::string name() const {
    return fmt::format("scale_layout k_blocks={}{}{}", k_blocks,
                       pad != 0 ? fmt::format(" pad={}", pad) : "", flags != 0 ? " pdl" : "");
  }
};

// No two elements alike in reach of a mistake; as bits, so NaN patterns must survive too.
uint32_t pattern(int64_t row, int64_t k_block) {
  return static_cast<uint32_t>(row) * 0x9e3779b1u ^ static_cast<uint32_t>(k_block) * 0x85ebca77u;
}

Result<std::string> check(Gpu& gpu, const dgrt_scale_layout_desc& desc, const Plan& plan,
                          const LayoutCase& test, int64_t m) {
  const lab::Device& lab = *gpu.lab;
  const int64_t ld_src = test.k_blocks + test.pad, ld_dst = (m + 3) / 4 * 4 + 4 * test.pad;
  std::vector<uint32_t> src(m * ld_src, 0xdeadbeefu);
  for (int64_t row = 0; row < m; ++row)
    for (int64_t k = 0; k < test.k_blocks; ++k) src[row * ld_src + k] = pattern(row, k);
  // src need not be aligned to more than its elements: start one element into the buffer.
  DGRT_ASSIGN(const lab::DeviceBuffer src_dev, lab::DeviceBuffer::make(lab, (src.size() + 1) * 4));
  DGRT_ASSIGN(const lab::DeviceBuffer dst_dev,
              lab::DeviceBuffer::make(lab, test.k_blocks * ld_dst * 4));
  DGRT_TRY(src_dev.upload(src.data(), src.size() * 4, 4));

  dgrt_scale_layout_args args = DGRT_SCALE_LAYOUT_ARGS;
  args.src = src_dev.as<float>() + 1;
  args.dst = dst_dev.as<float>();
  args.m = m, args.ld_src = ld_src, args.ld_dst = ld_dst;
  std::string kernel = "no kernel";
  if (m > 0) {
    DGRT_ASSIGN(kernel, plan.kernel_name(&args.op));
  }
  DGRT_TRY(plan.launch(&args.op, lab.stream()));
  DGRT_TRY(lab.synchronize());
  DGRT_TRY(src_dev.check_guards());
  DGRT_TRY(dst_dev.check_guards());
  DGRT_ASSIGN(const std::vector<uint32_t> dst, dst_dev.download_all<uint32_t>());
  const Status status = lab::check_scale_layout(desc, args, src, dst);
  if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
  return fmt::format("m={} {}", m, kernel);
}

void run_layout_cases(Gpu& gpu, const std::vector<LayoutCase>& cases) {
  for (const LayoutCase& test : cases)
    run_case(test.name(), [&]() -> Result<std::string> {
      dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
      desc.k_blocks = test.k_blocks, desc.max_m = 1 << 24, desc.flags = test.flags;
      DGRT_ASSIGN(const Plan plan, Plan::make(gpu, &desc.op));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, check(gpu, desc, plan, test, m));
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
  for (const int64_t k_blocks : {1, 5, 16, 31, 32, 33, 56, 128, 144})
    for (const int64_t pad : {0, 3})
      cases.push_back({k_blocks, {0, 1, 2, 3, 4, 7, 31, 32, 33, 64, 65, 127, 128, 129, 1000}, pad});
  run_layout_cases(*gpu, cases);
}

TEST_CASE("scale_layout: many rows", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: many rows");
  if (!gpu) return;
  // The last has more rows than the grid has room for.
  run_layout_cases(*gpu, {{56, {4096, 16384}}, {16, {8191}}, {1, {8'400'001}}});
}

TEST_CASE("scale_layout: dependent launch", "[gpu]") {
  Gpu* gpu = gpu_for("scale_layout: dependent launch");
  if (!gpu) return;
  run_layout_cases(*gpu, {{56, {1, 129, 4096}, 0, DGRT_FLAG_PDL}});
}

}  // namespace dgrt::test
