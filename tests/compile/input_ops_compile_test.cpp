// Every legal config of quant_fp8, scale_layout and scale_pack_ue8m0 compiles, without spills and with the number of
// blocks per SM that its launch bound promises.
#include "dgrt/gemm.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"

namespace dgrt::test {
namespace {

constexpr uint32_t registers_per_sm = 65536, threads_per_sm = 2048;  // SM90

void compile_all(const dgrt_desc* desc) {
  const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  INFO(nvrtc.status().message());
  REQUIRE(nvrtc.is_ok());
  const Sources sources;
  const Target target{"sm_90a", 132};
  const Result<const OpImpl*> found = find_op(desc);
  REQUIRE(found.is_ok());
  const OpImpl& op = *found.value();
  REQUIRE(op.check_desc(desc).is_ok());
  for (const Config& config : op.candidates(desc, target, Point{4096})) {
    const Instance instance = op.instance(desc, target, config);
    const Status legal = op.check_config(desc, target, config);
    INFO(instance.entry << ": " << legal.message());
    REQUIRE(legal.is_ok());
    CHECK(op.cost_ps(desc, target, Point{4096}, config) >=
          op.cost_ps(desc, target, Point{1}, config));
    const Result<Compiled> compiled = nvrtc.value()->compile(instance, sources);
    INFO(compiled.status().message());
    REQUIRE(compiled.is_ok());
    CHECK_FALSE(compiled.value().spills());
    CHECK(compiled.value().stack_bytes == 0);
    const uint32_t threads = instance.num_threads * instance.min_blocks;
    CHECK(threads <= threads_per_sm);
    CHECK(compiled.value().num_registers * threads <= registers_per_sm);
  }
}

}  // namespace

TEST_CASE("quant_fp8: every config compiles without spills", "[compile]") {
  for (const dgrt_quant_block block : {DGRT_QUANT_1X128, DGRT_QUANT_128X128}) {
    dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
    desc.k = 7168, desc.max_m = 4096, desc.block = block;
    compile_all(&desc.op);
  }
}

TEST_CASE("scale_layout: every config compiles without spills", "[compile]") {
  for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR}) {
    dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
    desc.k_blocks = 56, desc.max_m = 4096, desc.src_major = major;
    compile_all(&desc.op);
  }
}

TEST_CASE("scale_pack_ue8m0: every config compiles without spills", "[compile]") {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  desc.k_blocks = 56, desc.max_m = 4096;
  compile_all(&desc.op);
  desc.src_major = DGRT_MN_MAJOR;
  compile_all(&desc.op);
  desc.flags = DGRT_SCALE_K_GROUPED, desc.gran_k = 128, desc.num_groups = 4;
  compile_all(&desc.op);
}

}  // namespace dgrt::test
