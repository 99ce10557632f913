// setmaxnreg. A CTA has the registers that its warps begin with and no more: who wants more waits until others have
// given some back, also if nobody will.
#include <algorithm>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {
namespace {

constexpr uint32_t sm_registers = 65536, most_registers = 256, unit = 8;
constexpr uint32_t warpgroup_warps = 4;

bool moves_registers(const Instr& instr) { return instr.parts[0] == "setmaxnreg"; }

uint32_t wanted(const Instr& instr) { return static_cast<uint32_t>(instr.operands[0].value); }

// Of all lanes of the warp, more than it has.
uint32_t missing(const Warp& warp, const Instr& instr) { return 32 * (wanted(instr) - warp.registers); }

std::string change(const Warp& warp, const Instr& instr) {
  return "from " + std::to_string(warp.registers) + " registers to " + std::to_string(wanted(instr));
}

Step give_back(Warp& warp, const Instr& instr, uint32_t) {
  if (wanted(instr) > warp.registers) throw Fault("setmaxnreg.dec " + change(warp, instr));
  warp.cta->free_registers += 32 * (warp.registers - wanted(instr));
  warp.registers = wanted(instr);
  ++warp.cta->cluster->events;
  return Step::next;
}

Step take_more(Warp& warp, const Instr& instr, uint32_t) {
  if (wanted(instr) < warp.registers) throw Fault("setmaxnreg.inc " + change(warp, instr));
  if (missing(warp, instr) > warp.cta->free_registers) return Step::retry;
  warp.cta->free_registers -= missing(warp, instr);
  warp.registers = wanted(instr);
  ++warp.cta->cluster->events;
  return Step::next;
}

}  // namespace

uint32_t registers_at_start(const Kernel& kernel) {
  const bool bounded = kernel.max_registers != 0 || (kernel.max_threads != 0 && kernel.min_ctas != 0);
  // Each quarter of an SM has every fourth warp, and a quarter of the registers.
  const uint32_t threads = kernel.max_threads == 0 ? 1024 : (kernel.max_threads + 127) / 128 * 128;
  uint32_t result = std::min(most_registers, sm_registers / (threads * std::max(kernel.min_ctas, 1u)) / unit * unit);
  if (kernel.max_registers != 0) result = std::min(most_registers, kernel.max_registers / unit * unit);
  uint32_t largest = 0;
  for (const Instr& instr : kernel.code) {
    if (!moves_registers(instr)) continue;
    if (!bounded) throw Fault("setmaxnreg without .maxnreg, or .maxntid and .minnctapersm: the assembler ignores it");
    if (instr.has("inc")) largest = std::max(largest, wanted(instr));
  }
  return largest == 0 ? result : std::min(result, largest);
}

Handler register_pool_handler(const Instr& instr) {
  if (!moves_registers(instr)) return nullptr;
  return instr.has("dec") ? give_back : take_more;
}

std::string describe_registers(const Warp& warp, const Instr& instr) {
  if (!moves_registers(instr) || !instr.has("inc")) return "";
  return ": setmaxnreg wants " + std::to_string(missing(warp, instr)) + " registers, the CTA's pool has " +
         std::to_string(warp.cta->free_registers);
}

void check_registers(const Cta& cta) {
  for (const Warp& warp : cta.warps) {
    const Warp& first = cta.warps[warp.index / warpgroup_warps * warpgroup_warps];
    if (warp.registers != first.registers)
      throw Fault("setmaxnreg is for all warps of a warpgroup: warp " + std::to_string(first.index) + " ends with " +
                  std::to_string(first.registers) + " registers, warp " + std::to_string(warp.index) + " with " +
                  std::to_string(warp.registers));
  }
}

}  // namespace dgrt::emulator
