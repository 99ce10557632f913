#include "runtime/ops/op.h"

namespace dgrt {

Result<const OpImpl*> find_op(const dgrt_desc* desc, const std::vector<const OpImpl*>& ops) {
  std::string reasons;
  const char* name = "";
  for (const OpImpl* op : ops) {
    if (op->op_id != desc->id) continue;
    if (op->matches(desc)) return op;
    name = op->op;
    const Status status = op->check_desc(desc);
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", op->stem,
                           status.is_ok() ? "made for other types" : status.message());
  }
  if (reasons.empty()) return invalid("desc.op.id={}: no such op", desc->id);
  return error(DGRT_UNSUPPORTED, "{}: no kernel takes these types ({})", name, reasons);
}

Result<const OpImpl*> find_op(const dgrt_desc* desc) { return find_op(desc, all_ops()); }

}  // namespace dgrt
