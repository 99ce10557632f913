#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

Step nothing(Warp&, const Instr&, uint32_t) { return Step::next; }
Step others_first(Warp&, const Instr&, uint32_t) { return Step::yield; }
Step trap(Warp&, const Instr&, uint32_t) { throw Fault("the kernel gave up"); }

// What has no effect on results.
Handler quiet_handler(const Instr& instr) {
  const std::string& name = instr.parts[0];
  if (name == "trap" || name == "brkpt") return trap;
  if (name == "nanosleep") return others_first;
  const bool is_quiet = name == "griddepcontrol" || name == "membar" || name == "fence" || name == "prefetch" ||
                        name == "prefetchu" || name == "discard" || name == "applypriority" ||
                        (name == "bar" && instr.has("warp"));
  return is_quiet ? nothing : nullptr;
}

}  // namespace

Handler scalar_handler(const Instr& instr) {
  for (const auto find : {int_handler, bit_handler, float_handler, half_handler, compare_handler, convert_handler,
                          move_handler, memory_handler, atomic_handler, lane_handler, quiet_handler})
    if (const Handler handler = find(instr)) return handler;
  return nullptr;
}

}  // namespace dgrt::emulator
