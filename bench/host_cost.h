// What the host pays for dgrt: choosing, looking up, planning, compiling, launching. One function
// per file registers that file's benchmarks. A benchmark that this machine cannot run says why and
// counts as skipped.
#pragma once
#include <chrono>
#include <string_view>
#include <variant>
#include <vector>

#include "dgrt/gemm.h"
#include "runtime/base/status.h"
#include "tools/bench_shapes.h"

namespace dgrt {

void register_plan_benchmarks();
void register_boot_benchmarks();
void register_compile_benchmarks();
void register_launch_benchmarks();

// The linear layers of DeepSeek-V3, FP8 then BF16, up to 4096 rows.
Result<std::vector<dgrt_gemm_desc>> model_descs();

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The layers of all models that `dgrt bench` knows for a stem, up to 4096 rows where the op has rows.
Result<std::vector<BenchDesc>> layer_descs(std::string_view stem);
inline const dgrt_desc* base(const BenchDesc& desc) {
  return std::visit([](const auto& d) { return &d.op; }, desc);
}

// For benchmarks without a device.
inline constexpr const char* bench_arch = "sm_90a";
inline constexpr uint32_t bench_sm_count = 132;  // H100 and H200 SXM

}  // namespace dgrt
