// Config: the named integers that a table row or the model chooses for one kernel. Order is kept: it is
// the order of the fields in the generated source, in keys and in everything printed.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dgrt {

class Config {
 public:
  using Field = std::pair<std::string, int64_t>;
  Config() = default;
  Config(std::initializer_list<Field> fields) : fields_(fields) {}

  const int64_t* find(std::string_view name) const;
  // Requires: the field exists.
  int64_t operator[](std::string_view name) const;
  void set(std::string_view name, int64_t value);  // replaces or appends
  const std::vector<Field>& fields() const { return fields_; }
  std::string to_string() const;  // "block_m=128 block_n=128"
  bool operator==(const Config& other) const;

 private:
  std::vector<Field> fields_;
};

}  // namespace dgrt
