// A context on a cache directory that fails: whichever call goes wrong, its plans get their kernels,
// and what the next context finds is good. With a compiler of the test's own; the directory's own
// promises are tested in disk_cache_fault_test.cpp.
#include <algorithm>
#include <filesystem>

#include "tests/support/bundle_samples.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"
#include "tests/support/fault_fs.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using test::base;
using test::FakeCompiler;

struct Fixture : test::EngineFixture {
  Fixture() : EngineFixture(test::memory_dir()) {
    FakeCompiler::log_path.clear();
    FakeCompiler::delay = {};
    parts.compiler = FakeCompiler::make();
    parts.fs = &fs;
    desc.num_blocks = 3;
  }
  // Two kernels lie in the directory, one of them damaged; the third is new.
  void half_warm() {
    test::FakeDesc two = desc;
    two.num_blocks = 2;
    plan(*open(), two);
    damage(entry_files()[0]);
  }
  // All three are there to be read.
  void warm() { plan(*open(), desc); }
  // The same three in a bundle and a directory that is only read, and no other cache.
  void read_only() {
    warm();
    std::vector<Entry> entries;
    for (const std::string& file : entry_files())
      entries.push_back(std::move(parse_entry(test::read_bytes(file))).value());
    test::write_bytes(bundle, test::bundle_bytes(entries));
    stdfs::rename(cache_dir, ro);
    options.bundle_path = bundle.c_str();
    options.cache_ro_path = ro.c_str();
  }
  void reset(void (Fixture::*fill)()) {
    fs.before = nullptr;
    options.bundle_path = options.cache_ro_path = nullptr;
    for (const std::string& path : {cache_dir, ro, bundle}) stdfs::remove_all(path);
    if (fill != nullptr) (this->*fill)();
    warnings.clear();
    fs.restart();
  }
  ptrdiff_t num_warned(const std::string& text) const {
    return std::count_if(warnings.begin(), warnings.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    });
  }
  void check_plan() {
    const auto context = open();
    const auto made = plan(*context, desc);
    CHECK(made->kernels().size() == 3);
    const dgrt_stats stats = context->kernels().stats();
    CHECK(stats.compiles + stats.disk_hits == 3);
    const bool has_dir = options.bundle_path == nullptr && num_warned("in memory only") == 0;
    CHECK((!has_dir || entry_files().size() + stats.publish_failures >= 3));
    CHECK(num_warned("could not be stored") == (stats.publish_failures > 0));
  }
  void check_healthy() {
    fs.before = nullptr;
    const auto context = open();
    plan(*context, desc);
    CHECK(context->kernels().stats().quarantined <= 1);  // what was damaged on purpose
    if (!stdfs::exists(cache_dir)) return;
    const auto cache = DiskCache::open(cache_dir);
    REQUIRE(cache.is_ok());
    const Result<std::vector<CacheFile>> files = cache.value()->list();
    REQUIRE(files.is_ok());
    for (const CacheFile& file : files.value()) CHECK(file.status.is_ok());
  }

  test::FaultFs fs;
  test::FakeDesc desc;
  const std::string ro = dir.path() + "/ro", bundle = dir.path() + "/all.dgb";
};

TEST_CASE_METHOD(Fixture, "a plan gets its kernels whichever call of its cache fails", "[unit]") {
  const struct {
    const char* name;
    void (Fixture::*fill)();
    int min_calls;  // it makes at least so many, or the test does not do what it says
  } states[] = {{"cold", nullptr, 60},
                {"half warm", &Fixture::half_warm, 50},
                {"warm", &Fixture::warm, 20},
                {"read only", &Fixture::read_only, 3}};
  for (const auto& state : states) {
    reset(state.fill);
    check_plan();
    const int num_calls = fs.calls();
    INFO(state.name << ": " << num_calls << " calls");
    CHECK(num_calls >= state.min_calls);
    for (const int error : {ENOSPC, EIO, EROFS, EACCES, ESTALE, EMFILE}) {
      for (const bool from_there_on : {false, true}) {
        for (int n = 1; n <= num_calls; ++n) {
          INFO(errno_text(error) << ", call " << n << (from_there_on ? " and all after it" : ""));
          reset(state.fill);
          fs.before = [&](std::string_view, int number) {
            return number == n || (from_there_on && number > n) ? error : 0;
          };
          check_plan();
          check_healthy();
        }
      }
    }
  }
}

}  // namespace
}  // namespace dgrt
