#include "heuristics/table.h"

#include <fstream>
#include <string>
#include <vector>

#include "runtime/compile/sources.h"
#include "runtime/engine/enumerate.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

std::string file_of(const std::string& rules) {
  return R"({"op": "toy", "schema": 1, "rules": [)" + rules + "]}";
}

const std::string good_rule =
    R"({"arch": "sm_90a", "sm_count": [130, 140], "when": {"n": 7168, "m": [1, 64]},
        "use": {"stages": 4, "block_m": 64}, "why": "decode", "measured": "untested"})";

Table parse(const std::string& rules, std::vector<std::string>* warnings) {
  Result<Table> table = Table::parse("toy", file_of(rules), "toy.json", warnings);
  REQUIRE(table.is_ok());
  return std::move(table).value();
}

TEST_CASE("a table row is read field by field", "[unit]") {
  std::vector<std::string> warnings;
  const Table table = parse(good_rule, &warnings);
  CHECK(warnings.empty());
  REQUIRE(table.rules().size() == 1);
  const TableRule& rule = table.rules()[0];
  CHECK(rule.family == "sm90");
  CHECK(*rule.sm_count == IntRange{130, 140});
  REQUIRE(rule.when.size() == 2);
  CHECK(rule.when[0].first == "m");
  CHECK(rule.when[0].second == IntRange{1, 64});
  CHECK(rule.when[1].first == "n");
  CHECK(rule.when[1].second == IntRange{7168, 7168});
  CHECK(rule.use["stages"] == 4);
  CHECK(rule.use["block_m"] == 64);
  CHECK(rule.why == "decode");
  CHECK(rule.name == "toy.json rule 0");
}

TEST_CASE("an end of a range may be left open", "[unit]") {
  std::vector<std::string> warnings;
  const auto ranges_of = [&](const std::string& when) {
    const Table table = parse(R"({"arch": "sm90", "when": {)" + when +
                                  R"(}, "use": {"a": 1}, "why": "w", "measured": "u"})",
                              &warnings);
    CHECK(warnings.empty());
    REQUIRE(table.rules().size() == 1);
    return table.rules()[0].when;
  };
  const auto gate = ranges_of(R"("max_q_len": [null, 16], "batch": [8, null])");
  REQUIRE(gate.size() == 2);
  CHECK(gate[0].first == "batch");
  CHECK(gate[0].second == IntRange{8, INT64_MAX});
  CHECK(gate[1].second == IntRange{0, 16});
}

TEST_CASE("a bad row is skipped with one warning that names it", "[unit]") {
  const std::string tail = R"(, "why": "w", "measured": "untested"})";
  const struct {
    std::string row, text;
  } cases[] = {
      {"7", "must be an object"},
      {R"({"arch": 90, "use": {"a": 1})" + tail, "arch: a text is required"},
      {R"({"arch": "x86", "use": {"a": 1})" + tail, "arch=x86: must look like sm90 or sm_90a"},
      {R"({"arch": "sm90")" + tail, "use: an object with at least one field is required"},
      {R"({"arch": "sm90", "use": {})" + tail,
       "use: an object with at least one field is required"},
      {R"({"arch": "sm90", "use": {"a": "big"})" + tail, "use.a=\"big\": must be an integer"},
      {R"({"arch": "sm90", "use": {"a": 1.5})" + tail, "use.a=1.5: must be an integer"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": []})", "when=[]: must be an object"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": {"m": [9, 2]})" + tail, "low is above high"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": {"m": [1]})" + tail,
       "when.m=[1]: must be an integer or"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": {"batch": [8, "all"]})" + tail,
       "when.batch=[8,\"all\"]: must be an integer or [low, high]"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": {"batch": null})" + tail,
       "when.batch=null: must be an integer or"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": {"batch": [null, null]})" + tail,
       "when.batch=[null,null]: must have an end"},
      {R"({"arch": "sm90", "use": {"a": 1}, "when": {"batch": [null, -1]})" + tail,
       "when.batch=[null,-1]: low is above high"},
      {R"({"arch": "sm90", "use": {"a": 1}, "sm_count": "all")" + tail,
       "sm_count=\"all\": must be an integer or"},
      {R"({"arch": "sm90", "use": {"a": 1}, "measured": "untested"})", "why: a text is required"},
      {R"({"arch": "sm90", "use": {"a": 1}, "why": "w"})", "measured: a text is required"},
      {R"({"arch": "sm90", "use": {"a": 1}, "whne": {})" + tail, "whne: unknown field"},
  };
  for (const auto& bad : cases) {
    std::vector<std::string> warnings;
    const Table table = parse(good_rule + "," + bad.row + "," + good_rule, &warnings);
    INFO(bad.row);
    CHECK(table.rules().size() == 2);
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find("toy.json rule 1 ignored: ") == 0);
    INFO(warnings[0]);
    CHECK(warnings[0].find(bad.text) != std::string::npos);
  }
}

