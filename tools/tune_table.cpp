#include "tools/tune_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/engine/selection_grid.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson to_json(const IntRange& range) { return {range.lo, range.hi}; }

OrderedJson to_json(const Config& config) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [name, value] : config.fields()) json[name] = value;
  return json;
}

OrderedJson row_of(const TuneVerdict& verdict) {
  OrderedJson when = OrderedJson::object();
  for (const TuneRange& range : verdict.ranges) when[range.var] = to_json(range.range);
  when.update(to_json(verdict.fields));
  const int64_t sms = verdict.sm_count;
  return {{"arch", verdict.family},  {"sm_count", to_json(IntRange{sms, sms})},
          {"when", std::move(when)}, {"use", to_json(*verdict.use)},
          {"why", verdict.why},      {"measured", verdict.measured}};
}

// As Table::parse() reads it.
std::optional<IntRange> range_of(const OrderedJson& value) {
  if (value.is_number_integer()) return IntRange{value.get<int64_t>(), value.get<int64_t>()};
  const auto is_end = [](const OrderedJson& end) { return end.is_number_integer() || end.is_null(); };
  if (!value.is_array() || value.size() != 2 || !is_end(value[0]) || !is_end(value[1]))
    return std::nullopt;
  return IntRange{value[0].is_null() ? IntRange::least : value[0].get<int64_t>(),
                  value[1].is_null() ? IntRange::largest : value[1].get<int64_t>()};
}

// The ranges of the verdict's variables in a row of the same device and sizes; nothing: another row.
std::optional<std::vector<IntRange>> ranges_if_alike(const OrderedJson& row,
                                                     const TuneVerdict& verdict) {
  if (!row.is_object() || !row.contains("when") || !row["when"].is_object()) return std::nullopt;
  if (arch_family(row.value("arch", "")) != verdict.family) return std::nullopt;
  if (!row.contains("sm_count")) return std::nullopt;
  const std::optional<IntRange> sms = range_of(row["sm_count"]);
  if (!sms || *sms != IntRange{verdict.sm_count, verdict.sm_count}) return std::nullopt;
  OrderedJson rest = row["when"];
  std::vector<IntRange> ranges;
  for (const TuneRange& wanted : verdict.ranges) {
    const auto var = rest.find(wanted.var);
    if (var == rest.end()) return std::nullopt;
    const std::optional<IntRange> range = range_of(*var);
    if (!range) return std::nullopt;
    ranges.push_back(*range);
    rest.erase(var);
  }
  // Ordered objects compare in order, which does not matter here.
  if (nlohmann::json(rest) != nlohmann::json(to_json(verdict.fields))) return std::nullopt;
  return ranges;
}

bool holds_at(const std::vector<IntRange>& ranges, const TuneVerdict& verdict) {
  for (size_t i = 0; i < ranges.size(); ++i)
    if (!ranges[i].contains(verdict.ranges[i].value)) return false;
  return true;
}

// In the order of tables: by the first variable, then by the others.
bool stands_before(const TuneVerdict& verdict, const std::vector<IntRange>& ranges) {
  for (size_t i = 0; i < ranges.size(); ++i)
    if (verdict.ranges[i].range.lo != ranges[i].lo)
      return verdict.ranges[i].range.lo < ranges[i].lo;
  return false;
}

void apply(const TuneVerdict& verdict, OrderedJson* rows, MergedTable* merged) {
  size_t place = rows->size(), removed = 0;  // where the new row goes
  bool is_placed = false;
  for (size_t i = 0; i < rows->size();) {
    const std::optional<std::vector<IntRange>> ranges = ranges_if_alike((*rows)[i], verdict);
    const bool goes = ranges && holds_at(*ranges, verdict);
    if (ranges && !is_placed) {
      is_placed = goes || stands_before(verdict, *ranges);
      place = is_placed ? i : i + 1;
    }
    if (goes) {
      rows->erase(i);
      ++removed;
    } else {
      ++i;
    }
  }
  if (verdict.use)
    rows->insert(rows->begin() + static_cast<std::ptrdiff_t>(place), row_of(verdict));
  const size_t replaced = verdict.use ? std::min<size_t>(removed, 1) : 0;
  merged->replaced += replaced;
  merged->removed += removed - replaced;
  merged->added += verdict.use && removed == 0;
}

