// What the emulator's own driver promises beyond running kernels: a fault fails the launch and its context, a bad
// copy only itself; a capture that something unsafe met gives no graph; nothing of it is a record of a GPU.
#include <stdlib.h>

#include <filesystem>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tests/support/temp_dir.h"

namespace dgrt::test {
namespace {

constexpr uint32_t launch_failed = 719, capture_invalidated = 901;  // of cuda.h

// These tests run only where they are asked for, so that a layer whose emulator is not there does not pass.
Gpu* emulated_gpu() {
  Gpu* gpu = gpu_for("emulated driver");
  INFO("docs/emulator.md says how to run the tests with this tag");
  REQUIRE(gpu != nullptr);
  REQUIRE(gpu->lab->info().name == "Emulated GPU");
  return gpu;
}

CUdeviceptr address(const lab::DeviceBuffer& buffer) { return reinterpret_cast<CUdeviceptr>(buffer.data()); }

// scale_layout on the second device, told of more rows than its output has room for.
Result<std::string> write_past_the_end() {
  Gpu gpu;
  DGRT_ASSIGN(gpu.lab, lab::Device::open(1));
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = 1;
  options.cache_dir = "";
  DGRT_TRY(to_status(dgrt_context_create(&options, &gpu.context)));
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = 7, desc.max_m = 4096;
  DGRT_ASSIGN(const Plan plan, Plan::make(gpu, &desc.op));
  DGRT_ASSIGN(const lab::DeviceBuffer src, lab::DeviceBuffer::make(*gpu.lab, 4096 * 7 * 4));
  DGRT_ASSIGN(const lab::DeviceBuffer dst, lab::DeviceBuffer::make(*gpu.lab, 4));
  dgrt_scale_layout_args args = DGRT_SCALE_LAYOUT_ARGS;
  args.src = src.as<float>(), args.dst = dst.as<float>();
  args.m = 4096, args.ld_src = 7, args.ld_dst = 4096;
  const Status status = plan.launch(&args.op, gpu.lab->stream());
  const Driver& cu = gpu.lab->driver();
  CUdeviceptr memory = 0;
  if (status.code() != DGRT_DRIVER_ERROR || status.message().find("LAUNCH_FAILED") == std::string::npos ||
      static_cast<uint32_t>(cu.cuCtxSynchronize()) != launch_failed ||
      static_cast<uint32_t>(cu.cuMemAlloc(&memory, 16)) != launch_failed)
    return error(DGRT_INTERNAL, "status {} \"{}\"", status.code(), status.message());
  return status.message();
}

}  // namespace

TEST_CASE("emulated driver: a kernel that writes where nothing is fails its context", "[emulated]") {
  Gpu* gpu = emulated_gpu();
  run_case("emulated driver: fault", [] { return write_past_the_end(); });
  REQUIRE(gpu->lab->make_current().is_ok());
  CHECK(gpu->lab->synchronize().is_ok());  // the other device's is not harmed
}

TEST_CASE("emulated driver: copies outside of memory are refused", "[emulated]") {
  Gpu* gpu = emulated_gpu();
  const Driver& cu = gpu->lab->driver();
  const CUstream stream = gpu->lab->stream();
  CUdeviceptr memory = 0;
  std::vector<std::byte> host(256);
  REQUIRE(cu.cuMemAlloc(&memory, 100) == CUDA_SUCCESS);
  CHECK(cu.cuMemcpyHtoDAsync(memory, host.data(), 100, stream) == CUDA_SUCCESS);
  CHECK(cu.cuMemcpyHtoDAsync(memory, host.data(), 101, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cu.cuMemcpyDtoHAsync(host.data(), memory + 60, 41, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cu.cuMemsetD8Async(memory - 1, 0, 1, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cu.cuMemFree(memory) == CUDA_SUCCESS);
  CHECK(cu.cuMemFree(memory) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cu.cuMemsetD8Async(memory, 0, 1, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(gpu->lab->synchronize().is_ok());
}

TEST_CASE("emulated driver: graphs replay what was captured, unless the capture was disturbed", "[emulated]") {
  Gpu* gpu = emulated_gpu();
  const Driver& cu = gpu->lab->driver();
  const CUstream stream = gpu->lab->stream();
  Result<lab::DeviceBuffer> made = lab::DeviceBuffer::make(*gpu->lab, 8);
  REQUIRE(made.is_ok());
  const CUdeviceptr memory = address(made.value());
  const auto read = [&] { return made.value().download_all<uint32_t>().value(); };

  Graph graph(cu);
  REQUIRE(capture(&graph, stream, [&]() -> Status {
            DGRT_CU(cu, cuMemsetD32Async(memory, 7, 1, stream));
            DGRT_CU(cu, cuMemcpyDtoDAsync(memory + 4, memory, 4, stream));
            return ok();
          }).is_ok());
  CHECK(read() == std::vector<uint32_t>{0xffffffff, 0xffffffff});
  REQUIRE(cu.cuGraphLaunch(graph.exec, stream) == CUDA_SUCCESS);
  CHECK(read() == std::vector<uint32_t>{7, 7});

  CUgraph none = nullptr;
  CUdeviceptr other = 0;
  REQUIRE(cu.cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == CUDA_SUCCESS);
  CHECK(cu.cuMemAlloc(&other, 16) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CHECK(static_cast<uint32_t>(cu.cuStreamEndCapture(stream, &none)) == capture_invalidated);
  CHECK(none == nullptr);
  CHECK(gpu->lab->synchronize().is_ok());
}

TEST_CASE("emulated driver: a run on it writes no record of a GPU", "[emulated]") {
  emulated_gpu();
  const TempDir dir;
  const std::string path = dir.path() + "/record.json";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = fmt::format("DGRT_GPU_RECORD='{}' '{}' 'emulated driver: copies*' >'{}/log' 2>&1", path,
                                          self, dir.path());
  CHECK(::system(command.c_str()) == 0);
  CHECK(std::filesystem::exists(dir.path() + "/log"));
  CHECK_FALSE(std::filesystem::exists(path));
}

}  // namespace dgrt::test
