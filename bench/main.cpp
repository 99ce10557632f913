// dgrt_bench: host costs by Google Benchmark. Run with --benchmark_out=FILE
// --benchmark_out_format=json to record them; python/peers/render_results.py puts such a record
// into the README.
#include <benchmark/benchmark.h>

#include <variant>

#include "bench/host_cost.h"

namespace dgrt {

Result<std::vector<dgrt_gemm_desc>> model_descs() {
  std::vector<dgrt_gemm_desc> descs;
  for (const char* stem : {"gemm_fp8", "gemm_bf16"}) {
    DGRT_ASSIGN(const BenchShapes shapes, builtin_bench_shapes(stem));
    for (const BenchShape& shape : shapes.shapes) {
      if (shape.model != "DeepSeek-V3") continue;
      auto desc = std::get<dgrt_gemm_desc>(complete_desc(shapes, shape));
      desc.max_m = 4096;
      descs.push_back(desc);
    }
  }
  return descs;
}

Result<std::vector<BenchDesc>> layer_descs(std::string_view stem) {
  DGRT_ASSIGN(const BenchShapes shapes, builtin_bench_shapes(stem));
  std::vector<BenchDesc> descs;
  for (const BenchShape& shape : shapes.shapes) {
    descs.push_back(complete_desc(shapes, shape));
    std::visit(
        [](auto& desc) {
          if constexpr (requires { desc.max_m; }) desc.max_m = 4096;
        },
        descs.back());
  }
  return descs;
}

}  // namespace dgrt

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  dgrt::register_plan_benchmarks();
  dgrt::register_boot_benchmarks();
  dgrt::register_compile_benchmarks();
  dgrt::register_launch_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
