// One fuzzer: libFuzzer's entry over the target that the build names (DGRT_FUZZ_TARGET).
#include "tests/fuzz/fuzz_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dgrt::fuzz::DGRT_FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}
