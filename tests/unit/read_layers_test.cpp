// Bundles and read-only directories as a context uses them: the order of the layers, pinning, and
// that neither is ever written or trusted too far. Without GPU and without compiler.
#include "cache/read_layers.h"

#include <sys/stat.h>

#include <filesystem>

#include "tests/support/bundle_samples.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_cuda.h"

namespace dgrt {
namespace {

using test::base;
using test::EngineFixture;
using test::FakeCuda;
using test::FakeDesc;
using test::sample_compiler;
using test::sample_entry;
using test::ScopedEnv;

namespace stdfs = std::filesystem;

// Eight kernels in a bundle and a read-only directory; nothing may be compiled, and no compiler's
// library is opened.
struct LayerFixture : EngineFixture {
  LayerFixture() {
    options.miss_policy = DGRT_MISS_ERROR;
    fill_cache(desc);
    std::vector<Entry> entries;
    for (const std::string& file : entry_files())
      entries.push_back(std::move(parse_entry(test::read_bytes(file))).value());
    REQUIRE(entries.size() == 8);
    test::write_bytes(bundle, test::bundle_bytes(entries));
    stdfs::rename(cache_dir, ro);
  }
  // How many kernels a plan finds outside the cache directory, which must stay empty.
  uint64_t hits() {
    const auto context = open();
    const auto made = plan(*context, desc);
    CHECK(made->kernels()[0].source == DGRT_SOURCE_DISK);
    CHECK(entry_files().empty());
    CHECK(context->kernels().stats().quarantined == 0);
    return context->kernels().stats().disk_hits;
  }
  Status create_status() { return Context::create(options, parts).status(); }

