#include "runtime/ops/op.h"

namespace dgrt {

Result<const OpImpl*> find_op(const dgrt_desc* desc, const std::vector<const OpImpl*>& ops) {
  const OpImpl* other = nullptr;
  std::string reasons;  // of the op's stems, each once
  for (const OpImpl* op : ops) {
    if (op->op_id != desc->id) continue;
    if (op->matches(desc)) return op;
    other = op;
    const std::string reason = op->check_desc(desc).message();
    if (reasons.find(reason) == std::string::npos)
      reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  if (!other) return invalid("desc.op.id={}: no such op", desc->id);
  return error(DGRT_UNSUPPORTED, "{}: no kernel takes these types ({})", other->op, reasons);
}

Result<const OpImpl*> find_op(const dgrt_desc* desc) { return find_op(desc, all_ops()); }

}  // namespace dgrt
