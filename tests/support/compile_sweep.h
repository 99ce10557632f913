// Compiles many kernels and complains about those that spill, that the assembler serialises, or that take
// too long. Needs libnvrtc, no GPU.
#pragma once
#include <map>
#include <string>

#include "runtime/compile/instance.h"

namespace dgrt::test {

// Fails the running test for each bad kernel. `kernels`: by entry name. `budget_ms`: CPU time of one
// compile on a core that takes 120 ms for the yardstick, a kernel that never changes (an idle 3 GHz core:
// 100 ms). A slower core is allowed more.
void compile_all(const std::map<std::string, Instance>& kernels,
                 double (*budget_ms)(const Instance&));

}  // namespace dgrt::test
