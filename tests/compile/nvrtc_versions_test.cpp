// libnvrtc as hosts have it: missing, too old, of several versions, replaced under a running
// process. The versions come from DGRT_TEST_NVRTC_12 and DGRT_TEST_NVRTC_13: directories that hold
// libnvrtc.so.<major> and its builtins, such as those of the pip packages.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "runtime/compile/nvrtc.h"
#include "runtime/compile/nvrtc_library.h"
#include "tests/support/engine_fixture.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using test::base;
using test::EngineFixture;
using test::FakeDesc;

TEST_CASE("nvrtc versions: none, and one that is too old, are told by name", "[compile]") {
  const std::string absent = "/nonexistent/libnvrtc.so.13";
  const Status missing = open_nvrtc_library({absent}).status();
  CHECK(missing.code() == DGRT_NO_COMPILER);
  CHECK(missing.message().find("no libnvrtc 12.8 or newer") == 0);
  const Status old = open_nvrtc_library({absent, DGRT_OLD_NVRTC_PATH}).status();
  INFO(old.message());
  CHECK(old.code() == DGRT_NO_COMPILER);
  CHECK(old.message().find(std::string(DGRT_OLD_NVRTC_PATH) + " is version 11.8") !=
        std::string::npos);
  const Status no_nvrtc = open_nvrtc_library({"libm.so.6"}).status();
  CHECK(no_nvrtc.message().find("libm.so.6 is not a usable NVRTC") != std::string::npos);
}

// The library that `variable` names, or nothing, said loudly.
std::optional<std::string> library_of(const char* variable, int major) {
  const char* dir = ::getenv(variable);
  if (dir == nullptr) {
    WARN("SKIPPED: set " << variable << " to a directory with libnvrtc.so." << major);
    return std::nullopt;
  }
  return fmt::format("{}/libnvrtc.so.{}", dir, major);
}

std::shared_ptr<const Nvrtc> open_compiler(const std::string& path) {
  const Result<std::shared_ptr<const NvrtcLibrary>> library = open_nvrtc_library({path});
  INFO(library.status().message());
  REQUIRE(library.is_ok());
  return Nvrtc::with(library.value());
}

TEST_CASE("nvrtc versions: 12 and 13 compile in one process and share a cache", "[compile]") {
  const std::optional<std::string> v12 = library_of("DGRT_TEST_NVRTC_12", 12),
                                   v13 = library_of("DGRT_TEST_NVRTC_13", 13);
  if (!v12 || !v13) return;
  EngineFixture fixture;
  FakeDesc desc;
  desc.num_blocks = 2;
  size_t num_entries = 0;
  for (const std::string& path : {*v12, *v13}) {
    fixture.parts.compiler = open_compiler(path);
    const auto context = fixture.open();
    fixture.plan(*context, desc);
    CHECK(context->kernels().stats().compiles == 2);  // the other's do not count: policy exact
    CHECK(fixture.entry_files().size() == (num_entries += 2));
    const auto again = fixture.open();
    fixture.plan(*again, desc);
    CHECK(again->kernels().stats().compiles == 0);
  }
  const test::ScopedEnv any("DGRT_COMPILER", "any");
  const auto context = fixture.open();
  fixture.plan(*context, desc);
  CHECK(context->kernels().stats().disk_hits == 2);
  CHECK(fixture.warnings.empty());
}

TEST_CASE("nvrtc versions: a library replaced under a running process goes on as it was",
          "[compile]") {
  const std::optional<std::string> v12 = library_of("DGRT_TEST_NVRTC_12", 12),
                                   v13 = library_of("DGRT_TEST_NVRTC_13", 13);
  if (!v12 || !v13) return;
  // An installer writes beside the old files, renames, and removes what is no longer needed: the
  // mapped ones live on.
  const test::TempDir temp;
  for (const auto& file : stdfs::directory_iterator(stdfs::path(*v12).parent_path()))
    if (file.is_regular_file())
      stdfs::copy_file(file.path(), stdfs::path(temp.path()) / file.path().filename());
  const std::string path = temp.path() + "/libnvrtc.so.12";
  EngineFixture fixture;
  fixture.parts.compiler = open_compiler(path);
  const CompilerId id = fixture.parts.compiler->id();
  // Both halves are open: in a process that has used another copy, a compile would not show it.
  std::ifstream maps("/proc/self/maps");
  const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
  for (const char* half : {"/libnvrtc.so.12", "/libnvrtc-builtins.so.12"})
    CHECK(mapped.find(temp.path() + half) != std::string::npos);
  stdfs::copy_file(*v13, path + ".new");
  stdfs::rename(path + ".new", path);
  for (const auto& file : stdfs::directory_iterator(temp.path()))
    if (file.path() != path) stdfs::remove(file.path());
  const auto context = fixture.open();  // has compiled nothing yet
  FakeDesc desc;
  desc.num_blocks = 3;
  fixture.plan(*context, desc);
  CHECK(context->kernels().stats().compiles == 3);
  // Everything is filed under the compiler that made it.
  for (const std::string& file : fixture.entry_files())
    CHECK(file.find(id.name()) != std::string::npos);
}

}  // namespace
}  // namespace dgrt