TEST_CASE("a file that is no table of the op is refused as a whole", "[unit]") {
  const struct {
    const char *json, *text;
  } cases[] = {{"{", "not valid JSON"},
               {"[]", "not a JSON object"},
               {R"({"op": "other", "schema": 1, "rules": []})", "op must be \"toy\""},
               {R"({"op": "toy", "schema": 2, "rules": []})", "schema must be 1"},
               {R"({"op": "toy", "schema": 1})", "rules must be a list"}};
  for (const auto& bad : cases) {
    std::vector<std::string> warnings;
    const Result<Table> table = Table::parse("toy", bad.json, "toy.json", &warnings);
    REQUIRE_FALSE(table.is_ok());
    CHECK(table.status().code() == DGRT_INVALID_ARGUMENT);
    CHECK(table.status().message().find(bad.text) != std::string::npos);
  }
}

TEST_CASE("an overlay's rules come first; a bad overlay changes nothing", "[unit]") {
  const std::string lower = file_of(good_rule);
  const std::string upper_rule =
      R"({"arch": "sm90", "use": {"block_m": 128}, "why": "w", "measured": "x"})";
  std::vector<std::string> warnings;
  const Table plain = Table::load("toy", lower, "", &warnings);
  REQUIRE(plain.rules().size() == 1);

  const test::TempDir dir;
  CHECK(Table::load("toy", lower, dir.path(), &warnings).digest() == plain.digest());
  CHECK(warnings.empty());

  std::ofstream(dir.path() + "/toy.json") << file_of(upper_rule);
  const Table stacked = Table::load("toy", lower, dir.path(), &warnings);
  CHECK(warnings.empty());
  REQUIRE(stacked.rules().size() == 2);
  CHECK(stacked.rules()[0].use["block_m"] == 128);
  CHECK(stacked.rules()[0].name == dir.path() + "/toy.json rule 0");
  CHECK(stacked.digest() != plain.digest());

  std::ofstream(dir.path() + "/toy.json") << "{]";
  CHECK(Table::load("toy", lower, dir.path(), &warnings).digest() == plain.digest());
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("not valid JSON") != std::string::npos);

  warnings.clear();
  CHECK(Table::load("toy", lower, dir.path() + "/none", &warnings).digest() == plain.digest());
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("DGRT_HEURISTICS_PATH=" + dir.path() + "/none") == 0);
}

TEST_CASE("the digest follows what a table chooses, not how it is written", "[unit]") {
  std::vector<std::string> warnings;
  const std::string reordered =
      R"({"why": "other words", "use": {"block_m": 64, "stages": 4}, "measured": "H200",
          "when": {"m": [1, 64], "n": [7168, 7168]}, "sm_count": [130, 140], "arch": "sm90"})";
  const Table table = parse(good_rule, &warnings);
  CHECK(table.digest() == parse(reordered, &warnings).digest());
  CHECK(table.digest_hex().size() == 64);

  const std::vector<std::pair<std::string, std::string>> edits = {
      {"64]", "65]"},        {"\"m\"", "\"q\""}, {"7168", "7169"},
      {"sm_90a", "sm_100a"}, {"140", "141"},     {"\"stages\": 4", "\"stages\": 5"}};
  for (const auto& [from, to] : edits) {
    std::string changed = good_rule;
    changed.replace(changed.find(from), from.size(), to);
    INFO(changed);
    CHECK(parse(changed, &warnings).digest() != table.digest());
  }
  CHECK(parse(good_rule + "," + good_rule, &warnings).digest() != table.digest());
}

TEST_CASE("every table in the library is read without a warning", "[unit]") {
  const Sources sources;
  for (const OpImpl* op : all_ops()) {
    std::vector<std::string> warnings;
    load_table(*op, sources, "", &warnings);
    for (const std::string& warning : warnings) FAIL_CHECK(warning);
  }
  // A table without an op of its name would never be read.
  for (const std::string& path : sources.table_paths()) {
    const size_t slash = path.rfind('/') + 1;
    const std::string stem = path.substr(slash, path.size() - slash - 5);
    const bool is_known = std::any_of(all_ops().begin(), all_ops().end(),
                                      [&](const OpImpl* op) { return op->stem == stem; });
    INFO(path);
    CHECK(is_known);
  }
}

}  // namespace
}  // namespace dgrt
