// Which kernels a selection stands for. Plan creation, dgrt_prepare and dgrt_enumerate all ask
// here, so they cannot disagree.
#pragma once
#include <vector>

#include "runtime/base/kernel_id.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/sources.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/selection.h"

namespace dgrt {

struct PlannedKernel {
  Key key;
  Instance instance;
  Config config;            // of the first choice that uses it
  uint32_t smem_bytes = 0;  // dynamic, per block
};

struct PlannedKernels {
  std::vector<PlannedKernel> kernels;      // distinct keys, in order of first use
  std::vector<uint32_t> kernel_of_choice;  // parallel to Selection::choices
};

Result<PlannedKernels> planned_kernels(const DescCopy& desc, const Selection& selection,
                                       const Target& target, const Sources& sources);

// A desc's kernels on a target, without a context: reads the environment itself.
Result<std::vector<PlannedKernel>> enumerate(const dgrt_desc* desc, const Target& target,
                                             const OpList& ops = all_ops());

// UNSUPPORTED or INVALID_ARGUMENT unless arch and SM count can be a target: "sm_90a", 132.
Status check_target(const Target& target);

// The op's embedded table under that of `overlay_dir` ("": none); see Table::load.
Table load_table(const OpImpl& op, const Sources& sources, const std::string& overlay_dir,
                 std::vector<std::string>* warnings);

}  // namespace dgrt
