#include "tools/op_bench.h"

#include "tools/lib/lab_fill.h"

namespace dgrt {
namespace {

Status to_status(dgrt_status status) {
  return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
}

}  // namespace

OpBench::~OpBench() { dgrt_plan_destroy(plan_); }

Status OpBench::make_plan(const dgrt_desc* desc) {
  DGRT_TRY(to_status(dgrt_plan_create(host_.context, desc, &plan_)));
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_, &info)));
  if (info.workspace_bytes == 0) return ok();
  const uint64_t num_words = (info.workspace_bytes + 3) / 4;
  DGRT_ASSIGN(workspace_, lab::DeviceBuffer::make(device(), num_words * 4));
  // The start of the workspace is state, which begins as zeros.
  return lab::fill_words(device(), workspace_.data(), num_words, 0);
}

Result<std::string> OpBench::kernel_name(const dgrt_args* args) const {
  dgrt_call_info call = DGRT_CALL_INFO;
  DGRT_TRY(to_status(dgrt_plan_query(plan_, args, &call)));
  dgrt_plan_info plan = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_, &plan)));
  return std::string(plan.kernels[call.kernel_idx].name);
}

Status OpBench::launch(const dgrt_args* args, CUstream stream) const {
  return to_status(dgrt_launch(plan_, args, workspace_.data(), workspace_.bytes(), stream));
}

Result<BenchRow> OpBench::run(int64_t m, uint32_t repeats) {
  BenchRow row;
  row.m = m;
  row.cost = cost(m);
  DGRT_ASSIGN(const dgrt_args* const args, prepare(m));
  DGRT_ASSIGN(row.kernel, kernel_name(args));
  DGRT_TRY(launch(args, device().stream()));
  DGRT_TRY(device().synchronize());
  const Status checked = check(&row.check);
  if (checked.code() == DGRT_INTERNAL) {
    row.check.wrong = checked.message();
    return row;
  }
  DGRT_TRY(checked);

  const lab::Operation operation = [&](CUstream stream) { return launch(args, stream); };
  DGRT_ASSIGN(row.cold, host_.timer.time(operation, repeats));
  DGRT_ASSIGN(row.graph, host_.timer.time_graph(operation, 20, repeats / 4));
  return row;
}

}  // namespace dgrt