  const FakeDesc desc;
  const std::string ro = dir.path() + "/ro", bundle = dir.path() + "/all.dgb";
};

TEST_CASE("a read-only directory serves a plan and is not copied", "[unit]") {
  LayerFixture fixture;
  SECTION("by option") {
    const std::string path = "/nonexistent::" + fixture.ro;
    fixture.options.cache_ro_path = path.c_str();
    CHECK(fixture.hits() == 8);
    REQUIRE(fixture.warnings.size() == 1);
    CHECK(fixture.warnings[0].find("left out: /nonexistent") != std::string::npos);
  }
  SECTION("by environment, without a cache directory, write-protected") {
    const ScopedEnv env("DGRT_CACHE_RO_PATH", fixture.ro);
    fixture.options.cache_dir = "";
    for (const auto& item : stdfs::recursive_directory_iterator(fixture.ro))
      REQUIRE(::chmod(item.path().c_str(), item.is_directory() ? 0555 : 0444) == 0);
    CHECK(fixture.hits() == 8);
    CHECK(fixture.warnings.empty());
    for (const auto& item : stdfs::recursive_directory_iterator(fixture.ro))
      if (item.is_directory()) REQUIRE(::chmod(item.path().c_str(), 0700) == 0);
  }
}

TEST_CASE("a damaged entry in a read-only directory is a miss and one warning", "[unit]") {
  LayerFixture fixture;
  fixture.options.cache_ro_path = fixture.ro.c_str();
  size_t num_files = 0;
  for (const auto& item : stdfs::recursive_directory_iterator(fixture.ro + "/v1"))
    if (item.is_regular_file()) EngineFixture::damage(item.path()), ++num_files;
  const auto context = fixture.open();
  for (int i = 0; i < 2; ++i) {
    const Status status = Plan::create(*context, base(fixture.desc)).status();
    CHECK(status.code() == DGRT_MISS);
    CHECK(status.message().find("directory " + fixture.ro) != std::string::npos);
  }
  CHECK(fixture.warnings.size() == 1);
  CHECK(context->kernels().stats().quarantined == 0);
  CHECK_FALSE(stdfs::exists(fixture.ro + "/quarantine"));
  for (const auto& item : stdfs::recursive_directory_iterator(fixture.ro + "/v1"))
    num_files -= item.is_regular_file();
  CHECK(num_files == 0);
}

TEST_CASE("a cache opened read-only refuses to write", "[unit]") {
  const test::TempDir dir;
  REQUIRE(DiskCache::open(dir.path() + "/cache").is_ok());
  const auto cache = DiskCache::open_read_only(dir.path() + "/cache");
  REQUIRE(cache.is_ok());
  const Entry entry = sample_entry(1);
  CHECK(cache.value()->publish(entry).code() == DGRT_INVALID_ARGUMENT);
  CHECK(cache.value()->lock(entry.key).status().code() == DGRT_INVALID_ARGUMENT);
  CHECK(cache.value()->quarantine(entry.key, entry.compiler).code() == DGRT_INVALID_ARGUMENT);
  CHECK(stdfs::is_empty(dir.path() + "/cache"));
  CHECK(DiskCache::open_read_only(dir.path() + "/none").status().code() == DGRT_IO_ERROR);
  CHECK_FALSE(stdfs::exists(dir.path() + "/none"));
}

TEST_CASE("a bundle serves a plan without any compiler", "[unit]") {
  LayerFixture fixture;
  SECTION("by option") {
    fixture.options.bundle_path = fixture.bundle.c_str();
    CHECK(fixture.hits() == 8);
  }
  SECTION("by environment") {
    const ScopedEnv env("DGRT_BUNDLE_PATH", fixture.bundle);
    CHECK(fixture.hits() == 8);
    fixture.options.bundle_path = "";  // the option wins
    CHECK(Plan::create(*fixture.open(), base(fixture.desc)).status().code() == DGRT_MISS);
  }
  CHECK(fixture.warnings.empty());
}

TEST_CASE("a bundle for other keys is a miss, a damaged one is passed over", "[unit]") {
  LayerFixture fixture;
  const std::string other = fixture.dir.path() + "/other.dgb";
  test::write_bytes(other, test::bundle_bytes(test::bundle_entries()));
  std::vector<std::byte> bytes = test::read_bytes(fixture.bundle);
  bytes[64 + 8 * 80 + 128 + 64] ^= std::byte{1};  // in the first entry
  const std::string damaged = fixture.dir.path() + "/damaged.dgb";
  test::write_bytes(damaged, bytes);
  const std::string path = other + ":" + damaged + ":" + fixture.bundle;
  fixture.options.bundle_path = path.c_str();
  CHECK(fixture.hits() == 8);
  REQUIRE(fixture.warnings.size() == 1);
  CHECK(fixture.warnings[0].find(damaged) != std::string::npos);
}

TEST_CASE("an unusable bundle is one warning; a pinned one is an error", "[unit]") {
  LayerFixture fixture;
  const std::string digest = to_hex(std::move(Bundle::open(fixture.bundle)).value()->digest());
  const std::string zeros(64, '0'), absent = fixture.dir.path() + "/absent.dgb";
  const auto create = [&](const std::string& path, const std::string& digests) {
    fixture.options.bundle_path = path.c_str();
    fixture.options.bundle_digest = digests.c_str();
    const Status status = fixture.create_status();
    fixture.options.bundle_path = fixture.options.bundle_digest = nullptr;
    return status;
  };
  CHECK(create(absent, "").is_ok());
  CHECK(fixture.warnings.size() == 1);
  CHECK(create(fixture.bundle, digest).is_ok());
  CHECK(create(absent, digest).code() == DGRT_IO_ERROR);
  CHECK(create(absent, digest).message().find(absent) != std::string::npos);
  CHECK(create(fixture.bundle, zeros).code() == DGRT_INVALID_ARGUMENT);
  CHECK(create(fixture.bundle, zeros).message().find(fixture.bundle) != std::string::npos);
  CHECK(create(fixture.bundle, "12").message().find("64 hex digits") != std::string::npos);
  CHECK(create(fixture.bundle, digest + ":" + zeros).code() == DGRT_INVALID_ARGUMENT);
  CHECK(create("", digest).code() == DGRT_INVALID_ARGUMENT);
  const ScopedEnv path("DGRT_BUNDLE_PATH", fixture.bundle), pin("DGRT_BUNDLE_DIGEST", zeros);
  CHECK(fixture.create_status().code() == DGRT_INVALID_ARGUMENT);
  fixture.options.bundle_path = fixture.bundle.c_str();  // the environment's pin is not its pin
  CHECK(fixture.create_status().is_ok());
}

TEST_CASE("an entry whose metadata is not of the kernel is passed over", "[unit]") {
  LayerFixture fixture;
  std::vector<Entry> entries;
  for (const PlannedKernel& kernel : fixture.kernels_of(fixture.desc)) {
    entries.push_back(sample_entry(1));
    entries.back().key = kernel.key;
  }
  const std::string wrong = fixture.dir.path() + "/wrong.dgb";
  test::write_bytes(wrong, test::bundle_bytes(entries));
  fixture.options.bundle_path = wrong.c_str();
  fixture.options.cache_ro_path = fixture.ro.c_str();
  CHECK(fixture.hits() == 8);
  CHECK_FALSE(fixture.warnings.empty());
}

TEST_CASE("an image of a bundle that the driver refuses does not hide the layers below", "[unit]") {
  LayerFixture fixture;
  fixture.options.device = 0;
  fixture.options.arch = nullptr;
  fixture.options.sm_count = 0;
  fixture.options.bundle_path = fixture.bundle.c_str();
  fixture.options.cache_ro_path = fixture.ro.c_str();
  fixture.parts.driver = FakeCuda::make();
  FakeCuda::params_bytes = sizeof(test::FakeParams);
  SECTION("refused everywhere: the refusal is what is reported") {
    FakeCuda::load_result = CUDA_ERROR_NO_BINARY_FOR_GPU;
    const auto context = fixture.open();
    CHECK(Plan::create(*context, base(fixture.desc)).status().code() == DGRT_DRIVER_TOO_OLD);
    CHECK(context->kernels().stats().disk_hits == 2);  // bundle and directory were both tried
  }
  SECTION("the wrong kernel everywhere: a miss") {
    FakeCuda::params_bytes = 1;
    const auto context = fixture.open();
    CHECK(Plan::create(*context, base(fixture.desc)).status().code() == DGRT_MISS);
    CHECK(context->kernels().stats().quarantined == 0);
  }
  SECTION("taken: loaded from the bundle") {
    const auto context = fixture.open();
    CHECK(Plan::create(*context, base(fixture.desc)).is_ok());
    CHECK(context->kernels().stats().kernel_loads == 8);
  }
}

TEST_CASE("layers are asked in order, for the compiler wanted first", "[unit]") {
  const test::TempDir dir;
  const CompilerId old = sample_compiler(12, 9), now = sample_compiler();
  const std::string a = dir.path() + "/a", b = dir.path() + "/b";
  test::write_bytes(a, test::bundle_bytes({sample_entry(1, old), sample_entry(1)}));
  test::write_bytes(b, test::bundle_bytes({sample_entry(1, old), sample_entry(2, old)}));
  std::vector<Status> problems;
  const auto layers = ReadLayers::open(a + ":" + b, "", "", real_fs(), &problems);
  REQUIRE(layers.is_ok());
  CHECK(problems.empty());
  CHECK(layers.value().size() == 2);
  const auto find = [&](uint8_t seed, const ReadLayers::Want& want, size_t first = 0) {
    return layers.value().find(test::sample_key(seed), want, first);
  };
  CHECK(find(1, {}).entry == sample_entry(1));
  CHECK(find(1, {&old, false}).entry == sample_entry(1, old));
  CHECK(find(1, {}, 1).entry == sample_entry(1, old));
  CHECK(find(2, {&now, false}).layer == 1);
  CHECK(find(2, {&now, false}).entry == sample_entry(2, old));  // bundles: any compiler's
  CHECK_FALSE(find(2, {&now, true}).entry.has_value());         // unless exact is demanded
}

}  // namespace
}  // namespace dgrt
