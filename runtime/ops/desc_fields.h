// The fields of every op's desc, by name: what recordings and manifests are written in. One row per
// struct member; a new op adds its table to desc_fields.cpp. A unit test fails if a byte of a desc
// of all_ops() belongs to no row.
#pragma once
#include <cstdint>
#include <span>

#include "dgrt/dgrt.h"

namespace dgrt {

struct FieldValue {
  const char* name;  // "bf16"
  uint32_t value;    // DGRT_BF16; of flags: one bit
};

struct DescField {
  enum class Kind { int64, uint32, choice, flags, reserved };
  const char* name;  // of the member: "dtype_ab"
  uint32_t offset, bytes;
  Kind kind;                           // choice and flags are uint32 with names for their values
  std::span<const FieldValue> values;  // of choice and flags
};

struct DescFields {
  uint32_t op_id;
  const char* op;  // API name: "gemm"
  uint32_t desc_size;
  std::span<const DescField> fields;
};

std::span<const DescFields> all_desc_fields();
// Null: no such op.
const DescFields* find_desc_fields(uint32_t op_id);

}  // namespace dgrt
