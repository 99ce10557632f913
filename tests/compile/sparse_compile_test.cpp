// Every kernel of the helper ops around sparse MLA compiles: without spills, within a time budget.
#include "dgrt/mla.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"
#include "tests/support/compile_sweep.h"

namespace dgrt::test {
namespace {

double budget_ms(const Instance&) { return 700; }

void collect(const dgrt_desc* desc, std::map<std::string, Instance>* kernels) {
  const Target target{"sm_90a", 132};
  const OpImpl& op = *find_op(desc).value();
  REQUIRE(op.check_desc(desc).is_ok());
  for (const Config& config : op.candidates(desc, target, Point{64, 64})) {
    const Instance instance = op.instance(desc, target, config);
    kernels->emplace(instance.entry, instance);
  }
}

}  // namespace

TEST_CASE("topk_transform: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  dgrt_topk_transform_desc desc = DGRT_TOPK_TRANSFORM_DESC;
  desc.top_k = 512, desc.max_rows = 4096, desc.max_columns = 1 << 20;
  collect(&desc.op, &kernels);
  CHECK(kernels.size() == 9);
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
