// DGRT_RECORD: which plans were created, one line each, also when several contexts write at once,
// and never at a plan's expense.
#include "runtime/engine/recorder.h"

#include <sys/resource.h>

#include <fstream>
#include <thread>

#include "dgrt/gemm.h"
#include "runtime/engine/desc_json.h"
#include "runtime/engine/prepare.h"
#include "tests/support/catch.h"
#include "tests/support/engine_fixture.h"

namespace dgrt {
namespace {

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

dgrt_scale_layout_desc layout(int64_t k_blocks) {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = k_blocks;
  desc.max_m = 64;
  return desc;
}

struct Recording {
  void add(Recorder& recorder, int64_t k_blocks) {
    const dgrt_scale_layout_desc desc = layout(k_blocks);
    recorder.add(&desc.op);
  }
  test::TempDir dir;
  const std::string path = dir.path() + "/plans.jsonl";
  Log log{DGRT_LOG_WARN,
          [](dgrt_log_level, const char* text, void* user) {
            static_cast<std::vector<std::string>*>(user)->push_back(text);
          },
          &warnings};
  std::vector<std::string> warnings;
};

TEST_CASE("recorder: one line per distinct desc, whoever writes it", "[unit]") {
  Recording r;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      Recorder own(r.path, r.log);  // as processes have them
      for (int64_t i = 0; i < 30; ++i) r.add(own, 1 + (i + 7 * t) % 30);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(lines_of(r.path).size() == 30);
  std::ifstream file(r.path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto descs = parse_recording(text);
  REQUIRE(descs.is_ok());
  CHECK(descs.value().size() == 30);
  Recorder later(r.path, r.log);
  r.add(later, 1);
  CHECK(lines_of(r.path).size() == 30);
  r.add(later, 31);
  CHECK(lines_of(r.path).size() == 31);
  CHECK(r.warnings.empty());
}

TEST_CASE("recorder: a line cut short by a crash does not spoil the next", "[unit]") {
  Recording r;
  std::ofstream(r.path) << "{\"op\": \"sca";
  Recorder recorder(r.path, r.log);
  r.add(recorder, 5);
  const auto lines = lines_of(r.path);
  REQUIRE(lines.size() == 2);
  CHECK(parse_recording(lines[1]).is_ok());
}

TEST_CASE("recorder: trouble is one warning, and off means off", "[unit]") {
  Recording r;
  Recorder off("", r.log), impossible(r.path + "/no/such", r.log);
  for (int64_t i = 1; i < 4; ++i) r.add(off, i), r.add(impossible, i);
  REQUIRE(r.warnings.size() == 1);
  CHECK(r.warnings[0].find("DGRT_RECORD=" + r.path + "/no/such") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(r.path));
}

TEST_CASE("recorder: plans that are created are recorded, others not", "[unit]") {
  test::EngineFixture fixture;
  const std::string path = fixture.dir.path() + "/plans.jsonl";
  const test::ScopedEnv record("DGRT_RECORD", path);
  fixture.parts.ops = &all_ops();
  fixture.options.miss_policy = DGRT_MISS_ERROR;
  const dgrt_scale_layout_desc good = layout(56), missing = layout(0);
  const auto warm = DescCopy::make(&good.op, all_ops());
  REQUIRE(warm.is_ok());
  fixture.fill_cache(&good.op, all_ops());
  const auto context = fixture.open();
  CHECK_FALSE(Plan::create(*context, &missing.op).is_ok());
  CHECK(lines_of(path).empty());
  const dgrt_desc* const descs[] = {&good.op};
  CHECK(prepare(*context, descs, 1, nullptr, nullptr).is_ok());
  CHECK(lines_of(path).empty());
  for (int i = 0; i < 3; ++i) CHECK(Plan::create(*context, &good.op).is_ok());
  REQUIRE(lines_of(path).size() == 1);
  CHECK(lines_of(path)[0] == R"({"op":"scale_layout","k_blocks":56,"max_m":64,"num_groups":1})");
}

}  // namespace
}  // namespace dgrt
