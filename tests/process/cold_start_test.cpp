// Sixty-four processes that start on one cold cache at once, as the ranks of a large host do, with
// a slow compiler: each kernel is compiled once where the file system has locks, and every process
// gets all of its kernels where it has none.
#include <fstream>
#include <map>

#include "tests/support/child_process.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"
#include "tests/support/fault_fs.h"

namespace dgrt {
namespace {

using namespace std::chrono_literals;
using test::base;
using test::FakeCompiler;

constexpr int num_processes = 64;
constexpr int num_kernels = 8;

// Runs all processes through one plan each; the number of compiles of each kernel.
std::map<std::string, int> run_all(test::EngineFixture& fixture, int lock_error) {
  test::FakeDesc desc;
  desc.num_blocks = num_kernels;
  FakeCompiler::log_path = fixture.dir.path() + "/compiles";
  FakeCompiler::delay = 30ms;
  test::Gate gate;
  REQUIRE(gate.is_good());
  std::vector<pid_t> children;
  for (int p = 0; p < num_processes; ++p) {
    children.push_back(test::spawn([&] {
      test::FaultFs fs;
      fs.before = [&](std::string_view call, int) { return call == "lock" ? lock_error : 0; };
      fixture.options.log_fn = nullptr;
      fixture.options.log_level = DGRT_LOG_OFF;
      fixture.parts.fs = &fs;
      fixture.parts.compiler = FakeCompiler::make();
      gate.pass();
      const auto context = Context::create(fixture.options, fixture.parts);
      if (!context.is_ok()) return 1;
      const auto plan = Plan::create(*context.value(), base(desc));
      if (!plan.is_ok()) return 2;
      const dgrt_stats stats = context.value()->kernels().stats();
      if (stats.compiles + stats.disk_hits + stats.shared_waits != num_kernels) return 3;
      return stats.publish_failures == 0 && stats.quarantined == 0 ? 0 : 4;
    }));
    REQUIRE(children.back() > 0);
  }
  gate.open();
  for (const pid_t child : children) {
    const int status = test::wait_for(child);
    INFO("wait status " << status);
    CHECK(test::exited_well(status));
  }
  std::map<std::string, int> num_compiles;
  std::ifstream lines(FakeCompiler::log_path);
  for (std::string line; std::getline(lines, line);) ++num_compiles[line];
  CHECK(num_compiles.size() == num_kernels);
  CHECK(fixture.entry_files().size() == num_kernels);
  const auto cache = DiskCache::open(fixture.cache_dir);
  REQUIRE(cache.is_ok());
  const Result<std::vector<CacheFile>> files = cache.value()->list();
  REQUIRE(files.is_ok());
  for (const CacheFile& file : files.value()) CHECK(file.status.is_ok());
  return num_compiles;
}

TEST_CASE("64 cold processes compile each kernel exactly once", "[process]") {
  test::EngineFixture fixture;
  for (const auto& [kernel, count] : run_all(fixture, 0)) {
    INFO(kernel);
    CHECK(count == 1);
  }
}

TEST_CASE("64 cold processes all get their kernels where locks fail", "[process]") {
  for (const int error : {ENOLCK, EOPNOTSUPP}) {
    test::EngineFixture fixture;
    for (const auto& [kernel, count] : run_all(fixture, error)) {
      INFO(kernel);
      CHECK(count <= num_processes);
    }
  }
}

}  // namespace
}  // namespace dgrt
