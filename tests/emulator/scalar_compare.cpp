// setp, and set: comparisons, combined with a third value or not.
#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

constexpr auto eq = [](auto a, auto b) { return a == b; };
constexpr auto ne = [](auto a, auto b) { return a < b || a > b; };  // false of NaN
constexpr auto lt = [](auto a, auto b) { return a < b; };
constexpr auto le = [](auto a, auto b) { return a <= b; };
constexpr auto gt = [](auto a, auto b) { return a > b; };
constexpr auto ge = [](auto a, auto b) { return a >= b; };
constexpr auto unordered = [](auto a, auto b) { return a != a || b != b; };
template <auto F>
constexpr auto negated = [](auto a, auto b) { return !F(a, b); };

template <class T, auto F>
Step set_predicate(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const uint64_t* b = source(warp, instr.operands[2]);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) values[i] = F(from_bits<T>(a[i]), from_bits<T>(b[i]));
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

enum class Join { none, with_and, with_or, with_xor };

template <Join join>
uint64_t joined(uint64_t value, uint64_t other) {
  if (join == Join::with_and) return value & other;
  if (join == Join::with_or) return value | other;
  return join == Join::with_xor ? value ^ other : value;
}

// p|q, or p alone: the second gets the opposite, joined likewise.
template <class T, auto F, Join join>
Step set_predicates(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const uint64_t* b = source(warp, instr.operands[2]);
  const uint64_t* c = join == Join::none ? a : source(warp, instr.operands[3]);
  Lanes values, opposites;
  for (uint32_t i = 0; i < 32; ++i) {
    const uint64_t value = F(from_bits<T>(a[i]), from_bits<T>(b[i]));
    values[i] = joined<join>(value, c[i] & 1);
    opposites[i] = joined<join>(value ^ 1, c[i] & 1);
  }
  const Operand& to = instr.operands[0];
  if (to.kind == Operand::Kind::vector) {
    write(warp, to.elements[0], values, lanes);
    write(warp, to.elements[1], opposites, lanes);
  } else {
    write(warp, to, values, lanes);
  }
  return Step::next;
}

// set: all ones, or 1.0
template <class T, auto F>
Step set_value(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const uint64_t* b = source(warp, instr.operands[2]);
  const uint64_t yes = instr.parts[2] == "f32" ? 0x3f80'0000 : 0xffff'ffff;
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) values[i] = F(from_bits<T>(a[i]), from_bits<T>(b[i])) ? yes : 0;
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

template <class T, auto F>
Handler of_comparison(const Instr& instr) {
  if (instr.parts[0] == "set") return instr.parts.size() == 4 ? set_value<T, F> : nullptr;
  if (instr.has("and")) return set_predicates<T, F, Join::with_and>;
  if (instr.has("or")) return set_predicates<T, F, Join::with_or>;
  if (instr.has("xor")) return set_predicates<T, F, Join::with_xor>;
  return instr.operands[0].kind == Operand::Kind::vector ? set_predicates<T, F, Join::none> : set_predicate<T, F>;
}

template <class T>
Handler of_type(const Instr& instr) {
  const std::string& comparison = instr.parts[1];
  if (comparison == "eq") return of_comparison<T, eq>(instr);
  if (comparison == "ne") return of_comparison<T, ne>(instr);
  if (comparison == "lt" || comparison == "lo") return of_comparison<T, lt>(instr);
  if (comparison == "le" || comparison == "ls") return of_comparison<T, le>(instr);
  if (comparison == "gt" || comparison == "hi") return of_comparison<T, gt>(instr);
  if (comparison == "ge" || comparison == "hs") return of_comparison<T, ge>(instr);
  if constexpr (std::is_floating_point_v<T>) {
    if (comparison == "equ") return of_comparison<T, negated<ne>>(instr);
    if (comparison == "neu") return of_comparison<T, negated<eq>>(instr);
    if (comparison == "ltu") return of_comparison<T, negated<ge>>(instr);
    if (comparison == "leu") return of_comparison<T, negated<gt>>(instr);
    if (comparison == "gtu") return of_comparison<T, negated<le>>(instr);
    if (comparison == "geu") return of_comparison<T, negated<lt>>(instr);
    if (comparison == "num") return of_comparison<T, negated<unordered>>(instr);
    if (comparison == "nan") return of_comparison<T, unordered>(instr);
  }
  return nullptr;
}

}  // namespace

Handler compare_handler(const Instr& instr) {
  if ((instr.parts[0] != "setp" && instr.parts[0] != "set") || instr.has("ftz")) return nullptr;
  const auto find = [&]<class T>(T) { return of_type<T>(instr); };
  if (const Handler handler = by_int(instr.parts.back(), find)) return handler;
  return by_float(instr.parts.back(), find);
}

}  // namespace dgrt::emulator