// On one line, with spaces.
std::string line_of(const OrderedJson& value) {
  std::string text;
  const auto add = [&text](const std::string& part) {
    if (!text.empty()) text += ", ";
    text += part;
  };
  if (value.is_object()) {
    for (const auto& [name, member] : value.items())
      add(OrderedJson(name).dump() + ": " + line_of(member));
    return "{" + text + "}";
  }
  if (value.is_array()) {
    for (const OrderedJson& member : value) add(line_of(member));
    return "[" + text + "]";
  }
  return value.dump();
}

// Rules stand on lines of their own, so that a difference shows which one has changed.
std::string format_table(OrderedJson root) {
  const OrderedJson rows = std::move(root["rules"]);
  root["rules"] = OrderedJson::array();
  std::string text = line_of(root);
  if (rows.empty()) return text + "\n";
  text.resize(text.size() - 2);  // "]}"
  for (size_t i = 0; i < rows.size(); ++i)
    text += fmt::format("{}\n  {}", i == 0 ? "" : ",", line_of(rows[i]));
  return text + "\n]}\n";
}

}  // namespace

size_t choose_config(const std::vector<double>& us, size_t model_pick, size_t table_pick) {
  const auto beats = [&us](size_t challenger, size_t standing) {
    return us[challenger] * winning_ratio <= us[standing];
  };
  const size_t standing = beats(table_pick, model_pick) ? table_pick : model_pick;
  const size_t fastest = std::min_element(us.begin(), us.end()) - us.begin();
  return beats(fastest, standing) ? fastest : standing;
}

Result<std::vector<TuneRange>> row_ranges(const OpImpl& op, const dgrt_desc* desc,
                                          const Target& target, const Point& low,
                                          const Point& high, bool is_largest) {
  SelectionGrid grid(op, desc, target);
  DGRT_TRY(grid.decide(Table()));
  grid.limit_kernels();
  std::vector<TuneRange> ranges;
  for (size_t i = 0; i < grid.vars().size(); ++i) {
    const std::vector<int64_t>& breaks = grid.vars()[i].breaks;
    const size_t first = break_idx(breaks, low[i]), last = break_idx(breaks, high[i]);
    const int64_t least = std::min<int64_t>(breaks[0], 1);  // calls of size 0 launch nothing
    ranges.push_back({grid.vars()[i].name, high[i],
                      {first == 0 ? least : breaks[first - 1] + 1, breaks[last]}});
  }
  if (!is_largest || ranges.empty()) return ranges;
  const auto pick_at = [&](const Point& point) { return grid.picks()[grid.cell_of(point)].config_idx; };
  Point further = high;
  for (const int64_t end : grid.vars()[0].breaks) {
    if (end <= ranges[0].range.hi) continue;
    further[0] = end;
    if (end > 2 * high[0] || pick_at(further) != pick_at(high)) break;
    ranges[0].range.hi = end;
  }
  return ranges;
}

Config row_fields(const OpImpl& op, const dgrt_desc* desc) {
  const std::vector<SelectorVar> vars = op.selector(desc);
  const Config shape = op.shape(desc);
  Config fields;
  for (const auto& [name, value] : shape.fields()) {
    const bool is_var = std::any_of(vars.begin(), vars.end(),
                                    [&, n = &name](const SelectorVar& v) { return *n == v.name; });
    if (!is_var && !(name == "num_groups" && value == 1)) fields.set(name, value);
  }
  return fields;
}

Result<MergedTable> merge_verdicts(std::string_view stem, std::string_view text,
                                   const std::vector<TuneVerdict>& verdicts) {
  OrderedJson root = {{"op", stem}, {"schema", 1}, {"rules", OrderedJson::array()}};
  if (!text.empty()) {
    std::vector<std::string> warnings;
    DGRT_TRY(Table::parse(stem, text, fmt::format("{}.json", stem), &warnings).status());
    root = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  }
  MergedTable merged;
  for (const TuneVerdict& verdict : verdicts) apply(verdict, &root["rules"], &merged);
  merged.text = format_table(std::move(root));
  return merged;
}

}  // namespace dgrt
