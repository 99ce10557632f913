// Every kernel that a table row names, the model's picks over a sweep of shapes and outputs, and a
// sample of what each op of the GEMM family can be asked for compile: without spills, without the
// assembler serialising wgmma, within a time budget. Needs libnvrtc, no GPU.
#include <algorithm>
#include <map>

#include "dgrt/gemm.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/selection.h"
#include "tests/support/catch.h"
#include "tests/support/compile_sweep.h"
#include "tests/support/random_desc.h"

namespace dgrt::test {
namespace {

// CPU time of one compile on one core of a CI machine that may share it. An idle 3 GHz core takes
// half. The largest tiles may take longer: e4m3 ones pay for an unrolled loop, others for adding c to
// 128 sums of each thread.
double budget_ms(const Instance& instance) {
  if (instance.cfg["block_m"] * instance.cfg["block_n"] < 128 * 192) return 600;
  const bool is_unrolled = instance.cfg.find("scale_mode") && instance.cfg["store_buffers"] != 0;
  return is_unrolled || instance.cfg["with_c"] != 0 ? 900 : 600;
}

dgrt_gemm_desc gemm_desc(dgrt_dtype dtype, int64_t n, int64_t k, dgrt_dtype d = DGRT_BF16,
                         uint32_t flags = 0) {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = n, desc.k = k, desc.max_m = 1 << 17;
  desc.dtype_ab = dtype, desc.dtype_d = d, desc.flags = flags;
  desc.scale_mode = dtype == DGRT_E4M3 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  return desc;
}

// Kernels of plans of `desc`, by entry name (which tells configs of one stem apart): all of them, or
// `most` that lie far apart.
void collect(const dgrt_desc* desc, const Target& target, size_t most,
             std::map<std::string, Instance>* kernels) {
  const OpImpl& op = *find_op(desc).value();
  std::vector<std::string> warnings;
  const Table table = load_table(op, Sources(), "", &warnings);
  const Result<Selection> selection = select(op, desc, target, table);
  INFO(op.stem << " " << op.shape(desc).to_string() << ": " << selection.status().message());
  REQUIRE(selection.is_ok());
  CHECK(selection.value().warnings.empty());
  CHECK(warnings.empty());
  const std::vector<Choice>& choices = selection.value().choices;
  const size_t count = std::min(most, choices.size());
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count == 1 ? 0 : i * (choices.size() - 1) / (count - 1);
    const Instance instance = op.instance(desc, target, choices[at].config);
    const auto [known, added] = kernels->emplace(instance.entry, instance);
    if (!added) CHECK(known->second == instance);
  }
}
void collect(const dgrt_gemm_desc& desc, const Target& target,
             std::map<std::string, Instance>* kernels) {
  collect(&desc.op, target, SIZE_MAX, kernels);
}

}  // namespace

TEST_CASE("gemm: every table row and the model's picks compile", "[compile]") {
  const Target h200{"sm_90a", 132};
  std::map<std::string, Instance> kernels;
  for (const dgrt_dtype dtype : {DGRT_E4M3, DGRT_BF16}) {
    // DeepSeek-V3 (all of which have table rows), Qwen3, Llama; no row matches the later ones.
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{2112, 7168},
                                                                       {24576, 1536},
                                                                       {32768, 512},
                                                                       {7168, 16384},
                                                                       {4096, 7168},
                                                                       {7168, 2048},
                                                                       {36864, 7168},
                                                                       {576, 7168},
                                                                       {6144, 4096},
                                                                       {24576, 4096},
                                                                       {28672, 4096},
                                                                       {256, 7168}})
      collect(gemm_desc(dtype, n, k), h200, &kernels);
    collect(gemm_desc(dtype, 2111, 576), h200, &kernels);             // rows that TMA cannot store
    collect(gemm_desc(dtype, 4096, 4096), {"sm_90a", 78}, &kernels);  // another part of the family
  }
  collect(gemm_desc(DGRT_BF16, 256, 7168, DGRT_FP32), h200, &kernels);
  collect(gemm_desc(DGRT_BF16, 4096, 7168, DGRT_BF16, DGRT_GEMM_WITH_C), h200, &kernels);
  collect(gemm_desc(DGRT_BF16, 4096, 7168, DGRT_FP32, DGRT_GEMM_WITH_C), h200, &kernels);
  compile_all(kernels, budget_ms);
}

TEST_CASE("gemm_batched: sums of batches compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const auto& [n, k, batches] :
       std::vector<std::tuple<int64_t, int64_t, uint32_t>>{{384, 128, 8192}, {4096, 1024, 16}})
    for (const auto& [dtype_d, flags] : std::vector<std::pair<dgrt_dtype, uint32_t>>{
             {DGRT_BF16, 0u},
             {DGRT_FP32, uint32_t{DGRT_GEMM_WITH_C}},
             {DGRT_BF16, DGRT_GEMM_WITH_C | DGRT_GEMM_UNALIGNED_D}}) {
      dgrt_gemm_batched_desc desc = DGRT_GEMM_BATCHED_DESC;
      desc.n = n, desc.k = k, desc.max_m = 4096;
      desc.num_batches = batches;
      desc.dtype_ab = DGRT_BF16, desc.dtype_d = dtype_d;
      desc.flags = flags | DGRT_GEMM_SUM_BATCHES;
      collect(&desc.op, {"sm_90a", 132}, 6, &kernels);
    }
  compile_all(kernels, budget_ms);
}

// What a random desc asks for is a sample of everything that may be combined; the numbers of a seed
// are the same everywhere.
TEST_CASE("products: what may be asked for together compiles", "[compile]") {
  const Target h200{"sm_90a", 132};
  std::map<std::string, Instance> kernels;
  Rng rng(41);
  for (const OpImpl* op : all_ops()) {
    const std::string_view stem = op->stem;
    if (stem.substr(0, 5) != "gemm_") continue;
    const bool dense = stem == "gemm_fp8" || stem == "gemm_bf16";
    for (int round = 0; round < (dense ? 6 : 3); ++round)
      collect(random_desc(*op, rng)->with_max_m(random_max_m).get(), h200, 3, &kernels);
  }
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
