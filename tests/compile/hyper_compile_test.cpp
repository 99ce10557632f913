// Every legal config of the hyper-connection ops compiles, without spills, without wgmma being
// serialised, and with the number of blocks per SM that its launch bound promises.
#include <algorithm>
#include <vector>

#include "dgrt/hyper.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"

namespace dgrt::test {
namespace {

void compile_all(const dgrt_desc* desc) {
  const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  INFO(nvrtc.status().message());
  REQUIRE(nvrtc.is_ok());
  const Sources sources;
  const Target target{"sm_90a", 132};
  const Result<const OpImpl*> found = find_op(desc);
  REQUIRE(found.is_ok());
  const OpImpl& op = *found.value();
  const Status checked = op.check_desc(desc);
  INFO(checked.message());
  REQUIRE(checked.is_ok());
  std::vector<Instance> seen;
  std::vector<Config> configs = op.candidates(desc, target, Point{64});
  for (const Config& config : op.candidates(desc, target, Point{4096})) configs.push_back(config);
  for (const Config& config : configs) {
    const Instance instance = op.instance(desc, target, config);
    // How k is shared out is no part of the kernel.
    if (std::find(seen.begin(), seen.end(), instance) != seen.end()) continue;
    seen.push_back(instance);
    const Result<Compiled> compiled = nvrtc.value()->compile(instance, sources);
    INFO(instance.entry << ": " << compiled.status().message());
    REQUIRE(compiled.is_ok());
    INFO(compiled.value().log);
    CHECK_FALSE(compiled.value().spills());
    CHECK(compiled.value().stack_bytes == 0);
    CHECK(compiled.value().log.find("wgmma") == std::string::npos);
    const uint32_t threads = instance.num_threads * instance.min_blocks;
    CHECK(compiled.value().num_registers * threads <= 65536);
  }
  CHECK(!seen.empty());
}

}  // namespace

TEST_CASE("hc_prenorm: every config compiles without spills", "[compile]") {
  for (const int64_t n : {4, 12, 24, 32}) {
    dgrt_hc_prenorm_desc desc = DGRT_HC_PRENORM_DESC;
    desc.n = n, desc.k = 28672, desc.max_m = 8192;
    compile_all(&desc.op);
  }
}

TEST_CASE("hc_prenorm_weights: compiles without spills", "[compile]") {
  dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
  desc.n = 24, desc.k = 28672;
  compile_all(&desc.op);
}

}  // namespace dgrt::test
