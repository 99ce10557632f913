// Every kernel of mla_decode, mla_sparse_decode and mla_sparse_prefill compiles: without spills, without the assembler
// serialising wgmma, within a time budget.
#include "dgrt/mla.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"
#include "tests/support/compile_sweep.h"

namespace dgrt::test {
namespace {

// 1.3 to 1.6 s of an idle core of these machines: three products with 64 x 576 rows each. The goal is 900 ms.
double budget_ms(const Instance&) { return 2500; }

// All configs of a desc, at one point.
template <class Desc>
void add_kernels(const Desc& desc, const Point& point, std::map<std::string, Instance>* kernels) {
  const Target target{"sm_90a", 132};
  const OpImpl& op = *find_op(&desc.op).value();
  REQUIRE(op.check_desc(&desc.op).is_ok());
  for (const Config& config : op.candidates(&desc.op, target, point)) {
    const Instance instance = op.instance(&desc.op, target, config);
    kernels->emplace(instance.entry, instance);
  }
}

}  // namespace

TEST_CASE("mla_decode: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  const auto add = [&](dgrt_dtype dtype, uint32_t flags, dgrt_dtype dtype_kv, dgrt_dtype dtype_q) {
    dgrt_mla_decode_desc desc = DGRT_MLA_DECODE_DESC;
    desc.num_q_heads = 128, desc.max_batch = 64, desc.max_q_len = 2, desc.max_kv_len = 4096;
    desc.dtype = dtype, desc.flags = flags, desc.dtype_kv = dtype_kv, desc.dtype_q = dtype_q;
    add_kernels(desc, Point{64, 2, 4096}, &kernels);
  };
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16}) {
    for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT}) add(dtype, flags, 0, 0);
    add(dtype, 0, DGRT_E4M3, DGRT_E4M3);
    add(dtype, DGRT_FLAG_BATCH_INVARIANT, DGRT_E4M3, dtype);
  }
  CHECK(kernels.size() == 8);
  compile_all(kernels, budget_ms);
}

TEST_CASE("mla_sparse_decode: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4})
    for (const uint32_t flags : {0u, uint32_t{DGRT_FLAG_BATCH_INVARIANT}, uint32_t{DGRT_MLA_NO_SPLIT}})
      for (const int64_t heads : {64, 128}) {
        dgrt_mla_sparse_decode_desc desc = DGRT_MLA_SPARSE_DECODE_DESC;
        desc.num_q_heads = heads, desc.max_tokens = 256, desc.max_keys = 2048;
        desc.format = format, desc.flags = flags;
        add_kernels(desc, Point{256, 2048}, &kernels);
      }
  CHECK(kernels.size() == 12);
  compile_all(kernels, budget_ms);
}

TEST_CASE("mla_sparse_prefill: every kernel compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
    for (const int64_t columns : {576, 512}) {
      dgrt_mla_sparse_prefill_desc desc = DGRT_MLA_SPARSE_PREFILL_DESC;
      desc.num_heads = 128, desc.head_dim_qk = columns, desc.max_tokens = 4096, desc.max_top_k = 2048;
      desc.dtype = dtype;
      add_kernels(desc, Point{4096, 2048}, &kernels);
    }
  CHECK(kernels.size() == 4);
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
