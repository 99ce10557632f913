// dgrt_bench: host costs by Google Benchmark. Run with --benchmark_out=FILE
// --benchmark_out_format=json to record them; python/peers/render_results.py puts such a record
// into the README.
#include <benchmark/benchmark.h>

#include <fstream>
#include <string>
#include <variant>

#include "bench/host_cost.h"
#include "runtime/base/machine.h"

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

namespace {

// "Intel(R) Xeon(R) Platinum 8481C"; empty where the system does not say.
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t at = line.find(": ");
    if (line.rfind("model name", 0) == 0 && at != std::string::npos) return line.substr(at + 2);
  }
  return "";
}

}  // namespace
}  // namespace dgrt

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("processor", dgrt::processor_name());
  benchmark::AddCustomContext("processors_used", std::to_string(dgrt::machine_limits().num_cpus));
  dgrt::register_plan_benchmarks();
  dgrt::register_boot_benchmarks();
  dgrt::register_compile_benchmarks();
  dgrt::register_launch_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
