// The parts of the command line that need no process: the progress line and module patterns.
#include "tests/support/catch.h"
#include "tools/progress.h"
#include "tools/quant_config.h"

using dgrt::progress_line;

TEST_CASE("The progress line shows count, rate, time left and the kernel", "[unit]") {
  CHECK(progress_line({0, 40, 0, 0.0, "start"}, 200) == "[>                       ] 0/40  start");
  CHECK(progress_line({10, 40, 0, 5.0, "sm90_gemm_fp8_128x128"}, 200) ==
        "[======>                 ] 10/40  2.0/s  15 s left  sm90_gemm_fp8_128x128");
  CHECK(progress_line({40, 40, 0, 20.0, "last"}, 200) ==
        "[========================] 40/40  2.0/s  0 s left  last");
  CHECK(progress_line({30, 40, 20, 5.0, "x"}, 200).find("2.0/s  5 s left") != std::string::npos);
  CHECK(progress_line({20, 40, 20, 5.0, "x"}, 200).find("/s") == std::string::npos);
}

TEST_CASE("The progress line fits the terminal and survives odd counts", "[unit]") {
  CHECK(progress_line({10, 40, 0, 5.0, "sm90_gemm_fp8_128x128"}, 30).size() == 30);
  CHECK(progress_line({10, 40, 0, 5.0, "x"}, 0).empty());
  CHECK(progress_line({0, 0, 0, 1.0, ""}, 200).starts_with("[>                       ] 0/0"));
  CHECK(progress_line({5, 4, 0, 1.0, ""}, 200).find("0 s left") != std::string::npos);
}

TEST_CASE("Module patterns match whole path components", "[unit]") {
  dgrt::QuantConfig quant;
  quant.scheme = dgrt::WeightScheme::fp8_block;
  const auto skips = [&](const char* pattern, const char* module) {
    quant.skipped = {pattern};
    return quant.scheme_of(module) == dgrt::WeightScheme::bf16;
  };
  const char* module = "model.layers.1.mlp.gate";
  CHECK(skips("model.layers.1.mlp.gate", module));
  CHECK(skips("model.layers.1", module));
  CHECK(skips("gate", module));
  CHECK(skips("mlp.gate", module));
  CHECK(skips("re:.*mlp\\.gate$", module));
  CHECK_FALSE(skips("ate", module));
  CHECK_FALSE(skips("model.layers.11", module));
  CHECK_FALSE(skips("model.layers.1", "model.layers.11.mlp.gate"));
  CHECK_FALSE(skips("gate", "model.layers.1.mlp.gate_proj"));
  CHECK_FALSE(skips("re:gate", module));  // anchored at the front
  CHECK_FALSE(skips("", module));
}
