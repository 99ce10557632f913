// What every op of the library owes the engine, checked on random descs: the plan's kernel for any
// size is among those that dgrt_enumerate lists; the choice does not depend on the bounds; it is
// the same again and in another process.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/hash.h"
#include "runtime/compile/key.h"
#include "runtime/engine/enumerate.h"
#include "tests/support/catch.h"
#include "tests/support/random_desc.h"

namespace dgrt {
namespace {

const Target target{"sm_90a", 132};

// An op's descs as the engine holds them, with the table of the library.
struct Chosen {
  DescCopy desc;
  Selection selection;
};

Chosen choose(const test::AnyDesc& desc, const Target& on) {
  Result<DescCopy> copy = DescCopy::make(desc.get(), all_ops());
  if (!copy.is_ok()) FAIL(copy.status().message());
  const Sources sources;
  std::vector<std::string> warnings;
  const Table table = load_table(copy.value().op(), sources, "", &warnings);
  Result<Selection> selection = select(copy.value().op(), copy.value().get(), on, table);
  if (!selection.is_ok()) FAIL(copy.value().op().stem << ": " << selection.status().message());
  for (const std::string& warning : selection.value().warnings) FAIL_CHECK(warning);
  return {std::move(copy).value(), std::move(selection).value()};
}

TEST_CASE("random descs exist for every op", "[unit]") {
  test::Rng rng(1);
  REQUIRE(all_ops().size() >= 4);
  for (const OpImpl* op : all_ops()) {
    INFO(op->stem);
    const std::optional<test::AnyDesc> desc = test::random_desc(*op, rng);
    REQUIRE(desc.has_value());
    const Result<DescCopy> copy = DescCopy::make(desc->get(), all_ops());
    REQUIRE(copy.is_ok());
    CHECK(&copy.value().op() == op);
  }
}

TEST_CASE("the kernel of any size is among the enumerated ones", "[unit]") {
  test::Rng rng(2);
  const Sources sources;
  for (const OpImpl* op : all_ops()) {
    for (int round = 0; round < 6; ++round) {
      const test::AnyDesc desc = *test::random_desc(*op, rng);
      const Chosen chosen = choose(desc, target);
      const Result<std::vector<PlannedKernel>> kernels = enumerate(desc.get(), target);
      REQUIRE(kernels.is_ok());
      CHECK(kernels.value().size() >= 1);
      CHECK(kernels.value().size() <= max_plan_kernels);
      std::set<Key> keys;
      for (const PlannedKernel& kernel : kernels.value()) keys.insert(kernel.key);
      CHECK(keys.size() == kernels.value().size());
      for (int i = 0; i < 10; ++i) {
        const Point point{test::pick_between(rng, 0, desc.max_m()), 0, 0};
        const Config& config = chosen.selection.choices[chosen.selection.lookup(point)].config;
        const Result<Key> key =
            kernel_key(op->instance(chosen.desc.get(), target, config), sources);
        REQUIRE(key.is_ok());
        CHECK(keys.count(key.value()) == 1);
        CHECK(op->check_config(chosen.desc.get(), target, config).is_ok());
      }
    }
  }
}

TEST_CASE("the choice for a size does not depend on the bound", "[unit]") {
  test::Rng rng(3);
  for (const OpImpl* op : all_ops()) {
    for (int round = 0; round < 6; ++round) {
      const test::AnyDesc wide = test::random_desc(*op, rng)->with_max_m(INT32_MAX);
      const test::AnyDesc narrow = wide.with_max_m(test::pick_size(rng, 0, test::random_max_m));
      const Selection in_wide = choose(wide, target).selection;
      const Selection in_narrow = choose(narrow, target).selection;
      for (int i = 0; i < 20; ++i) {
        const Point point{test::pick_between(rng, 0, narrow.max_m()), 0, 0};
        INFO(op->stem << " m=" << point[0] << " max_m=" << narrow.max_m());
        CHECK(in_wide.choices[in_wide.lookup(point)].config ==
              in_narrow.choices[in_narrow.lookup(point)].config);
      }
    }
  }
}

TEST_CASE("candidates are legal, different and have a positive cost", "[unit]") {
  test::Rng rng(4);
  for (const OpImpl* op : all_ops()) {
    for (int round = 0; round < 4; ++round) {
      const test::AnyDesc any = *test::random_desc(*op, rng);
      const Result<DescCopy> copy = DescCopy::make(any.get(), all_ops());
      REQUIRE(copy.is_ok());
      const dgrt_desc* desc = copy.value().get();
      const Point point{test::pick_size(rng, 1, test::random_max_m), 0, 0};
      std::set<std::string> texts;
      for (const Config& config : op->candidates(desc, target, point)) {
        texts.insert(config.to_string());
        const Status status = op->check_config(desc, target, config);
        INFO(op->stem << " " << config.to_string() << ": " << status.message());
        CHECK(status.is_ok());
        CHECK(op->cost_ps(desc, target, point, config) > 0);
        CHECK(op->smem_bytes(desc, config) <= 232448);  // of one block, SM90
      }
      CHECK(texts.size() == op->candidates(desc, target, point).size());
    }
  }
}

TEST_CASE("points that share candidates have the same ones", "[unit]") {
  test::Rng rng(7);
  for (const OpImpl* op : all_ops()) {
    for (int round = 0; round < 12; ++round) {
      const test::AnyDesc any = *test::random_desc(*op, rng);
      const Result<DescCopy> copy = DescCopy::make(any.get(), all_ops());
      REQUIRE(copy.is_ok());
      const dgrt_desc* desc = copy.value().get();
      const Point point{test::pick_size(rng, 1, test::random_max_m), 0, 0};
      const Point same = op->same_candidates(desc, point);
      INFO(op->stem << " " << point[0] << " like " << same[0]);
      CHECK(op->candidates(desc, target, same) == op->candidates(desc, target, point));
      CHECK(op->same_candidates(desc, same) == same);
    }
  }
}

TEST_CASE("no call needs more workspace than the corners of its cell say", "[unit]") {
  test::Rng rng(5);
  for (const OpImpl* op : all_ops()) {
    for (int round = 0; round < 16; ++round) {
      const Chosen chosen =
          choose(*test::random_desc(*op, rng), target);
      const Selection& selection = chosen.selection;
      uint64_t of_plan = 0;
      const auto bytes_at = [&](uint32_t choice, const Point& point) {
        const Prepared prepared = op->prepare(chosen.desc.get(), target, selection.choices[choice].config);
        return op->workspace_bytes(chosen.desc.get(), prepared, point);
      };
      for (size_t cell = 0; cell < selection.cells.size(); ++cell)
        for (const Point& corner : selection.corners(cell)) {
          CHECK(selection.lookup(corner) == selection.cells[cell]);
          of_plan = std::max(of_plan, bytes_at(selection.cells[cell], corner));
        }
      for (int i = 0; i < 40; ++i) {
        Point point{};
        for (size_t axis = 0; axis < selection.axes.size(); ++axis)
          point[axis] = rng() % 4 == 0 ? 0 : test::pick_size(rng, 0, selection.axes[axis].max);
        INFO(op->stem << " at " << point[0] << " " << point[1] << " " << point[2]);
        CHECK(bytes_at(selection.lookup(point), point) <= of_plan);
      }
    }
  }
}

// Digest of the choices for a fixed list of random descs on several targets.
std::array<uint8_t, 32> digest_of_choices() {
  test::Rng rng(6);
  Blake2b hash;
  for (const OpImpl* op : all_ops()) {
    for (const uint32_t sm_count : {132u, 78u}) {
      const Selection selection =
          choose(*test::random_desc(*op, rng), {"sm_90a", sm_count}).selection;
      for (const uint16_t cell : selection.cells) hash.add(uint64_t{cell});
      for (const Choice& choice : selection.choices) hash.add(choice.config.to_string());
      for (const Axis& axis : selection.axes)
        for (const int64_t end : axis.breaks) hash.add(static_cast<uint64_t>(end));
    }
  }
  return hash.digest();
}

TEST_CASE("repeated runs and another process choose the same", "[unit]") {
  const std::array<uint8_t, 32> here = digest_of_choices();
  CHECK(digest_of_choices() == here);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const std::array<uint8_t, 32> there = digest_of_choices();
    const bool is_written = write(ends[1], there.data(), there.size()) == ssize_t{32};
    _exit(is_written ? 0 : 1);
  }
  close(ends[1]);
  std::array<uint8_t, 32> there{};
  CHECK(read(ends[0], there.data(), there.size()) == ssize_t{32});
  close(ends[0]);
  int exit_status = -1;
  REQUIRE(waitpid(child, &exit_status, 0) == child);
  CHECK(exit_status == 0);
  CHECK(there == here);
}

}  // namespace
}  // namespace dgrt
