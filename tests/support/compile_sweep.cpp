#include "tests/support/compile_sweep.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/compile/nvrtc.h"
#include "runtime/compile/unused_variables.h"
#include "tests/support/catch.h"
#include "tests/support/temp_kernels.h"

namespace dgrt::test {
namespace {

double thread_cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}

double compile_ms(const Nvrtc& nvrtc, const Instance& instance, const Sources& sources) {
  const double start_ms = thread_cpu_ms();
  REQUIRE(nvrtc.compile(instance, sources).is_ok());
  return thread_cpu_ms() - start_ms;
}

// How many times as long as on the core of the budgets a compile takes at this moment, at least 1: machines
// differ, and so does one machine with what others do on it.
double slowness(const Nvrtc& nvrtc) {
  constexpr double yardstick_ms = 120;
  static const TempKernels kernels{
      {"toy/toy.cuh",
       "#pragma once\n"
       "namespace dgrt::toy {\n"
       "struct Params { int* out; long size; };\n"
       "template <class Cfg> __device__ void run(const Params& p) {\n"
       "  __shared__ float rows[64][33];\n"
       "  float sums[64];\n"
       "  for (int i = 0; i < 64; ++i) sums[i] = rows[i][threadIdx.x] = p.out[i + threadIdx.x];\n"
       "  __syncthreads();\n"
       "#pragma unroll\n"
       "  for (int k = 0; k < 4; ++k)\n"
       "#pragma unroll\n"
       "    for (int i = 0; i < 64; ++i)\n"
       "      sums[i] = sums[i] * rows[(i + k) % 64][k] + sums[(i + 1) % 64];\n"
       "  float sum = 0;\n"
       "#pragma unroll\n"
       "  for (int i = 0; i < 64; ++i) sum += sums[i];\n"
       "  p.out[threadIdx.x] = Cfg::factor * sum;\n"
       "}\n"
       "}\n"}};
  static const Sources sources(kernels.path());
  return std::max(1.0, compile_ms(nvrtc, toy_instance(), sources) / yardstick_ms);
}

}  // namespace

void compile_all(const std::map<std::string, Instance>& kernels,
                 double (*budget_ms)(const Instance&)) {
  const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  INFO(nvrtc.status().message());
  REQUIRE(nvrtc.is_ok());
  const Sources sources;
  std::vector<const Instance*> todo;
  for (const auto& [entry, instance] : kernels) todo.push_back(&instance);
  std::atomic<size_t> next = 0;
  std::mutex mutex;  // of what follows
  std::vector<std::string> complaints;
  std::vector<const Instance*> slow;
  double slowest_ms = 0;
  double least_slowness = INFINITY;  // of a few moments, so that a busy one hides no slow kernel
  for (int i = 0; i < 3; ++i) least_slowness = std::min(least_slowness, slowness(*nvrtc.value()));
  const auto work = [&] {
    for (size_t i; (i = next++) < todo.size();) {
      const double start_ms = thread_cpu_ms();
      const Result<Compiled> compiled = nvrtc.value()->compile(*todo[i], sources);
      const double ms = thread_cpu_ms() - start_ms;
      std::string complaint;
      if (!compiled.is_ok())
        complaint = compiled.status().message();
      else if (!todo[i]->allow_spills &&
               (compiled.value().spills() || compiled.value().stack_bytes != 0))
        complaint = "spills";
      else if (compiled.value().log.find("serialized") != std::string::npos)
        complaint = "wgmma is serialised";
      else if (std::vector<uint8_t> image = compiled.value().cubin; remove_unused_variables(image, ""))
        complaint = "holds variables";
      const std::lock_guard lock(mutex);
      if (ms > budget_ms(*todo[i]) * least_slowness) slow.push_back(todo[i]);
      slowest_ms = std::max(slowest_ms, ms);
      if (!complaint.empty()) complaints.push_back(todo[i]->entry + ": " + complaint);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i)
    threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  // The same kernel took 564 to 697 ms beside others: what was over its budget is timed alone.
  for (const Instance* instance : slow) {
    double least_ms = INFINITY;
    for (int i = 0; i < 3 && least_ms > budget_ms(*instance); ++i) {
      const double ms = compile_ms(*nvrtc.value(), *instance, sources);
      least_ms = std::min(least_ms, ms / slowness(*nvrtc.value()));
    }
    if (least_ms > budget_ms(*instance))
      complaints.push_back(fmt::format("{}: took {:.0f} ms, by the yardstick", instance->entry, least_ms));
  }
  for (const std::string& complaint : complaints) FAIL_CHECK(complaint);
  WARN(kernels.size() << " kernels, the slowest took " << static_cast<int>(slowest_ms)
                      << " ms of CPU");
}

}  // namespace dgrt::test
