// NVTX ranges, with a profiler's library of the test's own.
#include "runtime/base/nvtx.h"

#include <dlfcn.h>

#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"
#include "tests/support/fake_cuda.h"

namespace dgrt {
namespace {

using test::base;
using test::FakeCuda;

struct Profiler {
  void* library = dlopen(DGRT_FAKE_NVTX_PATH, RTLD_NOW);
  template <class F>
  F find(const char* name) const {
    REQUIRE(library != nullptr);
    return reinterpret_cast<F>(dlsym(library, name));
  }
  std::string names() const { return find<const char* (*)()>("fake_nvtx_names")(); }
  int depth() const { return find<int (*)()>("fake_nvtx_depth")(); }
  void reset() const { find<void (*)()>("fake_nvtx_reset")(); }
};

TEST_CASE("nvtx: a profiler sees plans, compiles, loads and launches, by name", "[unit]") {
  const Profiler profiler;
  profiler.reset();
  {
    test::EngineFixture fixture;
    fixture.parts.compiler = test::FakeCompiler::make();
    fixture.plan(*fixture.open(), {});
    CHECK(profiler.names().empty());  // nobody asked
    CHECK(open_nvtx("").is_ok());
  }

  const test::ScopedEnv injection("NVTX_INJECTION64_PATH", DGRT_FAKE_NVTX_PATH);
  test::EngineFixture fixture;
  fixture.parts.compiler = test::FakeCompiler::make();
  fixture.parts.driver = FakeCuda::make();
  fixture.options.device = 0;
  fixture.options.arch = nullptr;
  fixture.options.sm_count = 0;
  FakeCuda::params_bytes = sizeof(test::FakeParams);
  test::FakeDesc desc;
  desc.num_blocks = 1;
  const auto context = fixture.open();
  const auto plan = fixture.plan(*context, desc);
  CHECK(profiler.names() ==
        "dgrt plan fake_big\ndgrt compile fake_big_b1\ndgrt load fake_big_b1\n");
  profiler.reset();
  test::FakeArgs args;
  args.out = reinterpret_cast<int*>(0x1000);
  args.m = 1;
  CHECK(plan->launch(base(args), nullptr, 0, FakeCuda::stream_of(100)).is_ok());
  CHECK(profiler.names() == "fake_big_b1\n");
  CHECK(profiler.depth() == 0);
  CHECK(fixture.warnings.empty());
}

}  // namespace
}  // namespace dgrt
