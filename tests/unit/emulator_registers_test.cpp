// setmaxnreg: registers that a block's warps give back and take.
#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

using Catch::Matchers::Contains;

const std::string bound = ".maxntid 384, 1, 1 .minnctapersm 1";  // 168 registers for each of 12 warps

std::string set(const std::string& way, uint32_t count) {
  return "setmaxnreg." + way + ".sync.aligned.u32 " + std::to_string(count) + ";\n";
}

// Two warpgroups take, after the third has given back: by the warp `giver` on.
std::string roles(uint32_t given, uint32_t taken, uint32_t giver = 8) {
  return "shr.u32 %r2, %r1, 5;\nsetp.ge.u32 %p1, %r2, " + std::to_string(giver) + ";\n@%p1 bra GIVE;\n" +
         set("inc", taken) + "bra DONE;\nGIVE:\n" + set("dec", given) + "DONE:\n";
}

std::string fault_of(const std::string& body, uint64_t seed = 0, const std::string& bounds = bound) {
  Launch launch;
  launch.block[0] = 384;
  launch.params.resize(144);
  launch.seed = seed;
  try {
    emulator::run(TestKernel(body, bounds).module->kernels.at("test"), launch);
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

TEST_CASE("setmaxnreg: who takes waits for who gives", "[unit]") {
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    CHECK(fault_of(roles(88, 208), seed).empty());
    CHECK(fault_of(roles(56, 224), seed).empty());
  }
}

TEST_CASE("setmaxnreg: more than the block began with never comes", "[unit]") {
  // 2 * 128 * 208 + 128 * 96 are 65536, but 384 * 168 are 64512.
  for (uint64_t seed = 0; seed < num_seeds; ++seed)
    CHECK_THAT(fault_of(roles(96, 208), seed),
               Contains("nothing can go on") && Contains("at `setmaxnreg.inc.sync.aligned.u32 208`") &&
                   Contains("setmaxnreg wants 1280 registers, the CTA's pool has 256"));
  CHECK_THAT(fault_of(set("inc", 176)), Contains("setmaxnreg wants 256 registers, the CTA's pool has 0"));
}

TEST_CASE("setmaxnreg is for whole warpgroups, and in the direction that it names", "[unit]") {
  CHECK_THAT(fault_of(roles(56, 176, 9)),
             Contains("warp 8 ends with 176 registers, warp 9 with 56"));
  CHECK_THAT(fault_of(set("dec", 176)), Contains("setmaxnreg.dec from 168 registers to 176"));
  CHECK_THAT(fault_of(set("inc", 160) + set("inc", 168)), Contains("setmaxnreg.inc from 168 registers to 160"));
}

TEST_CASE("registers at the start are those that the assembler takes", "[unit]") {
  const auto registers = [](const std::string& bounds, const std::string& body = "") {
    return TestKernel(body, bounds).module->kernels.at("test").registers;
  };
  CHECK(registers(bound) == 168);
  CHECK(registers(".maxntid 288, 1, 1 .minnctapersm 1") == 168);  // of whole warpgroups
  CHECK(registers(".maxntid 640, 1, 1 .minnctapersm 1") == 96);
  CHECK(registers(".maxntid 256, 1, 1 .minnctapersm 1") == 256);
  CHECK(registers(".maxntid 256, 1, 1 .minnctapersm 2") == 128);
  CHECK(registers(".maxnreg 100") == 96);
  // No more than any warp will have.
  CHECK(registers(".maxntid 256, 1, 1 .minnctapersm 1", set("dec", 40) + set("inc", 232)) == 232);
  CHECK(registers(bound, set("dec", 40) + set("inc", 232)) == 168);
  for (const std::string unbounded : {"", ".maxntid 384, 1, 1"})
    CHECK_THAT(fault_of(set("dec", 40), 0, unbounded), Contains("the assembler ignores it"));
}

}  // namespace
}  // namespace dgrt::emulator
