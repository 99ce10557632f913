// DescCopy: a caller's desc, checked for op id and size and brought to the size this library knows.
// Older callers' structs are shorter and padded with zeros; newer callers' may be longer if the
// tail is zero.
#pragma once
#include <cstddef>
#include <vector>

#include "runtime/ops/op.h"

namespace dgrt {

using OpList = std::vector<const OpImpl*>;

// Copies a struct of `size_here` bytes (by this library) from `in` (by the caller) to `out`.
// Requires: `out` holds size_here bytes. `what` names the struct in messages: "desc", "args".
Status copy_struct(const dgrt_op* in, size_t size_here, const char* what, void* out);

class DescCopy {
 public:
  // INVALID_ARGUMENT: unknown op id, bad size, non-zero tail, or check_desc refuses. UNSUPPORTED:
  // no kernel serves these types.
  static Result<DescCopy> make(const dgrt_desc* desc, const OpList& ops);

  const OpImpl& op() const { return *op_; }
  const dgrt_desc* get() const { return reinterpret_cast<const dgrt_desc*>(bytes_.data()); }

 private:
  const OpImpl* op_ = nullptr;
  std::vector<std::byte> bytes_;  // on the heap, so aligned for any struct
};

}  // namespace dgrt
