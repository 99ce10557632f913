// The generated translation unit, byte for byte: keys are made of it.
#include "runtime/compile/instance.h"

#include "tests/support/catch.h"

namespace dgrt {
namespace {

TEST_CASE("source text: header, named constants, entry", "[unit]") {
  const Instance instance{.stem = "gemm_fp8",
                          .header = "gemm/sm90_gemm_fp8.cuh",
                          .name_space = "dgrt::sm90::gemm_fp8",
                          .entry = "sm90_gemm_fp8_128x128",
                          .arch = "sm_90a",
                          .cfg = {{"block_m", 128}, {"swap_ab", 0}, {"seed", -1}},
                          .num_threads = 384,
                          .min_blocks = 1,
                          .params_bytes = 512};
  CHECK(source_text(instance) ==
        "#include \"gemm/sm90_gemm_fp8.cuh\"\n"
        "struct Cfg {\n"
        "  static constexpr int block_m = 128;\n"
        "  static constexpr int swap_ab = 0;\n"
        "  static constexpr int seed = -1;\n"
        "};\n"
        "extern \"C\" __global__ void __launch_bounds__(384, 1)\n"
        "sm90_gemm_fp8_128x128(const __grid_constant__ dgrt::sm90::gemm_fp8::Params p) {\n"
        "  dgrt::sm90::gemm_fp8::run<Cfg>(p);\n"
        "}\n");
}

TEST_CASE("source text: a constant beyond int keeps its value", "[unit]") {
  Instance instance;
  instance.cfg.set("stride", int64_t{1} << 40);
  CHECK(source_text(instance).find("static constexpr long long stride = 1099511627776;") !=
        std::string::npos);
}

TEST_CASE("source text: the order of the fields is kept", "[unit]") {
  Instance ab, ba;
  ab.cfg = {{"a", 1}, {"b", 2}};
  ba.cfg = {{"b", 2}, {"a", 1}};
  CHECK(source_text(ab) != source_text(ba));
}

}  // namespace
}  // namespace dgrt
