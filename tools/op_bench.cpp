#include "tools/op_bench.h"

#include "runtime/engine/plan.h"
#include "tools/lib/lab_fill.h"

namespace dgrt {
namespace {

Status to_status(dgrt_status status) {
  return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
}

// The C API has no way to force a config, so that serving cannot; its handles are the engine's
// objects (runtime/api/c_api.cpp).
Result<dgrt_plan*> make_forced(dgrt_context* context, const dgrt_desc* desc, const Config& only) {
  DGRT_ASSIGN(std::unique_ptr<Plan> plan,
              Plan::create(*reinterpret_cast<Context*>(context), desc, &only));
  return reinterpret_cast<dgrt_plan*>(plan.release());
}

}  // namespace

Result<BenchPlan> BenchPlan::make(const BenchHost& host, const dgrt_desc* desc,
                                  const Config* only) {
  dgrt_plan* raw = nullptr;
  if (only) {
    DGRT_ASSIGN(raw, make_forced(host.context, desc, *only));
  } else {
    DGRT_TRY(to_status(dgrt_plan_create(host.context, desc, &raw)));
  }
  BenchPlan plan(raw);
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(raw, &info)));
  if (info.workspace_bytes == 0) return plan;
  const uint64_t num_words = (info.workspace_bytes + 3) / 4;
  DGRT_ASSIGN(plan.workspace_, lab::DeviceBuffer::make(host.device, num_words * 4));
  // The start of the workspace is state, which begins as zeros.
  DGRT_TRY(lab::fill_words(host.device, plan.workspace_.data(), num_words, 0));
  return plan;
}

Status BenchPlan::launch(const dgrt_args* args, CUstream stream) const {
  return to_status(dgrt_launch(plan_.get(), args, workspace_.data(), workspace_.bytes(), stream));
}

Result<std::string> BenchPlan::kernel_name(const dgrt_args* args) const {
  dgrt_call_info call = DGRT_CALL_INFO;
  DGRT_TRY(to_status(dgrt_plan_query(plan_.get(), args, &call)));
  dgrt_plan_info plan = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_.get(), &plan)));
  return std::string(plan.kernels[call.kernel_idx].name);
}

Result<BenchCheck> OpBench::check_launch(const BenchPlan& plan, const dgrt_args* args) const {
  DGRT_TRY(plan.launch(args, device().stream()));
  DGRT_TRY(device().synchronize());
  BenchCheck result;
  const Status checked = check(&result);
  if (checked.code() == DGRT_INTERNAL)
    result.wrong = checked.message();
  else
    DGRT_TRY(checked);
  return result;
}

Result<BenchRow> OpBench::run(int64_t m, uint32_t repeats) {
  if (!plan_) {
    DGRT_ASSIGN(BenchPlan plan, BenchPlan::make(host_, desc()));
    plan_ = std::move(plan);
  }
  BenchRow row;
  row.m = m;
  row.cost = cost(m);
  DGRT_ASSIGN(const dgrt_args* const args, prepare(m));
  DGRT_ASSIGN(row.kernel, plan_->kernel_name(args));
  DGRT_ASSIGN(row.check, check_launch(*plan_, args));
  if (!row.is_right()) return row;

  const lab::Operation operation = [&](CUstream stream) { return plan_->launch(args, stream); };
  DGRT_ASSIGN(row.cold, host_.timer.time(operation, repeats));
  DGRT_ASSIGN(row.graph, host_.timer.time_graph(operation, 20, repeats / 4));
  return row;
}

}  // namespace dgrt
