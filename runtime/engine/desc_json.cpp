#include "runtime/engine/desc_json.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/ops/desc_fields.h"

namespace dgrt {
namespace {

using Json = nlohmann::ordered_json;
using Kind = DescField::Kind;

constexpr size_t max_descs = 100'000;  // more are no list of a model's layers

template <class T>
T load(const dgrt_desc* desc, const DescField& field) {
  T value;
  std::memcpy(&value, reinterpret_cast<const std::byte*>(desc) + field.offset, sizeof(T));
  return value;
}

template <class T>
void store(DescBytes* desc, const DescField& field, T value) {
  std::memcpy(desc->data() + field.offset, &value, sizeof(T));
}

Json choice_to_json(const DescField& field, uint32_t value) {
  for (const FieldValue& known : field.values)
    if (known.value == value) return known.name;
  return value;
}

Json flags_to_json(const DescField& field, uint32_t bits) {
  Json names = Json::array();
  for (const FieldValue& known : field.values) {
    if ((bits & known.value) == 0) continue;
    names.push_back(known.name);
    bits &= ~known.value;
  }
  if (bits != 0) names.push_back(bits);
  return names;
}

Json to_json(const dgrt_desc* desc, const DescField& field) {
  switch (field.kind) {
    case Kind::int64:
      return load<int64_t>(desc, field);
    case Kind::choice:
      return choice_to_json(field, load<uint32_t>(desc, field));
    case Kind::flags:
      return flags_to_json(field, load<uint32_t>(desc, field));
    case Kind::uint32:
    case Kind::reserved:
      break;
  }
  return load<uint32_t>(desc, field);
}

bool is_zero(const dgrt_desc* desc, const DescField& field) {
  const auto* bytes = reinterpret_cast<const std::byte*>(desc) + field.offset;
  return std::all_of(bytes, bytes + field.bytes, [](std::byte b) { return b == std::byte{0}; });
}

std::string allowed_names(const DescField& field) {
  std::string text;
  for (const FieldValue& known : field.values)
    text += (text.empty() ? "" : ", ") + std::string(known.name);
  return text;
}

// For messages, whatever bytes the file holds.
std::string shown(const Json& json) {
  return json.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 60);
}

Result<uint32_t> read_uint32(const DescField& field, const Json& json) {
  if (json.is_number_unsigned() && json.get<uint64_t>() <= UINT32_MAX) return json.get<uint32_t>();
  return invalid("{}={}: must be a whole number from 0 to {}", field.name, shown(json), UINT32_MAX);
}

// A name or a number.
Result<uint32_t> read_named(const DescField& field, const Json& json) {
  if (!json.is_string()) return read_uint32(field, json);
  const std::string& name = json.get_ref<const std::string&>();
  for (const FieldValue& known : field.values)
    if (name == known.name) return known.value;
  return invalid("{}={}: must be one of {}", field.name, shown(json), allowed_names(field));
}

Result<uint32_t> read_flags(const DescField& field, const Json& json) {
  if (!json.is_array()) return read_uint32(field, json);
  uint32_t bits = 0;
  for (const Json& name : json) {
    DGRT_ASSIGN(const uint32_t bit, read_named(field, name));
    bits |= bit;
  }
  return bits;
}

Status read_field(const DescField& field, const Json& json, DescBytes* desc) {
  if (field.kind == Kind::int64) {
    // Numbers from 2^63 are unsigned to the parser.
    if (!json.is_number_integer() ||
        (json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX}))
      return invalid("{}={}: must be a whole number of 64 bits", field.name, shown(json));
    store(desc, field, json.get<int64_t>());
    return ok();
  }
  uint32_t value = 0;
  if (field.kind == Kind::flags) {
    DGRT_ASSIGN(value, read_flags(field, json));
  } else if (field.kind == Kind::choice) {
    DGRT_ASSIGN(value, read_named(field, json));
  } else {
    DGRT_ASSIGN(value, read_uint32(field, json));
  }
  store(desc, field, value);
  return ok();
}

