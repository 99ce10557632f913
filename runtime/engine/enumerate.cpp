#include "runtime/engine/enumerate.h"

#include <algorithm>

#include "runtime/base/env.h"
#include "runtime/compile/key.h"

namespace dgrt {

Result<PlannedKernels> planned_kernels(const DescCopy& desc, const Selection& selection,
                                       const Target& target, const Sources& sources) {
  const OpImpl& op = desc.op();
  PlannedKernels result;
  for (const Choice& choice : selection.choices) {
    PlannedKernel kernel;
    kernel.instance = op.instance(desc.get(), target, choice.config);
    kernel.config = choice.config;
    kernel.smem_bytes = op.smem_bytes(desc.get(), choice.config);
    DGRT_ASSIGN(kernel.key, kernel_key(kernel.instance, sources));
    const auto it =
        std::find_if(result.kernels.begin(), result.kernels.end(),
                     [&](const PlannedKernel& other) { return other.key == kernel.key; });
    result.kernel_of_choice.push_back(static_cast<uint32_t>(it - result.kernels.begin()));
    if (it == result.kernels.end()) {
      result.kernels.push_back(std::move(kernel));
    } else if (it->smem_bytes != kernel.smem_bytes) {
      return error(DGRT_INTERNAL, "{}: smem_bytes {} and {} for one kernel", it->instance.entry,
                   it->smem_bytes, kernel.smem_bytes);
    }
  }
  return result;
}

Status check_target(const Target& target) {
  const std::string family = arch_family(target.arch);
  const bool is_arch = target.arch.substr(0, 3) == "sm_" && family.size() > 2 &&
                       family.size() < 7 &&
                       family.find_first_not_of("0123456789", 2) == std::string::npos;
  if (!is_arch) return invalid("arch={}: must look like sm_90a", target.arch);
  if (std::stoi(family.substr(2)) < 90)
    return error(DGRT_UNSUPPORTED, "arch={}: must be sm_90a or newer", target.arch);
  constexpr uint32_t max_sm_count = 4096;
  if (target.sm_count == 0 || target.sm_count > max_sm_count)
    return invalid("sm_count={}: must be 1 to {}", target.sm_count, max_sm_count);
  return ok();
}

Table load_table(const OpImpl& op, const Sources& sources, const std::string& overlay_dir,
                 std::vector<std::string>* warnings) {
  const std::string path = fmt::format("heuristics/tables/{}.json", op.stem);
  const std::vector<std::string> paths = sources.table_paths();
  std::string_view text;
  if (std::find(paths.begin(), paths.end(), path) != paths.end()) {
    const Result<const std::string*> found = sources.text(path);
    if (found.is_ok()) text = *found.value();
  }
  return Table::load(op.stem, text, overlay_dir, warnings);
}

Result<std::vector<PlannedKernel>> enumerate(const dgrt_desc* desc, const Target& target,
                                             const OpList& ops) {
  DGRT_TRY(check_target(target));
  DGRT_ASSIGN(const DescCopy copy, DescCopy::make(desc, ops));
  DGRT_ASSIGN(const Env env, read_env());
  const Sources sources(env.kernels_dir);
  std::vector<std::string> warnings;  // contexts report them
  const Table table = load_table(copy.op(), sources, env.heuristics_path, &warnings);
  DGRT_ASSIGN(const Selection selection, select(copy.op(), copy.get(), target, table));
  DGRT_ASSIGN(PlannedKernels planned, planned_kernels(copy, selection, target, sources));
  return std::move(planned.kernels);
}

}  // namespace dgrt
