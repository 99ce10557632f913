// Integer arithmetic. Wraps around, as the GPU's does.
#include <algorithm>
#include <limits>

#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;
// Of twice the width.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
             std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

constexpr auto add = []<class T>(T a, T b) { return static_cast<T>(uint64_t(a) + uint64_t(b)); };
constexpr auto sub = []<class T>(T a, T b) { return static_cast<T>(uint64_t(a) - uint64_t(b)); };
constexpr auto mul = []<class T>(T a, T b) { return static_cast<T>(uint64_t(a) * uint64_t(b)); };
constexpr auto mad = []<class T>(T a, T b, T c) { return static_cast<T>(uint64_t(a) * uint64_t(b) + uint64_t(c)); };
constexpr auto mul_hi = []<class T>(T a, T b) { return static_cast<T>(Wide<T>(a) * Wide<T>(b) >> 8 * sizeof(T)); };
constexpr auto mad_hi = []<class T>(T a, T b, T c) { return add(mul_hi(a, b), c); };
constexpr auto mul_wide = []<class T>(T a, T b) { return Wide<T>(a) * Wide<T>(b); };
constexpr auto mad_wide = []<class T>(T a, T b, Wide<T> c) { return add(Wide<T>(a) * Wide<T>(b), c); };
constexpr auto smaller = []<class T>(T a, T b) { return std::min(a, b); };
constexpr auto larger = []<class T>(T a, T b) { return std::max(a, b); };
constexpr auto negate = []<class T>(T a) { return static_cast<T>(0 - uint64_t(a)); };
constexpr auto magnitude = []<class T>(T a) { return a < 0 ? static_cast<T>(0 - uint64_t(a)) : a; };
constexpr auto distance = []<class T>(T a, T b, T c) { return add(c, a > b ? sub(a, b) : sub(b, a)); };

// By zero: all ones. The most negative by -1: itself.
constexpr auto divide = []<class T>(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return negate(a);
  return static_cast<T>(a / b);
};
constexpr auto remainder = []<class T>(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return T{0};
  return static_cast<T>(a % b);
};

template <class T, auto F>
constexpr Handler unary = map1<F, T, T>;
template <class T, auto F>
constexpr Handler binary = map2<F, T, T, T>;
template <class T, auto F>
constexpr Handler ternary = map3<F, T, T, T, T>;

template <class T>
Handler product(const Instr& instr) {
  const bool adds = instr.parts[0] == "mad";
  if (instr.has("lo")) return adds ? ternary<T, mad> : binary<T, mul>;
  if (instr.has("hi")) return adds ? ternary<T, mad_hi> : binary<T, mul_hi>;
  if constexpr (sizeof(T) < 8) {
    if (instr.has("wide")) return adds ? map3<mad_wide, Wide<T>, T, T, Wide<T>> : map2<mul_wide, Wide<T>, T, T>;
  }
  return nullptr;
}

}  // namespace

Handler int_handler(const Instr& instr) {
  const std::string& name = instr.parts[0];
  if (instr.has("sat") || instr.has("cc")) return nullptr;
  return by_int(instr.parts.back(), [&]<class T>(T) -> Handler {
    if (name == "add") return binary<T, add>;
    if (name == "sub") return binary<T, sub>;
    if (name == "mul" || name == "mad") return product<T>(instr);
    if (name == "div") return binary<T, divide>;
    if (name == "rem") return binary<T, remainder>;
    if (name == "min") return binary<T, smaller>;
    if (name == "max") return binary<T, larger>;
    if (name == "sad") return ternary<T, distance>;
    if (name == "neg") return unary<T, negate>;
    if (name == "abs") return unary<T, magnitude>;
    return nullptr;
  });
}

}  // namespace dgrt::emulator
