// Selection on ops whose every cost is known, and on tables made for the purpose.
#include "runtime/engine/selection.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/table_text.h"
#include "tests/support/fake_op.h"
#include "tests/support/random_desc.h"

namespace dgrt {
namespace {

using test::base;
using test::fake_big;
using test::FakeDesc;

const Target target{"sm_90a", 132};

Selection must_select(const FakeDesc& desc, const Table& table = {}, const OpImpl& op = fake_big) {
  Result<Selection> selection = select(op, base(desc), target, table);
  if (!selection.is_ok()) FAIL(selection.status().message());
  return std::move(selection).value();
}

Explanation must_explain(const FakeDesc& desc, const Point& point, const Table& table = {}) {
  Result<Explanation> explanation = explain(fake_big, base(desc), target, table, point);
  if (!explanation.is_ok()) FAIL(explanation.status().message());
  return std::move(explanation).value();
}

Table table_of(const std::string& rules) { return test::parse_table("fake_big", rules); }

// A rule without its braces, `why` "w<idx>".
std::string rule(const std::string& body, int idx = 0) {
  return fmt::format(R"({{"arch": "sm90", {}, "why": "w{}", "measured": "untested"}})", body, idx);
}

const Config& config_at(const Selection& selection, const Point& point) {
  return selection.choices[selection.lookup(point)].config;
}

std::set<int64_t> blocks_of(const Selection& selection) {
  std::set<int64_t> blocks;
  for (const Choice& choice : selection.choices) blocks.insert(choice.config["block"]);
  return blocks;
}

Point random_point(test::Rng& rng, const FakeDesc& desc) {
  Point point{};
  const int64_t maxima[] = {desc.max_m, desc.max_len, desc.max_batch};
  for (size_t i = 0; i < desc.num_vars; ++i) point[i] = test::pick_between(rng, 0, maxima[i]);
  return point;
}

TEST_CASE("without a table every point gets its cell's cheapest config", "[unit]") {
  test::Rng rng(1);
  for (uint32_t num_vars = 0; num_vars <= 3; ++num_vars) {
    FakeDesc desc;
    desc.num_vars = num_vars;
    const Selection selection = must_select(desc);
    REQUIRE(selection.axes.size() == num_vars);
    CHECK(selection.warnings.empty());
    for (int i = 0; i < (num_vars < 3 ? 20 : 4); ++i) {
      const Point point = random_point(rng, desc);
      const Explanation why = must_explain(desc, point);
      CHECK(config_at(selection, point) == why.winner.config);
      CHECK(why.winner.config == why.candidates.front().config);
      CHECK(why.reason == "model");
      for (size_t v = 0; v < num_vars; ++v) CHECK(point[v] <= why.decided_at[v]);
      for (size_t c = 1; c < why.candidates.size(); ++c)
        CHECK(why.candidates[c - 1].cost_ps <= why.candidates[c].cost_ps);
    }
  }
}

TEST_CASE("neighbouring cells of a selection differ", "[unit]") {
  FakeDesc desc;
  desc.max_m = 390;
  const Selection selection = must_select(desc);
  const std::vector<int64_t>& breaks = selection.axes[0].breaks;
  CHECK(std::is_sorted(breaks.begin(), breaks.end()));
  CHECK(breaks.back() >= desc.max_m);
  REQUIRE(selection.cells.size() == breaks.size());
  for (size_t i = 1; i < selection.cells.size(); ++i)
    CHECK(selection.cells[i - 1] != selection.cells[i]);
  // 8 blocks and, where block stays at 8, three splits on the way.
  CHECK(breaks.size() < test::fake_breaks().size());
}

TEST_CASE("the choice for a point does not depend on the bounds", "[unit]") {
  test::Rng rng(2);
  for (int round = 0; round < 40; ++round) {
    FakeDesc wide;
    wide.num_vars = static_cast<uint32_t>(test::pick_between(rng, 1, round % 10 ? 2 : 3));
    wide.num_blocks = static_cast<uint32_t>(test::pick_between(rng, 1, 40));
    wide.max_m = wide.max_len = wide.max_batch = test::fake_max_size;
    FakeDesc narrow = wide;
    narrow.max_m = test::pick_size(rng, 0, test::fake_max_size);
    narrow.max_len = test::pick_size(rng, 0, test::fake_max_size);
    narrow.max_batch = test::pick_size(rng, 0, test::fake_max_size);
    const Selection in_wide = must_select(wide), in_narrow = must_select(narrow);
    for (int i = 0; i < 40; ++i) {
      const Point point = random_point(rng, narrow);
      CHECK(config_at(in_wide, point) == config_at(in_narrow, point));
    }
    for (const int64_t block : blocks_of(in_narrow)) CHECK(blocks_of(in_wide).count(block) == 1);
  }
}

TEST_CASE("repeated selections are the same", "[unit]") {
  FakeDesc desc;
  desc.num_vars = 2;
  desc.num_blocks = 40;
  const Selection first = must_select(desc), second = must_select(desc);
  CHECK(first.cells == second.cells);
  REQUIRE(first.choices.size() == second.choices.size());
  for (size_t i = 0; i < first.choices.size(); ++i)
    CHECK(first.choices[i].config == second.choices[i].config);
}

TEST_CASE("a plan holds at most 16 kernels and each cell uses the best of them", "[unit]") {
  FakeDesc desc;
  desc.num_blocks = 40;
  desc.max_m = test::fake_max_size;
  const Selection selection = must_select(desc);
  const std::set<int64_t> blocks = blocks_of(selection);
  CHECK(blocks.size() == max_plan_kernels);
  CHECK(blocks.count(40) == 1);  // most cells are far beyond 40 * 20
  for (int64_t m = 0; m <= 1000; m += 10) {
    const Explanation why = must_explain(desc, {m, 0, 0});
    int64_t best = INT64_MAX;
    for (const Candidate& candidate : why.candidates)
      if (blocks.count(candidate.config["block"])) best = std::min(best, candidate.cost_ps);
    CHECK(why.winner.config == config_at(selection, {m, 0, 0}));
    CHECK(why.winner.cost_ps == best);
    const bool is_own_best = why.winner.config == why.candidates.front().config;
    CHECK((why.reason == "model") == is_own_best);
  }
  // 20 different winners exist, so somebody had to give way, and that is said.
  const Explanation near = must_explain(desc, {400, 0, 0}), far = must_explain(desc, {5000, 0, 0});
  CHECK(far.reason == "model");
  size_t num_moved = 0;
  for (int64_t m = 20; m <= 400; m += 20)
    num_moved +=
        must_explain(desc, {m, 0, 0}).reason.find("the plan keeps 16 kernels") != std::string::npos;
  CHECK(num_moved > 0);
  CHECK(near.decided_at[0] == 400);
}

TEST_CASE("configs that differ in run-time fields alone share a kernel", "[unit]") {
  FakeDesc desc;
  desc.num_blocks = 1;
  const Selection selection = must_select(desc);
  CHECK(selection.choices.size() == 3);  // splits
  CHECK(blocks_of(selection).size() == 1);
}

TEST_CASE("equal costs are decided by the config's text, not by the order of candidates",
          "[unit]") {
  OpImpl op = fake_big;
  op.cost_ps = [](const dgrt_desc*, const Target&, const Point&, const Config&) -> int64_t {
    return 7;
  };
  const Config first = config_at(must_select({}, {}, op), {1, 0, 0});
  op.candidates = [](const dgrt_desc* desc, const Target& on, const Point& point) {
    std::vector<Config> configs = fake_big.candidates(desc, on, point);
    std::reverse(configs.begin(), configs.end());
    return configs;
  };
  CHECK(config_at(must_select({}, {}, op), {1, 0, 0}) == first);
  CHECK(first.to_string() == "block=1 split=1");
}

TEST_CASE("a table rule holds for exactly the values that it names", "[unit]") {
  FakeDesc desc;
  const Table table =
      table_of(rule(R"("when": {"m": [33, 47], "n": [64, 65]}, "use": {"split": 4, "block": 77})"));
  const Selection with = must_select(desc, table), without = must_select(desc);
  CHECK(with.warnings.empty());
  for (int64_t m = 0; m <= 1000; ++m) {
    const Config& config = config_at(with, {m, 0, 0});
    if (m >= 33 && m <= 47)
      CHECK(config.to_string() == "block=77 split=4");
    else
      CHECK(config["block"] != 77);
    if (m <= 20 || m > 60) CHECK(config == config_at(without, {m, 0, 0}));
  }
  CHECK(with.choices[with.lookup({40, 0, 0})].rule == "t.json rule 0: w0");
  CHECK(must_explain(desc, {40, 0, 0}, table).reason == "t.json rule 0: w0");
  CHECK(must_explain(desc, {48, 0, 0}, table).reason == "model");
}

TEST_CASE("the first matching rule wins; arch, SM count and shape must match", "[unit]") {
  FakeDesc desc;
  const std::string use = R"("use": {"block": 70, "split": 1})";
  const std::string never[] = {
      R"({"arch": "sm100", "use": {"block": 70, "split": 1}, "why": "w", "measured": "u"})",
      rule(R"("sm_count": [1, 131], )" + use), rule(R"("sm_count": 133, )" + use),
      rule(R"("when": {"n": 65}, )" + use)};
  for (const std::string& row : never) {
    const Selection selection = must_select(desc, table_of(row));
    CHECK(blocks_of(selection).count(70) == 0);
    CHECK(selection.warnings.empty());
  }
  const Table two = table_of(rule(R"("when": {"m": [1, 100]}, "use": {"block": 71, "split": 1})") +
                             "," + rule(R"("sm_count": 132, )" + use, 1));
  const Selection selection = must_select(desc, two);
  CHECK(config_at(selection, {100, 0, 0})["block"] == 71);
  CHECK(config_at(selection, {101, 0, 0})["block"] == 70);
}

TEST_CASE("a rule that names some fields leaves the others to the model", "[unit]") {
  FakeDesc desc;
  const Selection selection = must_select(desc, table_of(rule(R"("use": {"split": 2})")));
  CHECK(selection.warnings.empty());
  for (int64_t m = 0; m <= 1000; m += 7) {
    CHECK(config_at(selection, {m, 0, 0})["split"] == 2);
    CHECK(config_at(selection, {m, 0, 0})["block"] ==
          config_at(must_select(desc), {m, 0, 0})["block"]);
  }
}

TEST_CASE("a rule that cannot be used is skipped with one warning", "[unit]") {
  const struct {
    const char *body, *text;
  } cases[] = {{R"("when": {"q": 1}, "use": {"block": 1, "split": 1})",
                "when.q: fake_big has no such variable or field"},
               {R"("use": {"tile": 1})", "use.tile: fake_big has no such config field"},
               {R"("use": {"block": 100, "split": 1})", "block=100: must be 1 to 99"},
               {R"("use": {"split": 3})", "no legal config has split=3"}};
  for (const auto& bad : cases) {
    const Selection selection = must_select(
        {}, table_of(rule(bad.body) + "," + rule(R"("use": {"block": 5, "split": 1})", 1)));
    REQUIRE(selection.warnings.size() == 1);
    INFO(selection.warnings[0]);
    CHECK(selection.warnings[0] == std::string("t.json rule 0 ignored: ") + bad.text);
    CHECK(blocks_of(selection) == std::set<int64_t>{5});
  }
}

TEST_CASE("table rules keep their kernels when others must go", "[unit]") {
  FakeDesc desc;
  desc.num_blocks = 40;
  desc.max_m = test::fake_max_size;
  // Expensive by the model, in three narrow places.
  const Table table =
      table_of(rule(R"("when": {"m": 7}, "use": {"block": 90, "split": 1})") + "," +
               rule(R"("when": {"m": 13}, "use": {"block": 91, "split": 1})") + "," +
               rule(R"("when": {"m": 999}, "use": {"block": 92, "split": 1})"));
  const Selection selection = must_select(desc, table);
  CHECK(blocks_of(selection).size() == max_plan_kernels);
  CHECK(config_at(selection, {7, 0, 0})["block"] == 90);
  CHECK(config_at(selection, {13, 0, 0})["block"] == 91);
  CHECK(config_at(selection, {999, 0, 0})["block"] == 92);

  std::string many;
  for (int i = 0; i < 30; ++i) {
    if (i > 0) many += ",";
    many += rule(fmt::format(R"("when": {{"m": {}}}, "use": {{"block": {}, "split": 1}})",
                             10 * i + 5, 60 + i));
  }
  const std::set<int64_t> blocks = blocks_of(must_select(desc, table_of(many)));
  CHECK(blocks.size() == max_plan_kernels);
}

TEST_CASE("a cell that has to give way takes another of its own candidates", "[unit]") {
  FakeDesc desc;
  desc.num_blocks = 40;
  desc.max_m = test::fake_max_size;
  OpImpl op = fake_big;
  // The dearer neighbours' configs are no candidates: every second cell offers even blocks alone.
  op.candidates = [](const dgrt_desc* desc, const Target& on, const Point& point) {
    std::vector<Config> configs = fake_big.candidates(desc, on, point);
    std::erase_if(configs, [&](const Config& c) { return (point[0] / 20 - c["block"]) % 2 != 0; });
    return configs;
  };
  const Selection selection = must_select(desc, {}, op);
  CHECK(blocks_of(selection).size() == max_plan_kernels);
  for (int64_t m = 20; m <= 400; m += 20)
    CHECK((m / 20 - config_at(selection, {m, 0, 0})["block"]) % 2 == 0);
  // Where each cell has one block to itself, there are too few kernels for all, and any legal one serves.
  op.candidates = [](const dgrt_desc* desc, const Target& on, const Point& point) {
    std::vector<Config> configs = fake_big.candidates(desc, on, point);
    const int64_t block = std::clamp<int64_t>(point[0] / 20, 1, 40);
    std::erase_if(configs, [&](const Config& c) { return c["block"] != block; });
    return configs;
  };
  const Selection narrow = must_select(desc, {}, op);
  CHECK(blocks_of(narrow).size() == max_plan_kernels);
  for (const Choice& choice : narrow.choices) CHECK(choice.cost_ps < int64_t{1} << 40);
}

TEST_CASE("one config for every point, if it is legal", "[unit]") {
  FakeDesc desc;
  desc.num_vars = 2;
  const Config config = fake_big.candidates(base(desc), target, {}).back();
  const Result<Selection> only = select_only(fake_big, base(desc), target, config);
  REQUIRE(only.is_ok());
  CHECK(only.value().axes.size() == 2);
  CHECK(only.value().choices.size() == 1);
  for (const Point& point : {Point{0, 0, 0}, Point{1, 999, 0}, Point{1000, 1000, 0}})
    CHECK(config_at(only.value(), point) == config);
  Config illegal = config;
  illegal.set("block", -1);
  CHECK_FALSE(select_only(fake_big, base(desc), target, illegal).is_ok());
}

TEST_CASE("an arch without kernels is unsupported", "[unit]") {
  const FakeDesc desc;
  const Result<Selection> selection = select(fake_big, base(desc), {"sm_100a", 148}, {});
  REQUIRE_FALSE(selection.is_ok());
  CHECK(selection.status().code() == DGRT_UNSUPPORTED);
  CHECK(selection.status().message().find("sm_100a") != std::string::npos);
  const Result<Explanation> beyond =
      explain(fake_big, base(desc), target, {}, {test::fake_max_size + 1, 0, 0});
  REQUIRE_FALSE(beyond.is_ok());
  CHECK(beyond.status().code() == DGRT_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace dgrt
