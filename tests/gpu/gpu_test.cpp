#include "tests/gpu/gpu_test.h"

#include <stdlib.h>

#include "runtime/driver/driver.h"
#include "tests/support/hot_path.h"

namespace dgrt::test {
namespace {

Result<std::unique_ptr<Gpu>> make_gpu() {
  auto gpu = std::make_unique<Gpu>();
  DGRT_ASSIGN(gpu->lab, lab::Device::open());
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  if (!getenv("DGRT_CACHE_DIR")) options.cache_dir = "";
  DGRT_TRY(to_status(dgrt_context_create(&options, &gpu->context)));
  const lab::DeviceInfo& info = gpu->lab->info();
  GpuRecord::instance().set_device(
      info.name, "CUDA " + cuda_version_string(static_cast<int>(info.driver_version)),
      info.compiler);
  return gpu;
}

}  // namespace

Status Gpu::check_hot_path() const {
  dgrt_stats stats = DGRT_STATS;
  DGRT_TRY(to_status(dgrt_context_get_stats(context, &stats)));
  return test::check_hot_path(stats);
}

const Result<std::unique_ptr<Gpu>>& open_gpu() {
  GpuRecord::instance();  // first, so that it is destroyed last
  static const Result<std::unique_ptr<Gpu>> gpu = make_gpu();
  return gpu;
}

Gpu* gpu_for(const char* test) {
  const Result<std::unique_ptr<Gpu>>& gpu = open_gpu();
  if (gpu.is_ok()) {
    const Status status = gpu.value()->lab->make_current();
    INFO(status.message());
    REQUIRE(status.is_ok());
    return gpu.value().get();
  }
  const Status& status = gpu.status();
  INFO(status.message());
  const bool absent = status.code() == DGRT_NO_DEVICE;
  if (!absent) GpuRecord::instance().add_case(test, "failed", status.message());
  REQUIRE(absent);
  GpuRecord::instance().add_case(test, "skipped", status.message());
  WARN("skipped: no CUDA device (" << status.message() << ")");
  return nullptr;
}

Result<Plan> Plan::make(Gpu& gpu, const dgrt_desc* desc) {
  Plan plan;
  // Its kernels side by side. A failure comes again.
  (void)dgrt_prepare(gpu.context, &desc, 1, nullptr, nullptr);
  DGRT_TRY(to_status(dgrt_plan_create(gpu.context, desc, &plan.plan_)));
  DGRT_ASSIGN(plan.workspace_, plan.make_workspace(gpu));
  return plan;
}

Result<lab::DeviceBuffer> Plan::make_workspace(const Gpu& gpu) const {
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_, &info)));
  if (info.workspace_bytes == 0) return lab::DeviceBuffer();
  DGRT_ASSIGN(lab::DeviceBuffer workspace, lab::DeviceBuffer::make(*gpu.lab, info.workspace_bytes));
  const std::vector<std::byte> state(info.state_bytes);
  DGRT_TRY(workspace.upload(state.data(), state.size()));
  return workspace;
}

Status Plan::launch(const dgrt_args* args, const lab::DeviceBuffer& workspace,
                    CUstream stream) const {
  return to_status(dgrt_launch(plan_, args, workspace.data(), workspace.bytes(), stream));
}

Result<dgrt_call_info> Plan::query(const dgrt_args* args) const {
  dgrt_call_info call = DGRT_CALL_INFO;
  DGRT_TRY(to_status(dgrt_plan_query(plan_, args, &call)));
  return call;
}

Result<std::string> Plan::kernel_name(const dgrt_args* args) const {
  DGRT_ASSIGN(const dgrt_call_info call, query(args));
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_, &info)));
  const dgrt_kernel_info& kernel = info.kernels[call.kernel_idx];
  GpuRecord::instance().add_kernel(kernel.name, kernel.key);
  return std::string(kernel.name);
}

}  // namespace dgrt::test
