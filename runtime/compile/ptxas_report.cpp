#include "runtime/compile/ptxas_report.h"

#include <algorithm>
#include <charconv>

namespace dgrt {
namespace {

// The largest number that stands directly before `phrase`.
uint32_t largest_before(std::string_view log, std::string_view phrase) {
  uint32_t largest = 0;
  for (size_t at = log.find(phrase); at != std::string_view::npos; at = log.find(phrase, at + 1)) {
    size_t begin = at;
    while (begin > 0 && log[begin - 1] >= '0' && log[begin - 1] <= '9') --begin;
    uint32_t value = 0;
    if (std::from_chars(log.data() + begin, log.data() + at, value).ec == std::errc())
      largest = std::max(largest, value);
  }
  return largest;
}

}  // namespace

PtxasReport parse_ptxas_report(std::string_view log) {
  return {
      .num_registers = largest_before(log, " registers"),
      .stack_bytes = largest_before(log, " bytes stack frame"),
      .spill_store_bytes = largest_before(log, " bytes spill stores"),
      .spill_load_bytes = largest_before(log, " bytes spill loads"),
  };
}

}  // namespace dgrt
