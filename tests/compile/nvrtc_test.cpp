// NVRTC itself: images, errors, determinism, the resource report, phases.
#include "runtime/compile/nvrtc.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "runtime/compile/key.h"
#include "runtime/compile/nvrtc_library.h"
#include "runtime/compile/ptxas_report.h"
#include "runtime/compile/unused_variables.h"
#include "tests/support/catch.h"
#include "tests/support/temp_kernels.h"

namespace dgrt {
namespace {

// Tests of this layer need NVRTC: without it they fail, saying why.
std::shared_ptr<const Nvrtc> compiler() {
  static const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  INFO(nvrtc.status().message());
  REQUIRE(nvrtc.is_ok());
  return nvrtc.value();
}

TempKernels toy_kernels() { return {{"toy/toy.cuh", toy_header}, {"toy/scale.cuh", toy_scale}}; }

Compiled compile(const Instance& instance, const std::string& kernels_dir) {
  Result<Compiled> compiled = compiler()->compile(instance, Sources(kernels_dir));
  INFO(compiled.status().message());
  REQUIRE(compiled.is_ok());
  return std::move(compiled).value();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("nvrtc: a kernel becomes an ELF image with its entry and its report", "[compile]") {
  const TempKernels kernels = toy_kernels();
  const Compiled compiled = compile(toy_instance(), kernels.path());
  REQUIRE(compiled.cubin.size() > 1000);
  const std::string image(compiled.cubin.begin(), compiled.cubin.end());
  CHECK(image.substr(0, 4) == "\177ELF");
  CHECK(contains(image, ".text.toy_f3"));
  CHECK(!contains(image, kernels.path()));
  CHECK(compiled.num_registers > 0);
  CHECK(compiled.num_registers <= 64);
  CHECK(compiled.stack_bytes == 0);
  CHECK(!compiled.spills());
  CHECK(compiled.total_ms > 0);
  CHECK(!compiled.phases.has_value());
}

TEST_CASE("nvrtc: equal inputs give equal images, wherever they lie and at any time", "[compile]") {
  const TempKernels here = toy_kernels(), there = toy_kernels();
  // An object with internal linkage: its mangled name would hold a random number without a seed.
  for (const TempKernels* kernels : {&here, &there})
    kernels->write("toy/scale.cuh",
                   std::string(toy_scale) +
                       "static __device__ int counter;\n"
                       "namespace { __device__ int hidden[4]; }\n"
                       "__device__ int* touch() { hidden[0]++; return &counter; }\n");
  const Compiled first = compile(toy_instance(), here.path());
  CHECK(compile(toy_instance(), here.path()).cubin == first.cubin);
  CHECK(compile(toy_instance(), there.path()).cubin == first.cubin);
}

TEST_CASE("nvrtc: constants are no variables of the image, unless the code reads them", "[compile]") {
  if (compiler()->id().major < 13) {
    WARN("images of NVRTC " << compiler()->id().major << " keep their variables");
    return;
  }
  const TempKernels kernels = toy_kernels();
  const auto has_variables = [&](const std::string& more) {
    kernels.write("toy/scale.cuh", std::string(toy_scale) + more);
    const std::vector<uint8_t> cubin = compile(toy_instance(), kernels.path()).cubin;
    std::vector<uint8_t> image = cubin;
    return remove_unused_variables(image, "");  // as if no code named any
  };
  CHECK_FALSE(has_variables("namespace dgrt { constexpr int unused = 3; }\n"));
  // The first entry is read where the host cannot know which: an array in memory, by its address.
  CHECK(has_variables("namespace dgrt { __device__ int table[2] = {1, 2};\n"
                      "__device__ int* keep(int i) { return &table[i]; }\n"
                      "extern \"C\" __global__ void other(int* p) { *p = *keep(*p); } }\n"));
}

TEST_CASE("nvrtc: a constant reaches the code", "[compile]") {
  const TempKernels kernels = toy_kernels();
  Instance other = toy_instance();
  other.cfg.set("factor", 5);
  CHECK(compile(other, kernels.path()).cubin != compile(toy_instance(), kernels.path()).cubin);
}

TEST_CASE("nvrtc: a compile error carries kernel, options, file, line and text", "[compile]") {
  const TempKernels kernels = toy_kernels();
  kernels.write("toy/scale.cuh", "#pragma once\nint x = undeclared_thing;\n");
  const Status status = compiler()->compile(toy_instance(), Sources(kernels.path())).status();
  CHECK(status.code() == DGRT_COMPILE_FAILED);
  INFO(status.message());
  CHECK(contains(status.message(), "toy_f3"));
  CHECK(contains(status.message(), "--gpu-architecture=sm_90a"));
  CHECK(contains(status.message(), "toy/scale.cuh(2)"));
  CHECK(contains(status.message(), "undeclared_thing"));
  CHECK(!contains(status.message(), kernels.path()));
}

TEST_CASE("nvrtc: the log of a failure is cut", "[compile]") {
  const TempKernels kernels = toy_kernels();
  std::string text = "#pragma once\n";
  for (int i = 0; i < 90; ++i) text += fmt::format("int x{} = undeclared_thing_{};\n", i, i);
  kernels.write("toy/scale.cuh", text);
  const Status status = compiler()->compile(toy_instance(), Sources(kernels.path())).status();
  CHECK(status.code() == DGRT_COMPILE_FAILED);
  CHECK(status.message().size() > 4000);
  CHECK(status.message().size() < 4500);
}

TEST_CASE("nvrtc: an unknown arch and an error in ptxas are compile failures", "[compile]") {
  const TempKernels kernels = toy_kernels();
  Instance instance = toy_instance();
  instance.arch = "sm_7z";
  Status status = compiler()->compile(instance, Sources(kernels.path())).status();
  CHECK(status.code() == DGRT_COMPILE_FAILED);
  CHECK(contains(status.message(), "sm_7z"));

  kernels.write("toy/scale.cuh",
                std::string(toy_scale) +
                    "__device__ int f() { asm volatile(\"nonsense;\"); return 0; }\n"
                    "__device__ int (*keep)() = f;\n");
  status = compiler()->compile(toy_instance(), Sources(kernels.path())).status();
  CHECK(status.code() == DGRT_COMPILE_FAILED);
  CHECK(contains(status.message(), "nonsense"));
}

TEST_CASE("nvrtc: a missing header fails before the compiler runs", "[compile]") {
  const TempKernels kernels{{"toy/toy.cuh", toy_header}};
  const Status status = compiler()->compile(toy_instance(), Sources(kernels.path())).status();
  CHECK(status.code() == DGRT_INTERNAL);
  CHECK(contains(status.message(), "toy/scale.cuh"));
}

TEST_CASE("nvrtc: spills are reported, not refused", "[compile]") {
  const TempKernels kernels = toy_kernels();
  // 1024 threads leave 64 registers for 160 live values.
  kernels.write("toy/toy.cuh",
                "#pragma once\n"
                "namespace dgrt::toy {\n"
                "struct Params { int* out; long size; };\n"
                "template <class Cfg> __device__ void run(const Params& p) {\n"
                "  int x[160];\n"
                "#pragma unroll\n"
                "  for (int i = 0; i < 160; ++i) x[i] = p.out[i * 1024 + threadIdx.x];\n"
                "  __syncthreads();\n"
                "#pragma unroll\n"
                "  for (int i = 0; i < 160; ++i) p.out[(159 - i) * 1024 + threadIdx.x] = x[i] * "
                "x[(i * 7) % 160];\n"
                "}\n"
                "}\n");
  Instance instance = toy_instance();
  instance.num_threads = 1024;
  const Compiled compiled = compile(instance, kernels.path());
  INFO(compiled.log);
  CHECK(compiled.num_registers == 64);
  CHECK(compiled.spills());
  CHECK(compiled.spill_store_bytes >= 4 * (160 - 64));
  CHECK(compiled.spill_load_bytes >= compiled.spill_store_bytes);
  CHECK(compiled.stack_bytes >= 4 * (160 - 64));
}

TEST_CASE("nvrtc: phases are measured on request and do not change the image", "[compile]") {
  const TempKernels kernels = toy_kernels();
  const Sources sources(kernels.path());
  const Result<Compiled> timed = compiler()->compile(toy_instance(), sources, true);
  REQUIRE(timed.is_ok());
  REQUIRE(timed.value().phases.has_value());
  const CompilePhases phases = *timed.value().phases;
  CHECK(phases.front_ms + phases.nvvm_ms + phases.ptxas_ms > 0);
  CHECK(phases.front_ms + phases.nvvm_ms + phases.ptxas_ms <= timed.value().total_ms + 3);
  CHECK(timed.value().cubin == compile(toy_instance(), kernels.path()).cubin);
}

TEST_CASE("nvrtc: several threads compile at once", "[compile]") {
  const TempKernels kernels = toy_kernels();
  const Sources sources(kernels.path());
  const std::shared_ptr<const Nvrtc> nvrtc = compiler();
  const Compiled expected = compile(toy_instance(), kernels.path());
  std::vector<Result<Compiled>> results(4, Result<Compiled>(Compiled()));
  std::vector<std::thread> threads;
  for (Result<Compiled>& result : results)
    threads.emplace_back([&] { result = nvrtc->compile(toy_instance(), sources, true); });
  for (std::thread& thread : threads) thread.join();
  for (const Result<Compiled>& result : results) {
    REQUIRE(result.is_ok());
    CHECK(result.value().cubin == expected.cubin);
    CHECK(result.value().phases.has_value());
  }
}

TEST_CASE("nvrtc: the compiler is named by version and build", "[compile]") {
  const CompilerId& id = compiler()->id();
  CHECK((id.major > 12 || (id.major == 12 && id.minor >= 8)));
  CHECK(std::any_of(id.build_id.begin(), id.build_id.end(), [](uint8_t x) { return x != 0; }));
  CHECK(std::filesystem::exists(compiler()->path()));
  CHECK(contains(compiler()->path(), "libnvrtc"));
  CHECK(Nvrtc::load().value()->id() == id);
}

TEST_CASE("image identity: tells images apart and does not depend on the address", "[compile]") {
  void* const library = dlopen(compiler()->path().c_str(), RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != nullptr);
  const auto nvrtc = image_identity(dlsym(library, "nvrtcVersion"));
  CHECK(nvrtc == compiler()->id().build_id);
  CHECK(nvrtc == image_identity(dlsym(library, "nvrtcCompileProgram")));
  CHECK(nvrtc != image_identity(reinterpret_cast<const void*>(&fopen)));
  dlclose(library);
}

TEST_CASE("nvrtc candidates: environment and toolkit folders in order", "[compile]") {
  setenv("VIRTUAL_ENV", "/nonexistent/venv", 1);
  setenv("CUDA_PATH", "relative", 1);
  setenv("CUDA_HOME", "/opt/some-cuda", 1);
  const std::vector<std::string> names = nvrtc_candidates();
  unsetenv("CUDA_HOME");
  unsetenv("CUDA_PATH");
  unsetenv("VIRTUAL_ENV");
  REQUIRE(names.size() >= 6);
  CHECK(names[0] == "libnvrtc.so.13");
  CHECK(names[1] == "libnvrtc.so.12");
  CHECK(names[2] == "/opt/some-cuda/lib64/libnvrtc.so.13");
  CHECK(names[4] == "/usr/local/cuda/lib64/libnvrtc.so.13");
  for (const std::string& name : names) CHECK(!contains(name, "relative"));
}

TEST_CASE("ptxas report: the largest value over the functions", "[compile]") {
  const PtxasReport report = parse_ptxas_report(
      "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
      "    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 1 barriers, 16 bytes cumulative stack size\n"
      "    0 bytes stack frame, 0 bytes spill stores, 20 bytes spill loads\n"
      "ptxas info    : 'setmaxnreg' ignored to maintain minimum register requirements.\n");
  CHECK(report.num_registers == 168);
  CHECK(report.stack_bytes == 16);
  CHECK(report.spill_store_bytes == 12);
  CHECK(report.spill_load_bytes == 20);
  CHECK(parse_ptxas_report("").num_registers == 0);
  CHECK(parse_ptxas_report(" registers").num_registers == 0);
}

}  // namespace
}  // namespace dgrt
