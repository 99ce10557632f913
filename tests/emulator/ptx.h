// A PTX module as the emulator executes it: instructions with numbered registers.
// https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace dgrt::emulator {

struct Warp;
struct Instr;

// What a warp does after an instruction.
enum class Step : uint8_t {
  next,   // on to the following one (or where the handler has sent the lanes)
  yield,  // the same, but others first: what it polls has not happened yet
  retry,  // nothing was done: the same instruction again, once others have run
};

// Executes one instruction for the lanes of `lanes`, all of which stand at it and pass its guard.
// Throws Fault for what a GPU would refuse.
using Handler = Step (*)(Warp& warp, const Instr& instr, uint32_t lanes);

constexpr uint32_t no_reg = ~0u;

struct Operand {
  enum class Kind : uint8_t { none, reg, imm, address, vector, label };
  Kind kind = Kind::none;
  uint32_t reg = no_reg;  // reg: its number, no_reg for "_"; address: of the base, if it has one
  // imm: the bits (floats as bits of the instruction's type); address: the offset, a symbol's address included;
  // label: index of the instruction
  int64_t value = 0;
  std::vector<Operand> elements;  // vector: {a, b}; also coordinates: [map, {x, y}] is address, vector
};

struct Instr {
  Handler run = nullptr;
  std::vector<std::string> parts;  // of the opcode: "ld", "shared", "v4", "u32"
  std::vector<Operand> operands;   // [map, {x, y}]: two operands, address and vector
  uint32_t guard = no_reg;         // predicate that lanes must have
  bool guard_negated = false;
  uint32_t line = 0;  // of the PTX text, for messages

  bool has(std::string_view part) const {
    for (const std::string& own : parts)
      if (own == part) return true;
    return false;
  }
};

struct Param {
  uint32_t offset = 0, bytes = 0;
};

struct Kernel {
  std::string name;
  std::vector<Param> params;
  uint32_t num_regs = 0;
  uint32_t static_shared_bytes = 0;  // symbols of .shared have addresses below
  uint32_t local_bytes = 0;          // per thread
  uint32_t max_threads = 0;
  std::vector<Instr> code;
};

// kernels by name. constants: bytes of .global and .const symbols, at host addresses that stay valid.
struct Module {
  std::map<std::string, Kernel> kernels;
  std::vector<std::vector<std::byte>> constants;
};

// Throws Fault, with the line, for what it does not know: nothing is skipped silently.
Module parse_ptx(std::string_view text);

}  // namespace dgrt::emulator
