// Cold compiles: every kernel that the model layers of bench/shapes need, one after the other, once
// each, with the compiler's phases. The compiler library is loaded and warmed up before, as it is in a
// process that compiles more than one kernel. For numbers that mean something, one core of an idle
// machine: taskset -c 2 build/bench/dgrt_bench --benchmark_filter=compile/
#include <benchmark/benchmark.h>

#include <memory>
#include <set>
#include <string>

#include "bench/host_cost.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/compile/sources.h"
#include "runtime/engine/enumerate.h"

namespace dgrt {
namespace {

// Loaded at first use; benchmarks run in one thread.
const Result<std::shared_ptr<const Nvrtc>>& compiler() {
  static const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  return nvrtc;
}

const Sources& sources() {
  static const Sources all;
  return all;
}

void compile_cold(benchmark::State& state, const Instance& instance) {
  if (!compiler().is_ok()) return state.SkipWithError(compiler().status().message().c_str());
  const Nvrtc& nvrtc = *compiler().value();
  static const bool is_warm = nvrtc.compile(instance, sources()).is_ok();
  if (!is_warm) return state.SkipWithError("the first compile failed");
  double front_ms = 0, nvvm_ms = 0, ptxas_ms = 0, registers = 0, cubin_bytes = 0, spills = 0;
  for (auto _ : state) {
    const Result<Compiled> result = nvrtc.compile(instance, sources(), true);
    if (!result.is_ok()) return state.SkipWithError(result.status().message().c_str());
    const Compiled& compiled = result.value();
    if (compiled.phases) {
      front_ms += compiled.phases->front_ms;
      nvvm_ms += compiled.phases->nvvm_ms;
      ptxas_ms += compiled.phases->ptxas_ms;
    }
    registers = compiled.num_registers;
    cubin_bytes = static_cast<double>(compiled.cubin.size());
    spills = compiled.spill_store_bytes + compiled.spill_load_bytes;
  }
  const auto average = benchmark::Counter::kAvgIterations;
  state.counters["front_ms"] = benchmark::Counter(front_ms, average);
  state.counters["nvvm_ms"] = benchmark::Counter(nvvm_ms, average);
  state.counters["ptxas_ms"] = benchmark::Counter(ptxas_ms, average);
  state.counters["registers"] = registers;
  state.counters["cubin_bytes"] = cubin_bytes;
  state.counters["spill_bytes"] = spills;
}

}  // namespace

void register_compile_benchmarks() {
  std::set<Key> known;
  for (const OpImpl* op : all_ops()) {
    const Result<std::vector<BenchDesc>> descs = layer_descs(op->stem);
    if (!descs.is_ok()) continue;
    for (const BenchDesc& desc : descs.value()) {
      const Result<std::vector<PlannedKernel>> kernels =
          enumerate(base(desc), {bench_arch, bench_sm_count});
      if (!kernels.is_ok()) continue;
      for (const PlannedKernel& kernel : kernels.value()) {
        if (!known.insert(kernel.key).second) continue;
        benchmark::RegisterBenchmark(
            fmt::format("compile/{}/{}", op->stem, kernel.instance.entry).c_str(),
            [instance = kernel.instance](benchmark::State& state) {
              compile_cold(state, instance);
            })
            ->Unit(benchmark::kMillisecond)
            ->Iterations(1);
      }
    }
  }
}

}  // namespace dgrt
