// Images that the device's driver refuses, as a cache of other hosts may hold them: the plan fails by
// name, the entry stays, and below a layer that is only read there is still the compiler.
#include "runtime/compile/nvrtc.h"
#include "tests/gpu/gpu_test.h"
#include "tests/support/bundle_samples.h"
#include "tests/support/engine_fixture.h"

namespace dgrt::test {
namespace {

// The kernel of `desc`, as the cache would hold it, with another image.
Result<Entry> entry_with(EngineFixture& fixture, const FakeDesc& desc, bool is_for_other_gpu) {
  const PlannedKernel kernel = fixture.kernels_of(desc).front();
  DGRT_ASSIGN(const std::shared_ptr<const Nvrtc> compiler, Nvrtc::load());
  Entry entry = sample_entry(1, compiler->id(), 4000);  // no image at all
  entry.key = kernel.key;
  entry.metadata = fmt::format(
      R"({{"kernel": "{}", "num_registers": 24, "spill_load_bytes": 0, "spill_store_bytes": 0}})",
      kernel.instance.entry);
  if (!is_for_other_gpu) return entry;
  Instance instance = kernel.instance;
  instance.arch = "sm_80";
  DGRT_ASSIGN(const Compiled compiled,
              compiler->compile(instance, Sources(::getenv("DGRT_KERNELS_DIR"))));
  const auto* bytes = reinterpret_cast<const std::byte*>(compiled.cubin.data());
  entry.cubin.assign(bytes, bytes + compiled.cubin.size());
  return entry;
}

Result<std::string> use_refused(bool is_for_other_gpu) {
  EngineFixture fixture;
  FakeDesc desc;
  desc.num_blocks = 1;
  DGRT_ASSIGN(const Entry entry, entry_with(fixture, desc, is_for_other_gpu));
  fixture.options.device = 0;
  fixture.options.arch = nullptr;
  {
    DGRT_ASSIGN(const auto cache, DiskCache::open(fixture.cache_dir));
    DGRT_TRY(cache->publish(entry));
  }
  DGRT_ASSIGN(const auto context, Context::create(fixture.options, fixture.parts));
  const Status refused = dgrt::Plan::create(*context, base(desc)).status();
  if (refused.code() != DGRT_DRIVER_TOO_OLD || context->kernels().stats().quarantined != 0 ||
      fixture.entry_files().size() != 1)
    return error(DGRT_INTERNAL, "in the cache: status {} \"{}\"", refused.code(),
                 refused.message());

  // In a bundle it hides nothing: the kernel is compiled.
  const std::string bundle = fixture.dir.path() + "/refused.dgb",
                    other_dir = fixture.dir.path() + "/other";
  write_bytes(bundle, bundle_bytes({entry}));
  fixture.options.bundle_path = bundle.c_str();
  fixture.options.cache_dir = other_dir.c_str();
  DGRT_ASSIGN(const auto second, Context::create(fixture.options, fixture.parts));
  DGRT_TRY(dgrt::Plan::create(*second, base(desc)).status());
  if (second->kernels().stats().compiles != 1)
    return error(DGRT_INTERNAL, "below a bundle: {} compiles", second->kernels().stats().compiles);
  return refused.message();
}

TEST_CASE("refused image: the plan fails by name, the entry stays", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("refused image");
  if (!gpu) return;
  run_case("refused image: of another GPU", [] { return use_refused(true); });
  run_case("refused image: no image", [] { return use_refused(false); });
  REQUIRE(gpu->lab->make_current().is_ok());
}

}  // namespace
}  // namespace dgrt::test
