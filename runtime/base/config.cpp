#include "runtime/base/config.h"

#include <algorithm>
#include <cassert>

#include "runtime/base/format.h"

namespace dgrt {

const int64_t* Config::find(std::string_view name) const {
  for (const Field& field : fields_)
    if (field.first == name) return &field.second;
  return nullptr;
}

int64_t Config::operator[](std::string_view name) const {
  const int64_t* value = find(name);
  assert(value != nullptr);
  return *value;
}

void Config::set(std::string_view name, int64_t value) {
  for (Field& field : fields_) {
    if (field.first == name) {
      field.second = value;
      return;
    }
  }
  fields_.emplace_back(std::string(name), value);
}

// Values first: configs of one op have the same names.
bool Config::operator==(const Config& other) const {
  const auto have_same = [&](auto member) {
    return std::equal(fields_.begin(), fields_.end(), other.fields_.begin(),
                      [&](const Field& a, const Field& b) { return a.*member == b.*member; });
  };
  return fields_.size() == other.fields_.size() && have_same(&Field::second) &&
         have_same(&Field::first);
}

std::string Config::to_string() const {
  std::string text;
  for (const Field& field : fields_) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}={}", field.first, field.second);
  }
  return text;
}

}  // namespace dgrt
