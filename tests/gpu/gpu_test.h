// What every GPU test begins with: the device, one dgrt context on it, and a record of what was
// run. Where there is no device a test says that it was skipped; it never passes silently.
#pragma once
#include <memory>
#include <string>
#include <utility>

#include "dgrt/gemm.h"
#include "tests/support/catch.h"
#include "tests/support/gpu_record.h"
#include "tools/lib/lab_device.h"

namespace dgrt::test {

struct Gpu {
  std::unique_ptr<lab::Device> lab;
  dgrt_context* context = nullptr;
  ~Gpu() { dgrt_context_destroy(context); }
  // Have launches of plans of the context left compiling and loading to plan creation?
  Status check_hot_path() const;
};

// The process's one; NO_DEVICE and the like say why there is none. Kernels come from and go to the
// directory in DGRT_CACHE_DIR; without that variable they live in memory.
const Result<std::unique_ptr<Gpu>>& open_gpu();

// Null: records and reports that `test` was skipped. Fails the test where a device exists but does
// not work.
Gpu* gpu_for(const char* test);

// The status of a C call, with its message.
inline Status to_status(dgrt_status status) {
  return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
}

// Owner of a plan and of the workspace that it wants.
class Plan {
 public:
  static Result<Plan> make(Gpu& gpu, const dgrt_desc* desc);
  Plan() = default;
  ~Plan() { dgrt_plan_destroy(plan_); }
  Plan(Plan&& other) noexcept { *this = std::move(other); }
  Plan& operator=(Plan&& other) noexcept {
    std::swap(plan_, other.plan_);
    std::swap(workspace_, other.workspace_);
    return *this;
  }

  Status launch(const dgrt_args* args, CUstream stream) const {
    return launch(args, workspace_, stream);
  }
  // With a workspace of the caller's: calls that may overlap must not share one.
  Status launch(const dgrt_args* args, const lab::DeviceBuffer& workspace, CUstream stream) const;
  // Dirty, but for the state at its start. Of no bytes, when the plan wants none.
  Result<lab::DeviceBuffer> make_workspace(const Gpu& gpu) const;
  // Entry name of the kernel that a call takes; notes it in the record.
  Result<std::string> kernel_name(const dgrt_args* args) const;
  Result<dgrt_call_info> query(const dgrt_args* args) const;
  Status check_guards() const { return workspace_.bytes() == 0 ? ok() : workspace_.check_guards(); }
  const lab::DeviceBuffer& workspace() const { return workspace_; }
  const dgrt_plan* get() const { return plan_; }

 private:
  dgrt_plan* plan_ = nullptr;
  lab::DeviceBuffer workspace_;
};

// A plan of attention has kernels for every number of sequences and keys, but a call takes one. A batch-invariant plan
// has one or two, which is enough where a case is about something that does not depend on the tiles, as other cases
// have those.
inline uint32_t few_kernels_unless(bool all) { return all ? 0u : uint32_t{DGRT_FLAG_BATCH_INVARIANT}; }

// Runs body() -> Result<std::string> as one case: recorded, and a failure of the running test names
// it. The string says how good the result was. A launch that compiled or loaded is a failure.
template <class Body>
void run_case(const std::string& name, const Body& body) {
  CaseRecord record(name);
  Result<std::string> result = body();
  if (result.is_ok() && open_gpu().is_ok()) {
    const Status status = open_gpu().value()->check_hot_path();
    if (!status.is_ok()) result = status;
  }
  if (result.is_ok()) {
    record.pass(result.value());
    CHECK(result.is_ok());
    return;
  }
  record.fail(result.status().message());
  INFO(name << ": " << result.status().message());
  CHECK(result.is_ok());
}

}  // namespace dgrt::test
