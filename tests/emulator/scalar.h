// Handlers of instructions that every lane executes for itself: a function of register values, over 32 lanes at
// once. Lanes that do not take part are computed too, and dropped.
#pragma once
#include <bit>
#include <type_traits>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {

// Registers of a type that lanes compute with.
template <class T>
T from_bits(uint64_t bits) {
  if constexpr (std::is_same_v<T, bool>)
    return (bits & 1) != 0;
  else if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(static_cast<uint32_t>(bits));
  else if constexpr (std::is_same_v<T, double>)
    return std::bit_cast<double>(bits);
  else
    return static_cast<T>(bits);
}

template <class T>
uint64_t to_bits(T value) {
  if constexpr (std::is_same_v<T, bool>)
    return value;
  else if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<uint32_t>(value);
  else if constexpr (std::is_same_v<T, double>)
    return std::bit_cast<uint64_t>(value);
  else
    return static_cast<std::make_unsigned_t<T>>(value);
}

inline const uint64_t* source(const Warp& warp, const Operand& operand) {
  return operand.splat ? operand.splat->data() : warp.regs[operand.reg].data();
}

inline void write(Warp& warp, const Operand& operand, const Lanes& values, uint32_t lanes) {
  if (operand.reg == no_reg) return;
  Lanes& to = warp.regs[operand.reg];
  if (lanes == ~0u) {
    to = values;
  } else {
    for (uint32_t lane = 0; lane < 32; ++lane) to[lane] = lanes >> lane & 1 ? values[lane] : to[lane];
  }
}

// d = F(a), F(a, b), ...
template <auto F, class R, class A>
Step map1(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) values[i] = to_bits<R>(F(from_bits<A>(a[i])));
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

template <auto F, class R, class A, class B>
Step map2(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const uint64_t* b = source(warp, instr.operands[2]);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) values[i] = to_bits<R>(F(from_bits<A>(a[i]), from_bits<B>(b[i])));
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

template <auto F, class R, class A, class B, class C>
Step map3(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const uint64_t* b = source(warp, instr.operands[2]);
  const uint64_t* c = source(warp, instr.operands[3]);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i)
    values[i] = to_bits<R>(F(from_bits<A>(a[i]), from_bits<B>(b[i]), from_bits<C>(c[i])));
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

// Calls `f` with a value of the type that a part names; null for other types.
template <class F>
Handler by_int(std::string_view type, F f) {
  if (type == "u32" || type == "b32") return f(uint32_t{});
  if (type == "s32") return f(int32_t{});
  if (type == "u64" || type == "b64") return f(uint64_t{});
  if (type == "s64") return f(int64_t{});
  if (type == "u16" || type == "b16") return f(uint16_t{});
  if (type == "s16") return f(int16_t{});
  return nullptr;
}

template <class F>
Handler by_float(std::string_view type, F f) {
  if (type == "f32") return f(float{});
  if (type == "f64") return f(double{});
  return nullptr;
}

template <class F>
void each_lane(uint32_t lanes, F f) {
  for (; lanes != 0; lanes &= lanes - 1) f(static_cast<uint32_t>(std::countr_zero(lanes)));
}

// By file. Null: not one of theirs.
Handler int_handler(const Instr& instr);
Handler bit_handler(const Instr& instr);
Handler float_handler(const Instr& instr);
Handler half_handler(const Instr& instr);
Handler compare_handler(const Instr& instr);
Handler convert_handler(const Instr& instr);
Handler move_handler(const Instr& instr);
Handler memory_handler(const Instr& instr);
Handler atomic_handler(const Instr& instr);
Handler lane_handler(const Instr& instr);

}  // namespace dgrt::emulator
