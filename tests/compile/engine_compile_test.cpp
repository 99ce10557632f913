// The way from a cold cache through the compiler and back, with kernels that are really compiled.
// Needs libnvrtc, no GPU.
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "runtime/engine/prepare.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fault_fs.h"

namespace dgrt {
namespace {

using test::base;
using test::EngineFixture;
using test::FakeDesc;
using test::ScopedEnv;

std::string text_of(const std::string& file) {
  std::stringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

FakeDesc desc_of(uint32_t num_blocks) {
  FakeDesc desc;
  desc.num_blocks = num_blocks;
  return desc;
}

TEST_CASE("a cold plan compiles each kernel once and the next process finds them", "[compile]") {
  EngineFixture fixture;
  const FakeDesc desc = desc_of(3);
  {
    const auto context = fixture.open();
    const auto plan = fixture.plan(*context, desc);
    REQUIRE(plan->kernels().size() == 3);
    for (const dgrt_kernel_info& kernel : plan->kernels()) {
      CHECK(kernel.source == DGRT_SOURCE_COMPILED);
      CHECK(kernel.num_registers > 0);
    }
    const dgrt_stats stats = context->kernels().stats();
    CHECK(stats.compiles == 3);
    CHECK(stats.compile_ms > 0);
    CHECK(stats.disk_hits == 0);
    CHECK(stats.publish_failures == 0);
  }
  CHECK(fixture.entry_files().size() == 3);
  const auto context = fixture.open();
  const auto plan = fixture.plan(*context, desc);
  for (const dgrt_kernel_info& kernel : plan->kernels()) CHECK(kernel.source == DGRT_SOURCE_DISK);
  const dgrt_stats stats = context->kernels().stats();
  CHECK(stats.compiles == 0);
  CHECK(stats.disk_hits == 3);
  CHECK(fixture.warnings.empty());
}

TEST_CASE("a new kernel is one line that says what took how long and what it takes", "[compile]") {
  EngineFixture fixture;
  fixture.plan(*fixture.open(), desc_of(1));
  const std::regex line(
      "fake_big: kernel fake_big_b1 for sm_90a: compiled in [0-9.]+ ms \\(front end [0-9.]+, NVVM "
      "[0-9.]+, ptxas [0-9.]+ ms\\), [1-9][0-9]* registers, 0 spill bytes, key [0-9a-f]{64}");
  REQUIRE(fixture.infos.size() == 1);
  INFO(fixture.infos[0]);
  CHECK(std::regex_match(fixture.infos[0], line));
}

TEST_CASE("entries are equal byte for byte, whoever compiles, and say what they hold",
          "[compile]") {
  std::vector<std::string> texts[2];
  for (auto& of : texts) {
    EngineFixture fixture;
    fixture.plan(*fixture.open(), desc_of(2));
    for (const std::string& file : fixture.entry_files()) of.push_back(text_of(file));
  }
  REQUIRE(texts[0].size() == 2);
  CHECK(texts[0] == texts[1]);
  const Result<Entry> entry = parse_entry(std::as_bytes(std::span(texts[0][0])));
  REQUIRE(entry.is_ok());
  const nlohmann::json json = nlohmann::json::parse(entry.value().metadata);
  CHECK(json["stem"] == "fake_big");
  CHECK(json["arch"] == "sm_90a");
  CHECK(json["params_bytes"] == sizeof(test::FakeParams));
  CHECK(json["num_threads"] == 128);
  CHECK(json["num_registers"] > 0);
  CHECK(json["spill_store_bytes"] == 0);
  CHECK(json["options"].size() > 0);
  const std::string config = json["config"];
  CHECK(json["kernel"] == "fake_big_b" + config.substr(config.find('=') + 1));
}

TEST_CASE("a damaged entry is recompiled and stored again", "[compile]") {
  EngineFixture fixture;
  const FakeDesc desc = desc_of(2);
  fixture.plan(*fixture.open(), desc);
  const std::vector<std::string> files = fixture.entry_files();
  REQUIRE(files.size() == 2);
  const std::string good = text_of(files[0]);
  EngineFixture::damage(files[0]);
  std::ofstream(files[1], std::ios::trunc) << "cut";
  const auto context = fixture.open();
  fixture.plan(*context, desc);
  CHECK(context->kernels().stats().quarantined == 2);
  CHECK(context->kernels().stats().compiles == 2);
  CHECK(fixture.entry_files() == files);
  CHECK(text_of(files[0]) == good);
  CHECK(fixture.warnings.size() == 2);
}

TEST_CASE("a cache that cannot be written costs one warning and no kernel", "[compile]") {
  for (const int failure : {EROFS, ENOSPC, EACCES}) {
    EngineFixture fixture;
    test::FaultFs faults;
    faults.before = [failure](std::string_view call, int) {
      return call == "create" || call == "open_lock_file" ? failure : 0;
    };
    fixture.parts.fs = &faults;
    const auto context = fixture.open();
    const auto plan = fixture.plan(*context, desc_of(2));
    CHECK(plan->kernels()[0].source == DGRT_SOURCE_COMPILED);
    CHECK(context->kernels().stats().publish_failures == 2);
    size_t num_publish_warnings = 0;
    for (const std::string& line : fixture.warnings)
      num_publish_warnings += line.find("could not be stored") != std::string::npos;
    CHECK(num_publish_warnings == 1);
    CHECK(fixture.entry_files().empty());
    CHECK(fixture.plan(*context, desc_of(2))->kernels()[0].source == DGRT_SOURCE_MEMORY);
  }
}

TEST_CASE("without a cache directory kernels live in memory", "[compile]") {
  EngineFixture fixture;
  fixture.options.cache_dir = "";
  const auto context = fixture.open();
  CHECK(fixture.plan(*context, desc_of(1))->kernels()[0].source == DGRT_SOURCE_COMPILED);
  CHECK(fixture.plan(*context, desc_of(1))->kernels()[0].source == DGRT_SOURCE_MEMORY);
  CHECK_FALSE(std::filesystem::exists(fixture.cache_dir));
  CHECK(fixture.warnings.empty());
}

TEST_CASE("another compiler's entries serve the policy any, not exact", "[compile]") {
  EngineFixture fixture;
  const FakeDesc desc = desc_of(1);
  fixture.fill_cache(desc);  // by nvrtc 13.0 of another build
  {
    const ScopedEnv any("DGRT_COMPILER", "any");
    CHECK(fixture.plan(*fixture.open(), desc)->kernels()[0].source == DGRT_SOURCE_DISK);
  }
  CHECK(fixture.plan(*fixture.open(), desc)->kernels()[0].source == DGRT_SOURCE_COMPILED);
  CHECK(fixture.entry_files().size() == 2);
}

TEST_CASE("threads that need the same kernels share one compile of each", "[compile]") {
  EngineFixture fixture;
  const auto context = fixture.open();
  const FakeDesc desc = desc_of(4);
  std::vector<std::thread> threads;
  std::vector<Status> statuses(8);
  for (Status& status : statuses)
    threads.emplace_back([&] { status = Plan::create(*context, base(desc)).status(); });
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) CHECK(status.is_ok());
  const dgrt_stats stats = context->kernels().stats();
  CHECK(stats.compiles == 4);
  CHECK(stats.lookups == 32);
  CHECK(stats.memory_hits + stats.shared_waits == 28);
  CHECK(fixture.infos.size() == 4);
}

TEST_CASE("prepare compiles in parallel, once per kernel, and plans find all of it", "[compile]") {
  EngineFixture fixture;
  fixture.options.num_jobs = 3;
  const auto context = fixture.open();
  const FakeDesc small = desc_of(2), big = desc_of(5);
  const dgrt_desc* const descs[] = {base(small), base(big)};
  REQUIRE(prepare(*context, descs, 2, nullptr, nullptr).is_ok());
  CHECK(context->kernels().stats().compiles == 5);
  for (const FakeDesc* desc : {&small, &big}) {
    const auto plan = fixture.plan(*context, *desc);
    for (const dgrt_kernel_info& kernel : plan->kernels())
      CHECK(kernel.source == DGRT_SOURCE_MEMORY);
  }
}

TEST_CASE("a failed compile says why, is tried again and stores nothing", "[compile]") {
  EngineFixture fixture;
  const TempKernels broken{
      {test::fake_header, "namespace dgrt::fake { struct Params {}; nonsense }\n"}};
  const ScopedEnv kernels("DGRT_KERNELS_DIR", broken.path());
  const auto context = fixture.open();
  for (uint64_t round = 1; round <= 2; ++round) {
    const Status status = Plan::create(*context, base(desc_of(1))).status();
    CHECK(status.code() == DGRT_COMPILE_FAILED);
    CHECK(status.message().find("kernel fake_big_b1 (key ") == 0);
    CHECK(status.message().find("nonsense") != std::string::npos);
    CHECK(context->kernels().stats().compile_failures == round);
  }
  CHECK(fixture.entry_files().empty());
}

TEST_CASE("DGRT_DUMP keeps source, image and log", "[compile]") {
  EngineFixture fixture;
  const std::string dump = fixture.dir.path() + "/dump";
  const ScopedEnv env("DGRT_DUMP", dump);
  fixture.plan(*fixture.open(), desc_of(1));
  const std::string stem =
      dump + "/fake_big_b1." + fixture.kernels_of(desc_of(1))[0].key.hex().substr(0, 8);
  CHECK(text_of(stem + ".cu").find("static constexpr int block = 1;") != std::string::npos);
  CHECK(text_of(stem + ".cubin").substr(0, 4) ==
        "\x7f"
        "ELF");
  CHECK(std::filesystem::exists(stem + ".log"));
}

}  // namespace
}  // namespace dgrt
