// The kernels that gemm_fused_linear and gemm_grouped_k choose for real shapes compile: without spills
// and without the assembler serialising wgmma. Needs libnvrtc, no GPU.
#include <map>
#include <string>
#include <vector>

#include "dgrt/gemm.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/selection.h"
#include "tests/support/catch.h"

namespace dgrt::test {
namespace {

// The choices of `desc` at some values of what varies by call.
void compile_choices(const dgrt_desc* desc, const std::vector<int64_t>& points) {
  const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  INFO(nvrtc.status().message());
  REQUIRE(nvrtc.is_ok());
  const Sources sources;
  const Target target{"sm_90a", 132};
  const OpImpl& op = *find_op(desc).value();
  REQUIRE(op.check_desc(desc).is_ok());
  std::vector<std::string> warnings;
  const Result<Selection> selection =
      select(op, desc, target, load_table(op, sources, "", &warnings));
  REQUIRE(selection.is_ok());
  std::map<std::string, Instance> kernels;
  for (const int64_t point : points) {
    const Selection& all = selection.value();
    const Config& config = all.choices[all.lookup({point, 0, 0})].config;
    const Instance instance = op.instance(desc, target, config);
    kernels.emplace(instance.entry, instance);
  }
  for (const auto& [name, instance] : kernels) {
    const Result<Compiled> compiled = nvrtc.value()->compile(instance, sources);
    INFO(name << ": " << compiled.status().message());
    REQUIRE(compiled.is_ok());
    INFO(compiled.value().log);
    CHECK_FALSE(compiled.value().spills());
    CHECK(compiled.value().log.find("wgmma") == std::string::npos);
  }
}

}  // namespace

TEST_CASE("gemm_fused_linear: chosen kernels compile without spills", "[compile]") {
  dgrt_gemm_fused_linear_desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
  desc.k = 2304, desc.max_m = 16384;
  for (const int64_t n : {1024, 1024, 1024, 8, 128, 128}) desc.n[desc.num_segments++] = n;
  desc.dtype_ab = DGRT_BF16;
  for (const dgrt_dtype dtype_d : {DGRT_BF16, DGRT_FP32}) {
    desc.dtype_d = dtype_d;
    compile_choices(&desc.op, {8, 32, 128, 4096, 16384});
  }
}

TEST_CASE("gemm_grouped_k: chosen kernels compile without spills", "[compile]") {
  for (const bool is_fp8 : {false, true})
    for (const int64_t m : {192, 4096}) {
      dgrt_gemm_grouped_k_desc desc = DGRT_GEMM_GROUPED_K_DESC;
      desc.m = m, desc.n = m == 192 ? 3072 : 7168, desc.max_k = 65536;
      desc.num_groups = 4;
      desc.dtype_ab = is_fp8 ? DGRT_E4M3 : DGRT_BF16;
      desc.dtype_d = DGRT_FP32;
      desc.scale_mode = is_fp8 ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
      desc.flags = DGRT_GEMM_WITH_C;
      compile_choices(&desc.op, {1024, 32768});
    }
}

}  // namespace dgrt::test
