// Table: measured knowledge about one op, laid over its cost model. A rule says: on this
// architecture and SM count, for these boxes of selector variables and shape fields, use these
// constants. The first rule that matches wins; where none does, the model answers. A bad rule is
// skipped with a warning and never stops anything.
//
// File format (schema 1), heuristics/tables/<stem>.json:
//   {"op": "gemm_fp8", "schema": 1, "rules": [
//     {"arch": "sm90", "sm_count": [130, 132], "when": {"m": [1, 64], "n": 7168},
//      "use": {"block_m": 64, "block_n": 128}, "why": "...", "measured": "H200, CUDA 13.0,
//      2026-01-01"}]}
// `sm_count` is optional, a range or a number. `when` tests any of the op's selector variables and
// shape fields, each by value or by range (inclusive), and holds where all of them do. An end of a
// range may be null, which is none: {"batch": [8, null], "max_q_len": [null, 16]}. `use` names
// config fields; those that it leaves out are chosen by the model. `why` and `measured` are
// required.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/config.h"
#include "runtime/base/status.h"

namespace dgrt {

// Inclusive. Sizes are never negative, and an end that a row leaves open is the least or the largest.
struct IntRange {
  int64_t lo = 0, hi = 0;
  static constexpr int64_t least = 0, largest = INT64_MAX;
  bool contains(int64_t value) const { return lo <= value && value <= hi; }
  bool operator==(const IntRange&) const = default;
};

struct TableRule {
  std::string family;  // "sm90": the architecture without its suffix letter
  std::optional<IntRange> sm_count;
  std::vector<std::pair<std::string, IntRange>> when;  // in alphabetical order
  Config use;                                          // in alphabetical order
  std::string why, measured;
  std::string name;  // for messages: "gemm_fp8.json rule 3", counted from 0
};

class Table {
 public:
  Table() { set_digest(); }  // no rules

  // A table from the text of one file. Bad rules are left out; each adds a line to `warnings`.
  // INVALID_ARGUMENT: the file as a whole is unusable (not JSON, wrong op or schema).
  static Result<Table> parse(std::string_view stem, std::string_view json, std::string_view file,
                             std::vector<std::string>* warnings);

  // `embedded`, the text of the table built into the library ("" if there is none), under the rules
  // of <overlay_dir>/<stem>.json if that directory is named and holds such a file. What is unusable
  // adds a warning and counts as empty.
  static Table load(std::string_view stem, std::string_view embedded,
                    const std::string& overlay_dir, std::vector<std::string>* warnings);

  const std::vector<TableRule>& rules() const { return rules_; }
  // BLAKE2b-256 of the rules in canonical form: equal digests choose equally.
  const std::array<uint8_t, 32>& digest() const { return digest_; }
  std::string digest_hex() const;

  // Rules of `upper` first.
  static Table stack(Table upper, const Table& lower);

 private:
  void set_digest();

  std::vector<TableRule> rules_;
  std::array<uint8_t, 32> digest_{};
};

// "sm_90a" -> "sm90".
std::string arch_family(std::string_view arch);

}  // namespace dgrt
