// Registers that never live at the same time share a number: a kernel names ten thousand, and needs a few hundred.
// Liveness by data flow over basic blocks; then each register is taken to live from its first to its last place.
#include <algorithm>
#include <queue>

#include "tests/emulator/ptx.h"

namespace dgrt::emulator {
namespace {

struct Use {
  uint32_t reg;
  bool read, written;
};

// Whether the first operand is only read although it is a register.
bool only_reads(const Instr& instr) {
  const std::string& name = instr.parts[0];
  return name == "bar" || name == "barrier" || name == "nanosleep" || name == "st" || name == "red";
}

void collect(const Operand& operand, bool read, bool written, std::vector<Use>& uses) {
  if (operand.reg != no_reg) uses.push_back({operand.reg, read, written});
  for (const Operand& element : operand.elements) collect(element, read, written, uses);
}

// A lane that does not pass the guard keeps what it had: then what is written does not end a life.
std::vector<Use> uses_of(const Instr& instr) {
  std::vector<Use> uses;
  const bool accumulates = instr.parts[0] == "wgmma";
  for (size_t i = 0; i < instr.operands.size(); ++i) {
    const Operand& operand = instr.operands[i];
    const bool written = i == 0 && operand.kind != Operand::Kind::address && !only_reads(instr);
    collect(operand, !written || accumulates || instr.guard != no_reg, written, uses);
  }
  if (instr.guard != no_reg) uses.push_back({instr.guard, true, false});
  return uses;
}

void renumber(Operand& operand, const std::vector<uint32_t>& numbers) {
  if (operand.reg != no_reg) operand.reg = numbers[operand.reg];
  for (Operand& element : operand.elements) renumber(element, numbers);
}

using Bits = std::vector<uint64_t>;
void set(Bits& bits, uint32_t i) { bits[i / 64] |= uint64_t{1} << (i % 64); }
void clear(Bits& bits, uint32_t i) { bits[i / 64] &= ~(uint64_t{1} << (i % 64)); }

struct Block {
  uint32_t first = 0, end = 0;
  std::vector<uint32_t> next;
  Bits live_in, live_out, read, written;  // read before it is written
};

std::vector<Block> find_blocks(const Kernel& kernel) {
  const auto size = static_cast<uint32_t>(kernel.code.size());
  std::vector<bool> starts(size + 1);
  starts[0] = true;
  for (uint32_t i = 0; i < size; ++i) {
    const Instr& instr = kernel.code[i];
    if (instr.control == Control::branch) starts[static_cast<size_t>(instr.operands[0].value)] = true;
    if (instr.control == Control::branch || instr.control == Control::exit) starts[i + 1] = true;
  }
  std::vector<Block> blocks;
  std::vector<uint32_t> block_at(size + 1);
  for (uint32_t i = 0; i < size; ++i) {
    if (starts[i]) blocks.emplace_back().first = i;
    block_at[i] = static_cast<uint32_t>(blocks.size() - 1);
    blocks.back().end = i + 1;
  }
  for (Block& block : blocks) {
    const Instr& last = kernel.code[block.end - 1];
    const bool goes_on =
        (last.control != Control::branch && last.control != Control::exit) || last.guard != no_reg;
    if (goes_on && block.end < size) block.next.push_back(block_at[block.end]);
    if (last.control == Control::branch)
      block.next.push_back(block_at[static_cast<size_t>(last.operands[0].value)]);
  }
  return blocks;
}

void find_live(std::vector<Block>& blocks, const std::vector<std::vector<Use>>& uses, size_t num_regs) {
  const size_t words = (num_regs + 63) / 64;
  for (Block& block : blocks) {
    block.live_in.resize(words), block.live_out.resize(words);
    block.read.resize(words), block.written.resize(words);
    for (uint32_t i = block.end; i-- > block.first;) {
      for (const Use& use : uses[i])
        if (use.written && !use.read) set(block.written, use.reg), clear(block.read, use.reg);
      for (const Use& use : uses[i])
        if (use.read) set(block.read, use.reg);
    }
    block.live_in = block.read;
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t b = blocks.size(); b-- > 0;) {
      Block& block = blocks[b];
      for (const uint32_t next : block.next)
        for (size_t w = 0; w < words; ++w) block.live_out[w] |= blocks[next].live_in[w];
      for (size_t w = 0; w < words; ++w) {
        const uint64_t live = block.read[w] | (block.live_out[w] & ~block.written[w]);
        changed |= live != block.live_in[w];
        block.live_in[w] = live;
      }
    }
  }
}

struct Life {
  uint32_t reg = 0, first = ~0u, last = 0;
  void include(uint32_t at) { first = std::min(first, at), last = std::max(last, at); }
};

std::vector<Life> find_lives(const Kernel& kernel, size_t num_regs) {
  std::vector<std::vector<Use>> uses;
  uses.reserve(kernel.code.size());
  for (const Instr& instr : kernel.code) uses.push_back(uses_of(instr));
  std::vector<Block> blocks = find_blocks(kernel);
  find_live(blocks, uses, num_regs);
  std::vector<Life> lives(num_regs);
  for (uint32_t reg = 0; reg < num_regs; ++reg) lives[reg].reg = reg;
  for (const Block& block : blocks) {
    for (size_t w = 0; w < block.live_in.size(); ++w) {
      for (uint64_t bits = block.live_in[w]; bits != 0; bits &= bits - 1)
        lives[w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits))].include(block.first);
      for (uint64_t bits = block.live_out[w]; bits != 0; bits &= bits - 1)
        lives[w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits))].include(block.end - 1);
    }
    for (uint32_t i = block.first; i < block.end; ++i)
      for (const Use& use : uses[i]) lives[use.reg].include(i);
  }
  return lives;
}

}  // namespace

void share_registers(Kernel& kernel, const std::vector<uint8_t>& bits) {
  std::vector<Life> lives = find_lives(kernel, bits.size());
  std::vector<uint32_t> numbers(bits.size(), no_reg);
  uint32_t count = 0;
  for (uint32_t reg = 0; reg < bits.size(); ++reg)
    if (bits[reg] == 128) numbers[reg] = count++;
  const auto own = [&](const Operand& operand, const auto& self) -> void {
    if (operand.reg != no_reg && numbers[operand.reg] == no_reg) numbers[operand.reg] = count++;
    for (const Operand& element : operand.elements) self(element, self);
  };
  for (const Instr& instr : kernel.code)
    if (instr.parts[0] == "wgmma")
      for (const Operand& operand : instr.operands) own(operand, own);

  std::erase_if(lives, [&](const Life& life) { return life.first > life.last || numbers[life.reg] != no_reg; });
  std::sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) { return a.first < b.first; });
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> free;
  using Ending = std::pair<uint32_t, uint32_t>;  // last place, number
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> endings;
  for (const Life& life : lives) {
    for (; !endings.empty() && endings.top().first < life.first; endings.pop()) free.push(endings.top().second);
    if (free.empty()) free.push(count++);
    numbers[life.reg] = free.top();
    endings.push({life.last, free.top()});
    free.pop();
  }
  for (Instr& instr : kernel.code) {
    for (Operand& operand : instr.operands) renumber(operand, numbers);
    if (instr.guard != no_reg) instr.guard = numbers[instr.guard];
  }
  kernel.num_regs = count;
}

}  // namespace dgrt::emulator
