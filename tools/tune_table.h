// What `dgrt tune` writes: rows of heuristics/tables/<stem>.json. A measured point speaks for a range
// of each of the op's selector variables; its verdict replaces what the table said of it before.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "heuristics/table.h"
#include "runtime/ops/op.h"

namespace dgrt {

// How much faster than the choice that stands a challenger must be, here 2 %.
constexpr double winning_ratio = 1.02;

// Of the configs that were measured at one point: the one that the library should use. The model's
// pick stands until one beats it by winning_ratio; so does the table's, if that has beaten it.
// Requires: indices into `us`, the median of each.
size_t choose_config(const std::vector<double>& us, size_t model_pick, size_t table_pick);

// One selector variable of a measurement.
struct TuneRange {
  std::string var;    // "m"
  int64_t value = 0;  // where it was measured
  IntRange range;     // that the row holds for
};

// What a measurement between `low` and `high` speaks for: the cells of both, along each of the op's
// selector variables. Of the first one, after its largest measured value, also the cells up to twice
// as far for which the model picks the same, since nothing tells them apart. UNSUPPORTED: no legal
// config.
Result<std::vector<TuneRange>> row_ranges(const OpImpl& op, const dgrt_desc* desc,
                                          const Target& target, const Point& low,
                                          const Point& high, bool is_largest);

struct TuneVerdict {
  std::string family;  // "sm90"
  uint32_t sm_count = 0;
  std::vector<TuneRange> ranges;  // in the order of the op's variables
  Config fields;                  // what else the row tests: n, k, ...
  std::optional<Config> use;  // nothing: the model's own pick stands
  std::string why, measured;  // if there is a config
};

// The fields of a desc that a row tests besides the selector variables.
Config row_fields(const OpImpl& op, const dgrt_desc* desc);

struct MergedTable {
  std::string text;
  size_t added = 0, replaced = 0, removed = 0;  // rows
};

// A table file with the verdicts of one op. Rows that differ from a verdict in the ranges of the
// selector variables alone, and hold where it was measured, go; all others stay as they are. `text` "": a new
// file. INVALID_ARGUMENT: not a table of this stem.
Result<MergedTable> merge_verdicts(std::string_view stem, std::string_view text,
                                   const std::vector<TuneVerdict>& verdicts);

}  // namespace dgrt
