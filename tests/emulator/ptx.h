// A PTX module as the emulator executes it: instructions with numbered registers.
// https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dgrt::emulator {

struct Warp;
struct Instr;

// What a warp does after an instruction.
enum class Step : uint8_t {
  next,   // on to the following one
  yield,  // the same, but others first: what it polls has not happened yet
  retry,  // nothing was done: the same instruction again, once others have run
};

// Executes one instruction for the lanes of `lanes`, all of which stand at it and pass its guard.
// Throws Fault for what a GPU would refuse.
using Handler = Step (*)(Warp& warp, const Instr& instr, uint32_t lanes);

// What the warp itself does with an instruction, besides or instead of running its handler.
enum class Control : uint8_t {
  none,
  branch,   // to the label, its first operand
  exit,
  members,  // waits for the lanes of its last operand
  aligned,  // waits for all lanes of the warp
  barrier,  // aligned, then waits in the handler's NamedBarrier or ClusterBarrier: see Warp::waits
};

constexpr uint32_t no_reg = ~0u;
using Lanes = std::array<uint64_t, 32>;

// Special registers; those with x, y and z are three in a row.
enum class Special : uint8_t {
  tid, ntid = 3, ctaid = 6, nctaid = 9, clusterid = 12, nclusterid = 15, cluster_ctaid = 18, cluster_nctaid = 21,
  cluster_ctarank = 24, cluster_nctarank, laneid, warpid, nwarpid, smid, nsmid, gridid, clock, clock64, globaltimer,
  lanemask_eq, lanemask_le, lanemask_lt, lanemask_ge, lanemask_gt, dynamic_smem_size, total_smem_size,
};

struct Operand {
  enum class Kind : uint8_t { none, reg, imm, address, vector, label, special };
  Kind kind = Kind::none;
  uint8_t bits = 0;       // of a register as it was declared; 1: a predicate
  uint32_t reg = no_reg;  // reg: its number, no_reg for "_"; address: of the base, if it has one
  // imm: the bits (integers: of their 64; floats: of the instruction's type); address: the offset, a symbol's
  // address included; label: index of the instruction; special: a Special
  int64_t value = 0;
  const Lanes* splat = nullptr;   // imm: its value in every lane
  std::vector<Operand> elements;  // vector: {a, b}, and also a|b; coordinates: [map, {x, y}] is address, vector
};

struct Instr {
  Handler run = nullptr;
  Control control = Control::none;
  bool guard_negated = false;
  bool event = false;              // it may change what others wait for
  uint32_t guard = no_reg;         // predicate that lanes must have
  uint32_t line = 0;               // of the PTX text, from 1
  std::vector<Operand> operands;   // [map, {x, y}]: two operands, address and vector
  std::vector<std::string> parts;  // of the opcode: "ld", "shared", "v4", "u32"
  std::string_view text;           // of the instruction, for messages

  bool has(std::string_view part) const {
    for (const std::string& own : parts)
      if (own == part) return true;
    return false;
  }
};

struct Param {
  uint32_t offset = 0, bytes = 0;
};

// Registers are numbered anew after parsing: those that never live at the same time share a number. Operands of
// wgmma, which is asynchronous, and of 128 bits, which are two numbers in a row, share with none.
struct Kernel {
  std::string name;
  std::vector<Param> params;
  uint32_t num_regs = 0;
  uint32_t static_shared_bytes = 0;  // symbols of .shared have addresses below; dynamic memory is from here
  uint32_t max_threads = 0;          // 0: any
  uint32_t min_ctas = 0;             // of an SM; 0: not said
  uint32_t max_registers = 0;        // of a thread; 0: not said
  uint32_t registers = 0;            // of a thread at the start, on a GPU: registers_at_start
  std::vector<Instr> code;
};

// Bytes of .global and .const symbols, at host addresses that stay valid while it lives.
struct Constants {
  std::byte* bytes = nullptr;
  Constants() = default;
  Constants(const Constants&) = delete;
  Constants& operator=(const Constants&) = delete;
  ~Constants();
};

struct Module {
  std::string text;
  std::map<std::string, Kernel> kernels;
  Constants constants;
  std::map<int64_t, std::unique_ptr<Lanes>> splats;  // of immediates
};

// Throws Fault, with the line, for what it does not know: nothing is skipped silently.
std::unique_ptr<Module> parse_ptx(std::string_view text);

// As many as the assembler takes if it can use them. Throws Fault where it would ignore setmaxnreg.
uint32_t registers_at_start(const Kernel& kernel);

// Numbers a kernel's registers anew.
void share_registers(Kernel& kernel, const std::vector<uint8_t>& bits);

}  // namespace dgrt::emulator
