// The laboratory's kernels compile from the embedded files, without spills, where there is no GPU
// to try them on.
#include "runtime/compile/nvrtc.h"
#include "tests/support/catch.h"
#include "tools/lib/lab_attn_reference.cuh"
#include "tools/lib/lab_compare.cuh"
#include "tools/lib/lab_consumer.cuh"
#include "tools/lib/lab_fill.cuh"
#include "tools/lib/lab_gemm_check.cuh"
#include "tools/lib/lab_hc_reference.cuh"
#include "tools/lib/lab_mqa_reference.cuh"
#include "tools/lib/lab_timing.cuh"

namespace dgrt::test {
namespace {

struct LabInstance {
  const char* name;
  int kind;
  uint32_t num_threads, params_bytes;
};

const LabInstance instances[] = {
    {"fill", 0, 256, sizeof(lab::fill::Params)},
    {"compare", 0, 256, sizeof(lab::compare::Params)},
    {"gemm_check", lab::gemm_check::kind_bf16, 256, sizeof(lab::gemm_check::Params)},
    {"gemm_check", lab::gemm_check::kind_e4m3, 256, sizeof(lab::gemm_check::Params)},
    {"gemm_check", lab::gemm_check::kind_fp16, 256, sizeof(lab::gemm_check::Params)},
    {"attn_reference", lab::attn_reference::kind_compare, 128, sizeof(lab::attn_reference::Params)},
    {"attn_reference", lab::attn_reference::kind_erase, 128, sizeof(lab::attn_reference::Params)},
    {"consumer", 0, lab::consumer::num_threads, sizeof(lab::consumer::Params)},
    {"hc_reference", 0, 128, sizeof(lab::hc_reference::Params)},
    {"mqa_reference", 0, lab::mqa_reference::num_threads, sizeof(lab::mqa_reference::Params)},
    {"timing", lab::timing::kind_empty, 384, sizeof(lab::timing::Params)},
    {"timing", lab::timing::kind_read, 256, sizeof(lab::timing::Params)},
    {"timing", lab::timing::kind_spin, 32, sizeof(lab::timing::Params)}};

}  // namespace

TEST_CASE("lab kernels: compile without spills", "[compile]") {
  const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  INFO(nvrtc.status().message());
  REQUIRE(nvrtc.is_ok());
  const Sources sources;
  for (const LabInstance& lab : instances) {
    Instance instance;
    instance.stem = lab.name;
    instance.header = fmt::format("tools/lib/lab_{}.cuh", lab.name);
    instance.name_space = fmt::format("dgrt::lab::{}", lab.name);
    instance.entry = fmt::format("lab_{}_{}", lab.name, lab.kind);
    instance.arch = "sm_90a";
    instance.cfg = {{"kind", lab.kind}};
    instance.num_threads = lab.num_threads;
    instance.params_bytes = lab.params_bytes;
    const Result<Compiled> compiled = nvrtc.value()->compile(instance, sources);
    INFO(instance.entry << ": " << compiled.status().message());
    REQUIRE(compiled.is_ok());
    CHECK_FALSE(compiled.value().spills());
    CHECK(compiled.value().stack_bytes == 0);
  }
}

}  // namespace dgrt::test
