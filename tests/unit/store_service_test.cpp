// What an operator sees of a context's cache: counters of eviction and of work inside launches, the
// cap on the directory, the reason of a miss. With a compiler and a driver of the test's own.
#include <chrono>
#include <filesystem>

#include "runtime/engine/launch_scope.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/fault_fs.h"
#include "tests/support/hot_path.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using test::base;
using test::EngineFixture;
using test::FakeCompiler;
using test::FakeCuda;
using test::FakeDesc;

struct Fixture : EngineFixture {
  Fixture() {
    FakeCompiler::log_path.clear();
    FakeCompiler::delay = {};
    parts.compiler = FakeCompiler::make();
  }
  FakeDesc desc_of(uint32_t num_blocks) const {
    FakeDesc desc;
    desc.num_blocks = num_blocks;
    return desc;
  }
};

TEST_CASE_METHOD(Fixture, "a context keeps its cache directory below the cap it was given",
                 "[unit]") {
  plan(*open(), desc_of(4));
  uint64_t bytes = 0;
  for (const std::string& file : entry_files()) {
    bytes += stdfs::file_size(file);
    stdfs::last_write_time(file, stdfs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  options.cache_max_bytes = bytes;
  infos.clear();
  const auto context = open();
  plan(*context, desc_of(5));                      // reads four, adds one
  CHECK(context->kernels().stats().evicted == 0);  // what was just read stays
  for (const std::string& file : entry_files())
    stdfs::last_write_time(file, stdfs::file_time_type::clock::now() - std::chrono::hours(1));
  plan(*context, desc_of(6));
  const dgrt_stats stats = context->kernels().stats();
  CHECK(stats.compiles == 2);
  CHECK(stats.evicted >= 2);
  CHECK(stats.evicted_bytes > 0);
  CHECK(entry_files().size() == 6 - stats.evicted);
  uint64_t bytes_left = 0;
  for (const std::string& file : entry_files()) bytes_left += stdfs::file_size(file);
  CHECK(bytes_left <= bytes);
  CHECK(infos.back().find("fake_big_b6") != std::string::npos);
  CHECK(infos[infos.size() - 2].find("removed from the cache directory") != std::string::npos);
  CHECK(warnings.empty());
}

TEST_CASE_METHOD(Fixture, "a context tidies up its cache directory when that is due", "[unit]") {
  plan(*open(), desc_of(1));
  const stdfs::path shard = stdfs::path(entry_files()[0]).parent_path();
  std::ofstream(shard / "tmp-of-a-dead-process") << "x";
  const auto long_ago = stdfs::file_time_type::clock::now() - std::chrono::hours(25);
  for (const auto& file :
       {shard / "tmp-of-a-dead-process", cache_dir / stdfs::path("locks/upkeep.lock")})
    if (stdfs::exists(file)) stdfs::last_write_time(file, long_ago);
  open();
  CHECK_FALSE(stdfs::exists(shard / "tmp-of-a-dead-process"));
  CHECK(entry_files().size() == 1);
}

TEST_CASE_METHOD(Fixture, "a cap that cannot be kept is one warning", "[unit]") {
  test::FaultFs fs;
  fs.before = [](std::string_view call, int) { return call == "list" ? EIO : 0; };
  parts.fs = &fs;
  const auto context = open();
  plan(*context, desc_of(3));
  CHECK(context->kernels().stats().compiles == 3);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("cache not kept below its size") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "DGRT_EXPLAIN=miss says which kernel was nearest", "[unit]") {
  plan(*open(), desc_of(2));
  {
    const auto quiet = open();
    plan(*quiet, desc_of(3));
    CHECK(warnings.empty());
  }
  const test::ScopedEnv explain("DGRT_EXPLAIN", "miss");
  const auto context = open();
  plan(*context, desc_of(3));  // all there
  CHECK(warnings.empty());
  plan(*context, desc_of(4));
  REQUIRE(warnings.size() == 1);
  INFO(warnings[0]);
  CHECK(warnings[0].find("miss: kernel fake_big_b4 (key ") == 0);
  CHECK(warnings[0].find("the nearest is fake_big_b") != std::string::npos);
  CHECK(warnings[0].find("in " + cache_dir) != std::string::npos);
  CHECK(warnings[0].find("differs in: config (block=4, cached: block=") != std::string::npos);

  // The same kernels of another compiler; in a directory that is only read, too.
  parts.compiler = FakeCompiler::make(1);
  options.cache_ro_path = cache_dir.c_str();
  const std::string other_dir = dir.path() + "/other";
  options.cache_dir = other_dir.c_str();
  options.miss_policy = DGRT_MISS_ERROR;
  const test::ScopedEnv exact("DGRT_COMPILER", "exact");
  warnings.clear();
  CHECK(Plan::create(*open(), base(desc_of(1))).status().code() == DGRT_MISS);
  REQUIRE(warnings.size() == 1);
  INFO(warnings[0]);
  CHECK(warnings[0].find("differs in: compiler (nvrtc-99.1-0000000000000000, cached: "
                         "nvrtc-99.0-0000000000000000)") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "launches neither compile nor load, and would be caught if they did",
                 "[unit]") {
  options.device = 0;
  options.arch = nullptr;
  options.sm_count = 0;
  parts.driver = FakeCuda::make();
  FakeCuda::params_bytes = sizeof(test::FakeParams);
  const auto context = open();
  const auto built = plan(*context, desc_of(4));
  test::FakeArgs args;
  args.out = reinterpret_cast<int*>(0x1000);
  for (args.m = 0; args.m <= 1000; args.m += 7)
    CHECK(built->launch(base(args), nullptr, 0, FakeCuda::stream_of(100)).is_ok());
  dgrt_stats stats = context->kernels().stats();
  CHECK(stats.compiles == 4);
  CHECK(stats.kernel_loads == 4);
  CHECK(stats.launch_compiles == 0);
  CHECK(stats.launch_loads == 0);
  CHECK(test::check_hot_path(stats).is_ok());
  {
    const LaunchScope scope;  // as if a launch had a way to the store
    plan(*context, desc_of(5));
  }
  stats = context->kernels().stats();
  CHECK(stats.launch_compiles == 1);
  CHECK(stats.launch_loads == 1);
  CHECK(test::check_hot_path(stats).message() ==
        "launches have compiled 1 and loaded 1 kernels, must be none");
  stats.launch_compiles = 0;
  CHECK_FALSE(test::check_hot_path(stats).is_ok());
}

}  // namespace
}  // namespace dgrt
