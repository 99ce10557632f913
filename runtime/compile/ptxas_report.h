// The assembler's resource report (ptxas -v), as found in NVRTC's log.
#pragma once
#include <cstdint>
#include <string_view>

namespace dgrt {

// Largest values over the functions of the log; 0 where the log says nothing.
struct PtxasReport {
  uint32_t num_registers = 0;  // per thread
  uint32_t stack_bytes = 0;    // per thread, as the next two
  uint32_t spill_store_bytes = 0;
  uint32_t spill_load_bytes = 0;
};

PtxasReport parse_ptxas_report(std::string_view log);

}  // namespace dgrt
