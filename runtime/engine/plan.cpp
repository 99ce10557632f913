#include "runtime/engine/plan.h"

#include <algorithm>
#include <cstdint>

#include "runtime/base/nvtx.h"
#include "runtime/driver/launch.h"
#include "runtime/engine/launch_scope.h"

namespace dgrt {
namespace {

constexpr uint64_t workspace_alignment = 256;  // bytes; what cudaMalloc gives

// Handles of the driver that mean a stream of the current context: NULL, CU_STREAM_LEGACY,
// CU_STREAM_PER_THREAD.
bool is_current_context_stream(CUstream stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }

}  // namespace

Result<std::unique_ptr<Plan>> Plan::create(Context& context, const dgrt_desc* desc,
                                           const Config* only) {
  DGRT_ASSIGN(DescCopy copy, DescCopy::make(desc, context.ops()));
  if (copy.op().args_size > max_args_bytes)
    return error(DGRT_INTERNAL, "{}: args of {} bytes", copy.op().stem, copy.op().args_size);
  const NvtxRange range("dgrt plan", copy.op().stem);
  std::unique_ptr<Plan> plan(new Plan(std::move(copy)));
  plan->device_ = context.device();
  DGRT_ASSIGN(plan->selection_,
              only ? select_only(plan->op(), plan->desc_.get(), context.target(), *only)
                   : context.choose(plan->desc_));
  DGRT_ASSIGN(const PlannedKernels planned,
              planned_kernels(plan->desc_, plan->selection_, context.target(), context.sources()));
  DGRT_TRY(plan->fill(context, planned));
  plan->find_workspace_bytes();
  if (plan->workspace_bytes_ != 0)
    plan->state_bytes_ = plan->op().state_bytes(plan->desc_.get(), context.target());
  if (!only) context.recorder().add(plan->desc_.get());
  return plan;
}

Status Plan::fill(Context& context, const PlannedKernels& planned) {
  std::vector<const Kernel*> kernels;
  texts_.reserve(3 * planned.kernels.size());  // infos_ keeps pointers to the texts
  for (const PlannedKernel& kernel : planned.kernels) {
    DGRT_ASSIGN(const KernelStore::Got got,
                context.kernels().get(kernel.key, kernel.instance, kernel.smem_bytes,
                                      KernelStore::Wait::yes));
    kernels.push_back(got.kernel);
    texts_.push_back(kernel.instance.entry);
    texts_.push_back(kernel.key.hex());
    texts_.push_back(kernel.config.to_string());
    const size_t i = texts_.size() - 3;
    infos_.push_back({texts_[i].c_str(), texts_[i + 1].c_str(), texts_[i + 2].c_str(), got.source,
                      got.kernel->num_registers});
  }
  for (size_t i = 0; i < selection_.choices.size(); ++i) {
    const uint32_t kernel_idx = planned.kernel_of_choice[i];
    choices_.push_back({op().prepare(desc_.get(), context.target(), selection_.choices[i].config),
                        kernels[kernel_idx], kernel_idx});
  }
  return ok();
}

// Within a cell an op's workspace is monotonic in every selector variable.
void Plan::find_workspace_bytes() {
  for (size_t cell = 0; cell < selection_.cells.size(); ++cell)
    for (const Point& corner : selection_.corners(cell))
      workspace_bytes_ = std::max(
          workspace_bytes_,
          op().workspace_bytes(desc_.get(), choices_[selection_.cells[cell]].prepared, corner));
}

Status Plan::resolve(const dgrt_args* args, Call* call) const {
  const OpImpl& op = desc_.op();
  if (args->id != op.op_id)
    return invalid("args.op.id={}: the plan is for op {} ({})", args->id, op.op_id, op.op);
  call->args = args;
  if (args->struct_size != op.args_size) {
    DGRT_TRY(copy_struct(args, op.args_size, "args", call->padded));
    call->args = reinterpret_cast<const dgrt_args*>(call->padded);
  }
  call->point = op.point(call->args);
  for (size_t i = 0; i < selection_.axes.size(); ++i) {
    const Axis& axis = selection_.axes[i];
    if (call->point[i] < 0 || call->point[i] > axis.max)
      return invalid("{}={}: must be 0 to {}, the bound in the plan's desc", axis.name,
                     call->point[i], axis.max);
  }
  DGRT_TRY(op.check_args(desc_.get(), call->args));
  call->choice = &choices_[selection_.lookup(call->point)];
  call->workspace_bytes = op.workspace_bytes(desc_.get(), call->choice->prepared, call->point);
  return ok();
}

Status Plan::check_workspace(const Call& call, const void* workspace,
                             size_t workspace_bytes) const {
  if (call.workspace_bytes == 0) return ok();
  if (workspace_bytes < call.workspace_bytes)
    return error(DGRT_WORKSPACE_TOO_SMALL,
                 "workspace_bytes={}: this call needs {}, the plan at most {}", workspace_bytes,
                 call.workspace_bytes, workspace_bytes_);
  if (!workspace) return invalid("workspace=NULL: this call needs {} bytes", call.workspace_bytes);
  if (reinterpret_cast<uintptr_t>(workspace) % workspace_alignment != 0)
    return invalid("workspace={}: must be aligned to {} bytes", workspace, workspace_alignment);
  return ok();
}

Status Plan::check_stream(CUstream stream) const {
  const Driver& driver = device_->driver();
  CUcontext context = nullptr;
  if (is_current_context_stream(stream))
    DGRT_CU(driver, cuCtxGetCurrent(&context));
  else
    DGRT_CU(driver, cuStreamGetCtx(stream, &context));
  if (context == device_->context()) return ok();
  return check_other_context(context);
}

// Kernels run in any context of their device, e.g. one that the engine made itself.
Status Plan::check_other_context(CUcontext context) const {
  const Driver& driver = device_->driver();
  if (!context) return invalid("stream=NULL: this thread has no current CUDA context");
  CUdevice device = 0;
  DGRT_CU(driver, cuCtxPushCurrent(context));
  const Status status = cu_status(driver, driver.cuCtxGetDevice(&device), "cuCtxGetDevice");
  CUcontext popped = nullptr;
  DGRT_CU(driver, cuCtxPopCurrent(&popped));
  DGRT_TRY(status);
  if (device == device_->handle()) return ok();
  return invalid("stream: belongs to CUDA device {}, the plan's context to device {}", device,
                 device_->handle());
}

Status Plan::launch(const dgrt_args* args, void* workspace, size_t workspace_bytes,
                    CUstream stream) const {
  const LaunchScope scope;
  Call call;
  DGRT_TRY(resolve(args, &call));
  DGRT_TRY(check_workspace(call, workspace, workspace_bytes));
  if (!device_) return error(DGRT_NO_DEVICE, "{}: the context is compile-only", desc_.op().op);
  DGRT_TRY(check_stream(stream));
  const Driver& driver = device_->driver();
  const Kernel& kernel = *call.choice->kernel;
  const NvtxRange range(infos_[call.choice->kernel_idx].name);
  Launch launch;
  DGRT_TRY(
      desc_.op().bind(desc_.get(), call.args, call.choice->prepared, driver, workspace, &launch));
  if (launch.grid[0] == 0) return ok();
  KernelLaunch kernel_launch;
  kernel_launch.kernel = kernel.loaded->handle();
  kernel_launch.grid = launch.grid;
  kernel_launch.cluster = launch.cluster;
  kernel_launch.num_threads = launch.num_threads;
  kernel_launch.smem_bytes = launch.smem_bytes;
  kernel_launch.pdl = launch.pdl;
  kernel_launch.params = launch.params;
  return dgrt::launch(driver, kernel_launch, stream);
}

Status Plan::query(const dgrt_args* args, dgrt_call_info* info) const {
  Call call;
  DGRT_TRY(resolve(args, &call));
  if (!device_) return error(DGRT_NO_DEVICE, "{}: the context is compile-only", desc_.op().op);
  Launch launch;
  // Nothing is launched, so any aligned non-null address does as the workspace.
  auto* workspace = reinterpret_cast<void*>(workspace_alignment);
  DGRT_TRY(desc_.op().bind(desc_.get(), call.args, call.choice->prepared, device_->driver(),
                           workspace, &launch));
  info->kernel_idx = call.choice->kernel_idx;
  std::copy_n(launch.grid, 3, info->grid);
  std::copy_n(launch.cluster, 3, info->cluster);
  info->num_threads = launch.num_threads;
  info->smem_bytes = launch.smem_bytes;
  info->block_m = launch.block_m;
  info->completion_threshold = launch.completion_threshold;
  info->workspace_bytes = call.workspace_bytes;
  return ok();
}

}  // namespace dgrt