Result<const DescFields*> read_op(const Json& json) {
  if (!json.is_object()) return invalid("{}: must be an object", shown(json));
  const auto op = json.find("op");
  if (op == json.end() || !op->is_string()) return invalid("op: must be the name of an op");
  std::string names;
  for (const DescFields& fields : all_desc_fields()) {
    if (op->get_ref<const std::string&>() == fields.op) return &fields;
    names += (names.empty() ? "" : ", ") + std::string(fields.op);
  }
  return invalid("op={}: must be one of {}", shown(*op), names);
}

Result<DescBytes> desc_from_json(const Json& json) {
  DGRT_ASSIGN(const DescFields* of, read_op(json));
  DescBytes desc(of->desc_size);
  const dgrt_op head = {of->op_id, of->desc_size};
  std::memcpy(desc.data(), &head, sizeof(head));
  for (const auto& item : json.items()) {
    const std::string& name = item.key();
    const auto& value = item.value();
    if (name == "op") continue;
    const auto field = std::find_if(of->fields.begin(), of->fields.end(),
                                    [&](const DescField& f) { return name == f.name; });
    if (field == of->fields.end()) return invalid("{}: {} has no such field", shown(name), of->op);
    DGRT_TRY(read_field(*field, value, &desc));
  }
  return desc;
}

Status add(const Json& json, const std::string& place, std::vector<DescBytes>* descs) {
  Result<DescBytes> desc = desc_from_json(json);
  if (!desc.is_ok()) return invalid("{}: {}", place, desc.status().message());
  if (descs->size() >= max_descs) return invalid("{}: more than {} descs", place, max_descs);
  descs->push_back(std::move(desc).value());
  return ok();
}

// Keeps the first of equal ones, in their order.
std::vector<DescBytes> each_once(std::vector<DescBytes> descs) {
  std::vector<DescBytes> once;
  std::vector<std::string> seen;
  for (DescBytes& desc : descs) {
    const dgrt_desc* raw = desc.get();
    seen.emplace_back(reinterpret_cast<const char*>(raw), raw->struct_size);
  }
  std::vector<std::string> sorted;
  for (size_t i = 0; i < descs.size(); ++i) {
    const auto at = std::lower_bound(sorted.begin(), sorted.end(), seen[i]);
    if (at != sorted.end() && *at == seen[i]) continue;
    sorted.insert(at, seen[i]);
    once.push_back(std::move(descs[i]));
  }
  return once;
}

}  // namespace

DescBytes::DescBytes(const dgrt_desc* desc)
    : bytes_(reinterpret_cast<const std::byte*>(desc),
             reinterpret_cast<const std::byte*>(desc) + desc->struct_size) {}

Result<std::string> desc_to_json(const dgrt_desc* desc) {
  const DescFields* of = find_desc_fields(desc->id);
  if (!of) return error(DGRT_UNSUPPORTED, "op {}: its fields have no names", desc->id);
  Json json = {{"op", of->op}};
  for (const DescField& field : of->fields)
    if (!is_zero(desc, field)) json[field.name] = to_json(desc, field);
  return json.dump();
}

Result<std::vector<DescBytes>> parse_manifest(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (!json.is_array()) return invalid("manifest: must be a JSON list of descs");
    std::vector<DescBytes> descs;
    for (size_t i = 0; i < json.size(); ++i)
      DGRT_TRY(add(json[i], fmt::format("manifest[{}]", i), &descs));
    return each_once(std::move(descs));
  } catch (const Json::exception& e) {
    return invalid("manifest: {}", e.what());
  }
}

Result<std::vector<DescBytes>> parse_recording(std::string_view text) {
  std::vector<DescBytes> descs;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string place = fmt::format("recording line {}", line);
    if (end > 0) try {
        DGRT_TRY(add(Json::parse(text.substr(0, end)), place, &descs));
      } catch (const Json::exception& e) {
        return invalid("{}: {}", place, e.what());
      }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return each_once(std::move(descs));
}

}  // namespace dgrt
