// Plan: one desc with its choices made and its kernels at hand. launch() is the hot path: check,
// find the cell, bind, driver call. Unless something is wrong it allocates nothing, takes no lock
// and makes no text.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/engine/context.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/kernel_store.h"
#include "runtime/engine/selection.h"

namespace dgrt {

// Immutable and thread safe. Kernels belong to the context and stay loaded when the plan goes.
class Plan {
 public:
  // `only`: the config that every call gets, see select_only(); null: what selection chooses.
  static Result<std::unique_ptr<Plan>> create(Context& context, const dgrt_desc* desc,
                                              const Config* only = nullptr);

  Status launch(const dgrt_args* args, void* workspace, size_t workspace_bytes,
                CUstream stream) const;
  Status query(const dgrt_args* args, dgrt_call_info* info) const;

  const std::vector<dgrt_kernel_info>& kernels() const { return infos_; }
  uint64_t workspace_bytes() const { return workspace_bytes_; }
  uint64_t state_bytes() const { return state_bytes_; }
  const Selection& selection() const { return selection_; }
  const OpImpl& op() const { return desc_.op(); }
  uint32_t kernel_idx_of(const Point& point) const {
    return choices_[selection_.lookup(point)].kernel_idx;
  }

 private:
  static constexpr size_t max_args_bytes = 512;
  struct BoundChoice {
    Prepared prepared;
    const Kernel* kernel;
    uint32_t kernel_idx;
  };
  // One call, after the checks that launch and query share.
  struct Call {
    alignas(16) std::byte padded[max_args_bytes];  // args of callers whose struct has another size
    const dgrt_args* args;
    Point point;
    const BoundChoice* choice;
    uint64_t workspace_bytes;
  };

  explicit Plan(DescCopy desc) : desc_(std::move(desc)) {}
  Status fill(Context& context, const PlannedKernels& planned);
  void find_workspace_bytes();
  Status resolve(const dgrt_args* args, Call* call) const;
  Status check_workspace(const Call& call, const void* workspace, size_t workspace_bytes) const;
  Status check_stream(CUstream stream) const;
  Status check_other_context(CUcontext context) const;

  const DescCopy desc_;
  Selection selection_;
  std::vector<BoundChoice> choices_;  // parallel to selection_.choices
  std::vector<dgrt_kernel_info> infos_;
  std::vector<std::string> texts_;  // what infos_ points into
  uint64_t workspace_bytes_ = 0, state_bytes_ = 0;
  const Device* device_ = nullptr;  // null: compile only
};

}  // namespace dgrt
