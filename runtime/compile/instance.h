// Instance: one kernel to compile, as data: which template, which constants. source_text() turns it
// into the ten lines that NVRTC compiles. Everything that changes the binary is in here or in the
// bytes of the template's include closure; nothing else is.
#pragma once
#include <cstdint>
#include <string>

#include "runtime/base/config.h"

namespace dgrt {

struct Instance {
  std::string stem;  // of the op's five files, e.g. "gemm_fp8"; also the last part of the namespace
  std::string header;         // relative to kernels/, e.g. "gemm/sm90_gemm_fp8.cuh"
  std::string name_space;     // e.g. "dgrt::sm90::gemm_fp8"; holds Params and run<Cfg>()
  std::string entry;          // extern "C" symbol, readable: "sm90_gemm_fp8_128x128_s5_c2x1"
  std::string arch;           // "sm_90a"
  Config cfg;                 // fields of Cfg
  uint32_t num_threads = 0;   // per block; launch bound
  uint32_t min_blocks = 1;    // blocks per SM that registers must allow; launch bound
  uint32_t params_bytes = 0;  // sizeof(Params) on the host; compared with the loaded kernel's
  bool allow_spills = false;  // a table row or op that accepts spills says why there

  bool operator==(const Instance& other) const = default;
};

// The translation unit. Deterministic.
std::string source_text(const Instance& instance);

}  // namespace dgrt
