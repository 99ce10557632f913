#include "heuristics/table.h"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "runtime/base/fs.h"
#include "runtime/base/hash.h"
#include "runtime/base/kernel_id.h"

namespace dgrt {
namespace {

using Json = nlohmann::json;  // objects are ordered by name

constexpr size_t max_table_bytes = 16 << 20;

Status parse_range(const Json& value, std::string_view what, IntRange* range) {
  if (value.is_number_integer()) {
    range->lo = range->hi = value.get<int64_t>();
    return ok();
  }
  const auto is_end = [](const Json& end) { return end.is_number_integer() || end.is_null(); };
  if (!value.is_array() || value.size() != 2 || !is_end(value[0]) || !is_end(value[1]))
    return invalid("{}={}: must be an integer or [low, high]", what, value.dump());
  if (value[0].is_null() && value[1].is_null())
    return invalid("{}={}: must have an end, for it holds for every value", what, value.dump());
  range->lo = value[0].is_null() ? IntRange::least : value[0].get<int64_t>();
  range->hi = value[1].is_null() ? IntRange::largest : value[1].get<int64_t>();
  if (range->lo > range->hi) return invalid("{}={}: low is above high", what, value.dump());
  return ok();
}

Status parse_text(const Json& row, const char* name, std::string* text) {
  const auto it = row.find(name);
  if (it == row.end() || !it->is_string() || it->get_ref<const std::string&>().empty())
    return invalid("{}: a text is required", name);
  *text = it->get<std::string>();
  return ok();
}

bool is_family(std::string_view text) {
  return text.size() > 2 && text.substr(0, 2) == "sm" &&
         text.find_first_not_of("0123456789", 2) == std::string_view::npos;
}

Status parse_arch(const Json& row, std::string* family) {
  std::string arch;
  DGRT_TRY(parse_text(row, "arch", &arch));
  *family = arch_family(arch);
  if (!is_family(*family)) return invalid("arch={}: must look like sm90 or sm_90a", arch);
  return ok();
}

Status parse_use(const Json& row, Config* use) {
  const auto it = row.find("use");
  if (it == row.end() || !it->is_object() || it->empty())
    return invalid("use: an object with at least one field is required");
  for (const auto& [name, value] : it->items()) {
    if (!value.is_number_integer())
      return invalid("use.{}={}: must be an integer", name, value.dump());
    use->set(name, value.get<int64_t>());
  }
  return ok();
}

Result<TableRule> parse_rule(const Json& row) {
  constexpr std::string_view known[] = {"arch", "sm_count", "when", "use", "why", "measured"};
  if (!row.is_object()) return invalid("must be an object");
  for (const auto& item : row.items())
    if (std::find(std::begin(known), std::end(known), item.key()) == std::end(known))
      return invalid("{}: unknown field", item.key());
  TableRule rule;
  DGRT_TRY(parse_arch(row, &rule.family));
  if (const auto it = row.find("sm_count"); it != row.end()) {
    rule.sm_count.emplace();
    DGRT_TRY(parse_range(*it, "sm_count", &*rule.sm_count));
  }
  if (const auto it = row.find("when"); it != row.end()) {
    if (!it->is_object()) return invalid("when={}: must be an object", it->dump());
    for (const auto& [name, value] : it->items()) {
      IntRange range;
      DGRT_TRY(parse_range(value, "when." + name, &range));
      rule.when.emplace_back(name, range);
    }
  }
  DGRT_TRY(parse_use(row, &rule.use));
  DGRT_TRY(parse_text(row, "why", &rule.why));
  DGRT_TRY(parse_text(row, "measured", &rule.measured));
  return rule;
}

Status check_head(const Json& root, std::string_view stem, std::string_view file) {
  if (!root.is_object()) return invalid("{}: not a JSON object", file);
  const auto op = root.find("op");
  if (op == root.end() || !op->is_string() || op->get_ref<const std::string&>() != stem)
    return invalid("{}: op must be \"{}\"", file, stem);
  const auto schema = root.find("schema");
  if (schema == root.end() || !schema->is_number_integer() || schema->get<int64_t>() != 1)
    return invalid("{}: schema must be 1", file);
  const auto rules = root.find("rules");
  if (rules == root.end() || !rules->is_array()) return invalid("{}: rules must be a list", file);
  return ok();
}

// Text of <dir>/<name>; "" with OK if there is no such file.
Status read_overlay(const std::string& dir, const std::string& name, std::string* text) {
  FileSystem& fs = real_fs();
  File root, file;
  if (const int error = fs.open_root(dir, &root); error != 0)
    return dgrt::error(DGRT_IO_ERROR, "DGRT_HEURISTICS_PATH={}: {}", dir, errno_text(error));
  const int opened = fs.open_read(root, name, &file);
  if (opened == ENOENT) return ok();
  std::vector<std::byte> bytes;
  const int read = opened != 0 ? opened : read_all(fs, file, max_table_bytes, &bytes);
  if (read != 0) return dgrt::error(DGRT_IO_ERROR, "{}/{}: {}", dir, name, errno_text(read));
  text->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return ok();
}

Table parse_or_warn(std::string_view stem, std::string_view text, std::string_view file,
                    std::vector<std::string>* warnings) {
  Result<Table> table = Table::parse(stem, text, file, warnings);
  if (table.is_ok()) return std::move(table).value();
  warnings->push_back("table ignored: " + table.status().message());
  return Table();
}

}  // namespace

std::string arch_family(std::string_view arch) {
  std::string family;
  for (const char c : arch)
    if (c != '_') family += c;
  if (!family.empty() && (family.back() == 'a' || family.back() == 'f')) family.pop_back();
  return family;
}

Result<Table> Table::parse(std::string_view stem, std::string_view json, std::string_view file,
                           std::vector<std::string>* warnings) {
  const Json root =
      Json::parse(json, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  if (root.is_discarded()) return invalid("{}: not valid JSON", file);
  DGRT_TRY(check_head(root, stem, file));
  Table table;
  size_t row_idx = 0;
  for (const Json& row : root["rules"]) {
    std::string name = fmt::format("{} rule {}", file, row_idx++);
    Result<TableRule> rule = parse_rule(row);
    if (!rule.is_ok()) {
      warnings->push_back(fmt::format("{} ignored: {}", name, rule.status().message()));
      continue;
    }
    rule.value().name = std::move(name);
    table.rules_.push_back(std::move(rule).value());
  }
  table.set_digest();
  return table;
}

Table Table::load(std::string_view stem, std::string_view embedded, const std::string& overlay_dir,
                  std::vector<std::string>* warnings) {
  const std::string name = fmt::format("{}.json", stem);
  const Table lower = embedded.empty() ? Table() : parse_or_warn(stem, embedded, name, warnings);
  if (overlay_dir.empty()) return lower;
  std::string text;
  if (const Status status = read_overlay(overlay_dir, name, &text); !status.is_ok()) {
    warnings->push_back(status.message());
    return lower;
  }
  if (text.empty()) return lower;
  return stack(parse_or_warn(stem, text, overlay_dir + "/" + name, warnings), lower);
}

Table Table::stack(Table upper, const Table& lower) {
  upper.rules_.insert(upper.rules_.end(), lower.rules_.begin(), lower.rules_.end());
  upper.set_digest();
  return upper;
}

// What a rule says, without where it came from and why: those change no choice.
void Table::set_digest() {
  Blake2b hash;
  hash.add("dgrt table 1").add(uint64_t{rules_.size()});
  const auto add_range = [&hash](const IntRange& range) {
    hash.add(static_cast<uint64_t>(range.lo)).add(static_cast<uint64_t>(range.hi));
  };
  for (const TableRule& rule : rules_) {
    hash.add(rule.family).add(uint64_t{rule.sm_count.has_value()});
    if (rule.sm_count) add_range(*rule.sm_count);
    hash.add(uint64_t{rule.when.size()});
    for (const auto& [name, range] : rule.when) {
      hash.add(name);
      add_range(range);
    }
    hash.add(uint64_t{rule.use.fields().size()});
    for (const auto& [name, value] : rule.use.fields())
      hash.add(name).add(static_cast<uint64_t>(value));
  }
  digest_ = hash.digest();
}

std::string Table::digest_hex() const { return Key{digest_}.hex(); }

}  // namespace dgrt
