// What changes a key and what does not.
#include "runtime/compile/key.h"

#include <functional>
#include <set>

#include "tests/support/catch.h"
#include "tests/support/temp_kernels.h"

namespace dgrt {
namespace {

TempKernels toy_kernels() { return {{"toy/toy.cuh", toy_header}, {"toy/scale.cuh", toy_scale}}; }

Key key_of(const Instance& instance, const std::string& kernels_dir) {
  const Sources sources(kernels_dir);
  const Result<Key> key = kernel_key(instance, sources);
  REQUIRE(key.is_ok());
  return key.value();
}

TEST_CASE("key: the directory that the sources come from does not matter", "[unit]") {
  const TempKernels here = toy_kernels(), there = toy_kernels();
  REQUIRE(here.path() != there.path());
  CHECK(key_of(toy_instance(), here.path()) == key_of(toy_instance(), there.path()));
}

TEST_CASE("key: files outside the closure do not matter", "[unit]") {
  const TempKernels kernels = toy_kernels();
  const Key before = key_of(toy_instance(), kernels.path());
  kernels.write("toy/other.cuh", "int unused;");
  CHECK(key_of(toy_instance(), kernels.path()) == before);
}

TEST_CASE("key: one byte of a nested include matters, and so does its path", "[unit]") {
  const TempKernels kernels = toy_kernels();
  const Key before = key_of(toy_instance(), kernels.path());
  kernels.write("toy/scale.cuh", std::string(toy_scale) + " ");
  const Key changed = key_of(toy_instance(), kernels.path());
  CHECK(changed != before);
  kernels.write("toy/scale.cuh", toy_scale);
  CHECK(key_of(toy_instance(), kernels.path()) == before);
}

TEST_CASE("key: bytes that move from one file to the next matter", "[unit]") {
  const TempKernels left{{"toy/toy.cuh", "#include \"toy/a.cuh\"\n#include \"toy/b.cuh\"\n"},
                         {"toy/a.cuh", "int a;\n"},
                         {"toy/b.cuh", ""}};
  const TempKernels right{{"toy/toy.cuh", "#include \"toy/a.cuh\"\n#include \"toy/b.cuh\"\n"},
                          {"toy/a.cuh", ""},
                          {"toy/b.cuh", "int a;\n"}};
  CHECK(key_of(toy_instance(), left.path()) != key_of(toy_instance(), right.path()));
}

TEST_CASE("key: everything in the instance that reaches the compiler matters", "[unit]") {
  const TempKernels kernels = toy_kernels();
  kernels.write("toy/copy.cuh", toy_header);
  const std::vector<std::function<void(Instance&)>> changes = {
      [](Instance&) {},
      [](Instance& i) { i.header = "toy/copy.cuh"; },
      [](Instance& i) { i.name_space = "dgrt::toy2"; },
      [](Instance& i) { i.entry = "toy_f4"; },
      [](Instance& i) { i.arch = "sm_90"; },
      [](Instance& i) { i.cfg.set("factor", 4); },
      [](Instance& i) { i.cfg.set("more", 1); },
      [](Instance& i) { i.num_threads = 256; },
      [](Instance& i) { i.min_blocks = 2; },
  };
  std::set<Key> keys;
  for (const auto& change : changes) {
    Instance instance = toy_instance();
    change(instance);
    keys.insert(key_of(instance, kernels.path()));
  }
  CHECK(keys.size() == changes.size());
}

TEST_CASE("key: what only the host needs does not matter", "[unit]") {
  const TempKernels kernels = toy_kernels();
  Instance instance = toy_instance();
  instance.stem = "other";
  instance.params_bytes = 64;
  instance.allow_spills = true;
  CHECK(key_of(instance, kernels.path()) == key_of(toy_instance(), kernels.path()));
}

TEST_CASE("key: a missing header is an error, not a key", "[unit]") {
  const TempKernels kernels = toy_kernels();
  Instance instance = toy_instance();
  instance.header = "toy/gone.cuh";
  CHECK(kernel_key(instance, Sources(kernels.path())).status().code() == DGRT_INTERNAL);
}

}  // namespace
}  // namespace dgrt
