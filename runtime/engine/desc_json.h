// Descs as JSON and back, by the tables of desc_fields.h: {"op": "gemm", "n": 7168, "k": 2048,
// "max_m": 8192, "dtype_ab": "bf16", "dtype_d": "bf16", "flags": ["pdl"]}. Fields that are left out
// are zero. A value without a name is written as its number.
//
// A recording is such lines, one desc each; a manifest is one JSON list of them.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace dgrt {

// A desc in memory of its own, on the heap and so aligned for any.
class DescBytes {
 public:
  DescBytes() = default;
  // Requires: desc->struct_size bytes can be read.
  explicit DescBytes(const dgrt_desc* desc);
  explicit DescBytes(size_t size) : bytes_(size) {}
  const dgrt_desc* get() const { return reinterpret_cast<const dgrt_desc*>(bytes_.data()); }
  std::byte* data() { return bytes_.data(); }
  bool operator==(const DescBytes& other) const = default;

 private:
  std::vector<std::byte> bytes_;
};

// One line, fields in the struct's order, without zero fields. UNSUPPORTED: an op without a table.
// Requires: the desc has the size that this library knows.
Result<std::string> desc_to_json(const dgrt_desc* desc);

// Every desc of the text, each once. INVALID_ARGUMENT names place, field, value and rule. Whether
// an op takes the values is not judged here.
Result<std::vector<DescBytes>> parse_manifest(std::string_view json);
Result<std::vector<DescBytes>> parse_recording(std::string_view lines);

}  // namespace dgrt
