// A soak without a GPU: plans of a compile-only context over a directory that is being damaged.
// DGRT_SOAK_SECONDS=600 for a long one.
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"
#include "tests/support/soak.h"

namespace dgrt {
namespace {

TEST_CASE("a soak of plans over a cache that is damaged all the time", "[process]") {
  test::EngineFixture fixture;
  test::FakeCompiler::log_path.clear();
  test::FakeCompiler::delay = {};
  fixture.parts.compiler = test::FakeCompiler::make();
  fixture.options.log_level = DGRT_LOG_OFF;
  test::FakeDesc few, many;
  few.num_blocks = 2;
  test::Soak soak;
  soak.options = fixture.options;
  soak.parts = fixture.parts;
  soak.descs = {test::base(few), test::base(many)};
  soak.duration = test::soak_duration();
  soak.use = [](const Plan&, size_t, uint32_t) { return ok(); };
  const Result<std::string> done = soak.run();
  INFO((done.is_ok() ? done.value() : done.status().message()));
  CHECK(done.is_ok());
}

}  // namespace
}  // namespace dgrt
