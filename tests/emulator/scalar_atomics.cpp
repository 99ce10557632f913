// atom and red: lanes one after the other, in the order of their numbers.
#include <algorithm>
#include <cstring>

#include "tests/emulator/number.h"
#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

constexpr auto add = []<class T>(T old, T b) { return static_cast<T>(old + b); };
constexpr auto smaller = []<class T>(T old, T b) { return std::min(old, b); };
constexpr auto larger = []<class T>(T old, T b) { return std::max(old, b); };
constexpr auto bit_and = []<class T>(T old, T b) { return static_cast<T>(old & b); };
constexpr auto bit_or = []<class T>(T old, T b) { return static_cast<T>(old | b); };
constexpr auto bit_xor = []<class T>(T old, T b) { return static_cast<T>(old ^ b); };
constexpr auto exchange = []<class T>(T, T b) { return b; };
constexpr auto increment = []<class T>(T old, T b) { return old >= b ? T{0} : static_cast<T>(old + 1); };
constexpr auto decrement = []<class T>(T old, T b) { return old == 0 || old > b ? b : static_cast<T>(old - 1); };

template <auto to_float, auto from_float>
constexpr auto add_halves = []<class T>(T old, T b) {
  T result = 0;
  for (uint32_t shift = 0; shift < 8 * sizeof(T); shift += 16) {
    const float sum = to_float(static_cast<uint16_t>(old >> shift)) + to_float(static_cast<uint16_t>(b >> shift));
    result = static_cast<T>(result | static_cast<T>(from_float(sum)) << shift);
  }
  return result;
};

std::byte* memory_at(Warp& warp, const Instr& instr, uint32_t lane, uint64_t address, size_t bytes) {
  if (address % bytes != 0) fail_lane(warp, lane, "an atomic at an address that is not aligned");
  const bool is_shared = instr.has("shared") || instr.has("shared::cta") || instr.has("shared::cluster");
  RaceCheck& races = warp.cta->cluster->races;
  const bool in_shared = is_shared || in_shared_window(address);
  const uint64_t flag = in_shared ? RaceCheck::flag_in_shared(warp, static_cast<uint32_t>(address)) : address;
  races.observe(warp, flag);
  races.publish(warp, flag);
  try {
    if (is_shared) return shared_at(*warp.cta, static_cast<uint32_t>(address), bytes);
    return generic_at(*warp.cta, address, bytes);
  } catch (const Fault& fault) {
    fail_lane(warp, lane, fault.what());
  }
}

// atom: d, [a], b; red: [a], b. Who polls by it lets others go first.
template <class T, auto F>
Step update(Warp& warp, const Instr& instr, uint32_t lanes) {
  const bool returns = instr.parts[0] == "atom";
  const Operand& address = instr.operands[returns ? 1 : 0];
  const uint64_t* b = source(warp, instr.operands[returns ? 2 : 1]);
  Lanes values{};
  each_lane(lanes, [&](uint32_t lane) {
    std::byte* memory = memory_at(warp, instr, lane, lane_address(warp, address, lane), sizeof(T));
    T old;
    std::memcpy(&old, memory, sizeof(T));
    const T next = F(old, from_bits<T>(b[lane]));
    std::memcpy(memory, &next, sizeof(T));
    warp.cta->cluster->events += std::memcmp(&old, &next, sizeof(T)) != 0;
    values[lane] = to_bits(old);
  });
  if (returns) write(warp, instr.operands[0], values, lanes);
  return returns ? Step::yield : Step::next;
}

// d, [a], expected, b
template <class T>
Step compare_and_swap(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t *expected = source(warp, instr.operands[2]), *b = source(warp, instr.operands[3]);
  Lanes values{};
  each_lane(lanes, [&](uint32_t lane) {
    std::byte* memory = memory_at(warp, instr, lane, lane_address(warp, instr.operands[1], lane), sizeof(T));
    T old;
    std::memcpy(&old, memory, sizeof(T));
    values[lane] = old;
    const T next = static_cast<T>(b[lane]);
    if (old != static_cast<T>(expected[lane]) || old == next) return;
    std::memcpy(memory, &next, sizeof(T));
    ++warp.cta->cluster->events;
  });
  write(warp, instr.operands[0], values, lanes);
  return Step::yield;
}

// Of 128 bits: each operand is two registers in a row.
Step compare_and_swap128(Warp& warp, const Instr& instr, uint32_t lanes) {
  using Pair = std::array<uint64_t, 2>;
  const auto pair = [&](const Operand& operand, uint32_t lane) {
    return Pair{warp.regs[operand.reg][lane], warp.regs[operand.reg + 1][lane]};
  };
  each_lane(lanes, [&](uint32_t lane) {
    std::byte* memory = memory_at(warp, instr, lane, lane_address(warp, instr.operands[1], lane), sizeof(Pair));
    Pair old;
    std::memcpy(&old, memory, sizeof old);
    const Pair next = pair(instr.operands[3], lane);
    if (old == pair(instr.operands[2], lane) && old != next) {
      std::memcpy(memory, &next, sizeof next);
      ++warp.cta->cluster->events;
    }
    warp.regs[instr.operands[0].reg][lane] = old[0];
    warp.regs[instr.operands[0].reg + 1][lane] = old[1];
  });
  return Step::yield;
}

template <class T>
Handler int_update(const Instr& instr) {
  if (instr.has("cas")) return compare_and_swap<std::make_unsigned_t<T>>;
  if (instr.has("add")) return update<T, add>;
  if (instr.has("min")) return update<T, smaller>;
  if (instr.has("max")) return update<T, larger>;
  if (instr.has("and")) return update<T, bit_and>;
  if (instr.has("or")) return update<T, bit_or>;
  if (instr.has("xor")) return update<T, bit_xor>;
  if (instr.has("exch")) return update<T, exchange>;
  if (instr.has("inc")) return update<T, increment>;
  return instr.has("dec") ? update<T, decrement> : nullptr;
}

}  // namespace

Handler atomic_handler(const Instr& instr) {
  if ((instr.parts[0] != "atom" && instr.parts[0] != "red") || instr.has("async")) return nullptr;
  for (const char* part : {"v2", "v4", "v8"})
    if (instr.has(part)) return nullptr;
  const std::string& type = instr.parts.back();
  if (type == "b128") return instr.has("cas") ? compare_and_swap128 : nullptr;
  if (instr.has("add")) {
    if (type == "f32") return update<float, add>;
    if (type == "f64") return update<double, add>;
    if (type == "f16x2") return update<uint32_t, add_halves<f16_to_float, float_to_f16>>;
    if (type == "bf16x2") return update<uint32_t, add_halves<bf16_to_float, float_to_bf16>>;
    if (type == "f16") return update<uint16_t, add_halves<f16_to_float, float_to_f16>>;
    if (type == "bf16") return update<uint16_t, add_halves<bf16_to_float, float_to_bf16>>;
  }
  return by_int(type, [&]<class T>(T) { return int_update<T>(instr); });
}

}  // namespace dgrt::emulator
