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
  CHECK(kernels.size() == 21);
  compile_all(kernels, budget_ms);
}

TEST_CASE("mla_kv_append and kv_dequant_paged: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4}) {
    for (const uint32_t flags : {0u, DGRT_KV_SLOTS_INT64}) {
      dgrt_mla_kv_append_desc append = DGRT_MLA_KV_APPEND_DESC;
      append.max_tokens = 4096, append.format = format, append.flags = flags;
      collect(&append.op, &kernels);
      dgrt_kv_dequant_paged_desc dequant = DGRT_KV_DEQUANT_PAGED_DESC;
      dequant.max_rows = 4096, dequant.format = format, dequant.flags = flags;
      collect(&dequant.op, &kernels);
    }
    dgrt_kv_dequant_paged_desc by_sequence = DGRT_KV_DEQUANT_PAGED_DESC;
    by_sequence.max_rows = by_sequence.max_batch = 4096, by_sequence.format = format;
    collect(&by_sequence.op, &kernels);
  }
  CHECK(kernels.size() == 20);
  compile_all(kernels, budget_ms);
}

TEST_CASE("build_swa_token_ids and combine_topk_swa_indices: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  dgrt_build_swa_token_ids_desc ids = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  ids.window = 128, ids.max_batch = ids.max_capacity = 4096;
  collect(&ids.op, &kernels);
  dgrt_combine_topk_swa_indices_desc combine = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  combine.window = 128, combine.ratio = 4, combine.max_tokens = 4096;
  collect(&combine.op, &kernels);
  CHECK(kernels.size() == 2);
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
