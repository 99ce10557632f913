// What DGRT_EXPLAIN=miss says: which cached kernel is nearest, and in which parts of the key it
// differs.
#include "runtime/engine/miss_report.h"

#include "runtime/compile/key.h"
#include "runtime/compile/sources.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

using test::sample_compiler;
using test::sample_key;

KeyFields fields() {
  KeyFields fields;
  fields.stem = "gemm_x";
  fields.kernel = "sm90_gemm_x_64";
  fields.config = "block_k=64 block_m=64 stages=4";
  fields.arch = "sm_90a";
  fields.options = "--gpu-architecture=sm_90a -std=c++20 --minimal";
  fields.template_id = std::string(64, 'a');
  fields.num_threads = 384;
  fields.min_blocks = 1;
  fields.key_version = 1;
  return fields;
}

CachedKernel cached(const KeyFields& of, uint8_t seed = 2) {
  return {sample_key(seed), sample_compiler(), of, "/cache"};
}

std::string report(const std::vector<CachedKernel>& kernels,
                   const CompilerId& compiler = sample_compiler()) {
  return describe_miss(sample_key(1), fields(), &compiler, kernels);
}

void check_difference(const CachedKernel& kernel, const std::string& expected) {
  const std::string text = report({kernel});
  INFO(text);
  const std::string end = "which differs in: " + expected;
  CHECK(text.ends_with(end));
}

TEST_CASE("a miss names the kernel asked for and the nearest one", "[unit]") {
  KeyFields near = fields(), far = fields(), other = fields();
  near.template_id = std::string(64, 'b');
  far.template_id = near.template_id;
  far.config = "block_k=64 block_m=128 stages=4";
  far.kernel = "sm90_gemm_x_128";
  other.stem = "gemm_y";  // equal otherwise, but another kernel
  const std::string expected = "miss: kernel sm90_gemm_x_64 (key " +
                               sample_key(1).hex().substr(0, 12) +
                               "): the nearest is sm90_gemm_x_64 (key " +
                               sample_key(3).hex().substr(0, 12) + ", " + sample_compiler().name() +
                               ", in /cache), which differs in: template bytes (aaaaaaaaaaaa, "
                               "cached: bbbbbbbbbbbb)";
  CHECK(report({cached(far), cached(near, 3), cached(other, 4)}) == expected);
  CHECK(report({cached(other, 4), cached(near, 3), cached(far)}) == expected);
  CHECK(report({cached(other)}).ends_with("no kernel of gemm_x is among the 1 that are cached"));
  CHECK(report({}).ends_with("no kernel of gemm_x is among the 0 that are cached"));
}

TEST_CASE("each part of a key is told", "[unit]") {
  KeyFields of = fields();
  SECTION("config") {
    of.config = "block_k=64 block_m=128 stages=5";
    of.kernel = "sm90_gemm_x_128";
    check_difference(cached(of), "config (block_m=64 stages=4, cached: block_m=128 stages=5)");
  }
  SECTION("arch") {
    of.arch = "sm_100a";
    of.options = "--gpu-architecture=sm_100a -std=c++20 --minimal";
    check_difference(cached(of), "arch (sm_90a, cached: sm_100a)");
  }
  SECTION("options") {
    of.options = "--gpu-architecture=sm_90a -std=c++17 --minimal";
    check_difference(cached(of), "options (-std=c++20, cached: -std=c++17)");
  }
  SECTION("launch bounds") {
    of.min_blocks = 2;
    check_difference(cached(of), "launch bounds (384, 1, cached: 384, 2)");
  }
  SECTION("key version") {
    of.key_version = 2;
    check_difference(cached(of), "key version (1, cached: 2)");
  }
  SECTION("entry name") {
    of.kernel = "old_name";
    check_difference(cached(of), "entry name (sm90_gemm_x_64, cached: old_name)");
  }
  SECTION("compiler") {
    CachedKernel kernel = cached(of);
    kernel.compiler = sample_compiler(12, 9);
    check_difference(kernel, "compiler (" + sample_compiler().name() +
                                 ", cached: " + sample_compiler(12, 9).name() + ")");
    CHECK(describe_miss(sample_key(1), fields(), nullptr, {kernel})
              .ends_with("differs in: nothing that is recorded"));
  }
  SECTION("an entry of an older version of dgrt") {
    of.template_id.clear();
    check_difference(cached(of), "template bytes (aaaaaaaaaaaa, cached: not recorded)");
  }
}

TEST_CASE("of equally near kernels the one with fewer other constants is told", "[unit]") {
  KeyFields one = fields(), two = fields();
  one.config = "block_k=64 block_m=64 stages=5";
  two.config = "block_k=32 block_m=64 stages=5";
  one.kernel = two.kernel = "other";
  CHECK(report({cached(two, 2), cached(one, 3)}).find("stages=5)") != std::string::npos);
  CHECK(report({cached(two, 2), cached(one, 3)}).find("block_k") == std::string::npos);
}

}  // namespace
}  // namespace dgrt
