// A process that forks after it has made a compile-only context: the child may make plans and
// destroy the context, and neither side notices the other.
#include <unistd.h>

#include "tests/support/child_process.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"

namespace dgrt {
namespace {

using test::base;
using test::FakeDesc;

FakeDesc desc_of(uint32_t num_blocks) {
  FakeDesc desc;
  desc.num_blocks = num_blocks;
  return desc;
}

// In a child: a deadlock ends as SIGALRM.
int use_context(std::unique_ptr<Context> context, uint64_t num_compiles) {
  ::alarm(60);
  for (const uint32_t num_blocks : {2, 4}) {
    const auto plan = Plan::create(*context, base(desc_of(num_blocks)));
    if (!plan.is_ok()) return 1;
    if (plan.value()->kernels().size() != num_blocks) return 2;
  }
  if (context->kernels().stats().compiles != num_compiles) return 3;
  context.reset();
  return 0;
}

void check_fork(test::EngineFixture& fixture) {
  fixture.options.log_fn = nullptr;
  fixture.options.log_level = DGRT_LOG_OFF;
  auto context = fixture.open();
  fixture.plan(*context, desc_of(2));  // the compiler has run before the fork
  const pid_t child = test::spawn([&] { return use_context(std::move(context), 4); });
  REQUIRE(child > 0);
  const int status = test::wait_for(child);
  INFO("wait status " << status);
  CHECK(test::exited_well(status));
  // The parent's context is as it was, and finds what the child has compiled.
  fixture.plan(*context, desc_of(4));
  CHECK(context->kernels().stats().compiles == 2);
  CHECK(context->kernels().stats().disk_hits == 2);
}

TEST_CASE("a forked child uses and destroys a compile-only context", "[process]") {
  SECTION("with NVRTC") {
    test::EngineFixture fixture;
    check_fork(fixture);
  }
  SECTION("with a compiler of the test's own") {
    test::EngineFixture fixture;
    test::FakeCompiler::log_path.clear();
    fixture.parts.compiler = test::FakeCompiler::make();
    check_fork(fixture);
  }
}

TEST_CASE("a lock held over a fork ends with its holder, not with the child", "[process]") {
  test::TempDir temp;
  const auto cache = DiskCache::open(temp.path() + "/cache");
  REQUIRE(cache.is_ok());
  int hold[2];
  REQUIRE(::pipe(hold) == 0);
  pid_t child = -1;
  {
    const Result<KeyLock> lock = cache.value()->lock(test::sample_key(1));
    REQUIRE(lock.is_ok());
    child = test::spawn([&] {  // inherits the descriptor, and lives on
      ::close(hold[1]);
      char byte;
      return static_cast<int>(::read(hold[0], &byte, 1));
    });
    REQUIRE(child > 0);
  }
  CHECK(cache.value()->try_lock(test::sample_key(1)).value().has_value());
  ::close(hold[1]);
  CHECK(test::exited_well(test::wait_for(child)));
  ::close(hold[0]);
}

}  // namespace
}  // namespace dgrt
