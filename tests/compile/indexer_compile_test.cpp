// Kernels of the indexer's ops compile: without spills or serialised products, within a time budget.
#include "dgrt/indexer.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"
#include "tests/support/compile_sweep.h"

namespace dgrt::test {
namespace {

double budget_ms(const Instance&) { return 900; }

void collect(const dgrt_desc* desc, std::map<std::string, Instance>* kernels) {
  const Target target{"sm_90a", 132};
  const OpImpl& op = *find_op(desc).value();
  REQUIRE(op.check_desc(desc).is_ok());
  for (const Config& config : op.candidates(desc, target, Point{64, 8})) {
    CHECK(op.check_config(desc, target, config).is_ok());
    const Instance instance = op.instance(desc, target, config);
    kernels->emplace(instance.entry, instance);
  }
}

}  // namespace

// Each number of heads with each head size, the other choices in turn.
TEST_CASE("mqa_logits: kernels compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  uint32_t turn = 0;
  for (const int64_t heads : {8, 16, 32, 64})
    for (const int64_t head_dim : {32, 64, 128}) {
      dgrt_mqa_logits_desc desc = DGRT_MQA_LOGITS_DESC;
      desc.num_heads = heads, desc.head_dim = head_dim, desc.max_tokens = 4096, desc.max_kv_tokens = 1 << 16;
      desc.dtype_out = turn % 2 ? DGRT_BF16 : DGRT_FP32;
      desc.flags = (turn / 2 % 2 ? DGRT_LOGITS_COMPRESSED : 0) | (turn / 3 % 2 ? 0 : DGRT_LOGITS_CLEAN);
      ++turn;
      collect(&desc.op, &kernels);
    }
  CHECK(kernels.size() == 12);
  compile_all(kernels, budget_ms);
}

// All numbers of tokens with all numbers of heads, the other choices in turn.
TEST_CASE("paged_mqa_logits: kernels compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  uint32_t turn = 0;
  for (const int64_t heads : {8, 16, 32, 64})
    for (const int64_t next_n : {1, 2, 3, 4}) {
      dgrt_paged_mqa_logits_desc desc = DGRT_PAGED_MQA_LOGITS_DESC;
      desc.num_heads = heads, desc.head_dim = turn % 3 == 0 ? 128 : turn % 3 == 1 ? 64 : 32, desc.next_n = next_n;
      desc.page_size = 32 << turn / 3 % 3;
      desc.max_batch = 4096, desc.max_context_len = 1 << 16;
      desc.dtype_out = turn % 2 ? DGRT_FP32 : DGRT_BF16;
      desc.flags = turn / 2 % 2 ? DGRT_LOGITS_CLEAN : 0;
      ++turn;
      collect(&desc.op, &kernels);
    }
  CHECK(kernels.size() == 16);
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
