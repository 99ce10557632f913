// Every kernel of attn_merge and kv_append compiles: without spills, within a time budget.
#include "dgrt/attention.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"
#include "tests/support/compile_sweep.h"

namespace dgrt::test {
namespace {

double budget_ms(const Instance&) { return 300; }

void collect(const dgrt_desc* desc, std::map<std::string, Instance>* kernels) {
  const Target target{"sm_90a", 132};
  const OpImpl& op = *find_op(desc).value();
  REQUIRE(op.check_desc(desc).is_ok());
  for (const Config& config : op.candidates(desc, target, Point{64, 8})) {
    const Instance instance = op.instance(desc, target, config);
    kernels->emplace(instance.entry, instance);
  }
}

}  // namespace

TEST_CASE("attn_merge: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const dgrt_dtype part : {DGRT_BF16, DGRT_FP16, DGRT_FP32})
    for (const dgrt_dtype o : {DGRT_BF16, DGRT_FP16, DGRT_FP32}) {
      dgrt_attn_merge_desc desc = DGRT_ATTN_MERGE_DESC;
      desc.num_heads = 16, desc.head_dim = 128, desc.max_tokens = 4096, desc.max_parts = 64;
      desc.dtype_part = part, desc.dtype_o = o;
      collect(&desc.op, &kernels);
    }
  CHECK(kernels.size() == 36);
  compile_all(kernels, budget_ms);
}

TEST_CASE("kv_append: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
    for (const dgrt_dtype cache : {dtype, dgrt_dtype{DGRT_E4M3}})
      for (const uint32_t flags : {0u, DGRT_KV_SLOTS_INT64}) {
        dgrt_kv_append_desc desc = DGRT_KV_APPEND_DESC;
        desc.num_kv_heads = 8, desc.head_dim_qk = desc.head_dim_v = 128, desc.max_tokens = 4096;
        desc.dtype = dtype, desc.dtype_cache = cache, desc.flags = flags;
        collect(&desc.op, &kernels);
      }
  CHECK(kernels.size() == 16);
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
