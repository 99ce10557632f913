#include "runtime/engine/desc_copy.h"

#include <algorithm>
#include <cstring>

namespace dgrt {
namespace {

// A size beyond this is not a size: reading that far could leave the caller's memory.
constexpr uint32_t max_struct_bytes = 4096;

}  // namespace

Status copy_struct(const dgrt_op* in, size_t size_here, const char* what, void* out) {
  const uint32_t size = in->struct_size;
  if (size < sizeof(dgrt_op) || size > max_struct_bytes || size % sizeof(uint32_t) != 0)
    return invalid(
        "{}.op.struct_size={}: must be the struct's size; start from its initialiser macro", what,
        size);
  const auto* bytes = reinterpret_cast<const unsigned char*>(in);
  for (size_t i = size_here; i < size; ++i)
    if (bytes[i] != 0)
      return invalid("{}: byte {} is not zero; this library knows the first {} bytes only", what, i,
                     size_here);
  const size_t common = std::min<size_t>(size, size_here);
  std::memcpy(out, in, common);
  std::memset(static_cast<unsigned char*>(out) + common, 0, size_here - common);
  const auto known_size = static_cast<uint32_t>(size_here);
  std::memcpy(static_cast<unsigned char*>(out) + offsetof(dgrt_op, struct_size), &known_size,
              sizeof(known_size));
  return ok();
}

Result<DescCopy> DescCopy::make(const dgrt_desc* desc, const OpList& ops) {
  const auto same_id = [desc](const OpImpl* op) { return op->op_id == desc->id; };
  const auto first = std::find_if(ops.begin(), ops.end(), same_id);
  if (first == ops.end()) return invalid("desc.op.id={}: no such op", desc->id);
  DescCopy copy;
  copy.bytes_.resize((*first)->desc_size);
  DGRT_TRY(copy_struct(desc, (*first)->desc_size, "desc", copy.bytes_.data()));
  DGRT_ASSIGN(copy.op_, find_op(copy.get(), ops));
  DGRT_TRY(copy.op_->check_desc(copy.get()));
  return copy;
}

}  // namespace dgrt
