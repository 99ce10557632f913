// Arithmetic of f32 and f64, to the nearest, ties to even; approximations are exact to the last place or so.
#include <cmath>
#include <limits>
#include <numbers>

#include "tests/emulator/number.h"
#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

// The GPU makes one NaN, whatever came in. Of f64 it keeps the payload.
inline float canonical(float value) { return value == value ? value : std::bit_cast<float>(nan_bits); }
inline double canonical(double value) { return value; }

inline float flushed(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }
inline double flushed(double value) { return value; }

constexpr auto add = [](auto a, auto b) { return canonical(a + b); };
constexpr auto sub = [](auto a, auto b) { return canonical(a - b); };
constexpr auto mul = [](auto a, auto b) { return canonical(a * b); };
constexpr auto divide = [](auto a, auto b) { return canonical(a / b); };
constexpr auto fma = [](auto a, auto b, auto c) { return canonical(std::fma(a, b, c)); };
constexpr auto reciprocal = []<class T>(T a) { return canonical(T{1} / a); };
constexpr auto root = [](auto a) { return canonical(std::sqrt(a)); };
constexpr auto reciprocal_root = []<class T>(T a) { return canonical(T{1} / std::sqrt(a)); };
constexpr auto power_of_2 = [](float a) { return canonical(std::exp2(a)); };
constexpr auto log_2 = [](float a) { return canonical(std::log2(a)); };
constexpr auto sine = [](float a) { return canonical(std::sin(a)); };
constexpr auto cosine = [](float a) { return canonical(std::cos(a)); };
constexpr auto tangent_h = [](float a) { return canonical(std::tanh(a)); };
constexpr auto negate = [](auto a) { return -a; };
constexpr auto magnitude = [](auto a) { return std::fabs(a); };
constexpr auto copy_sign = [](auto a, auto b) { return std::copysign(b, a); };
// As the GPU's start for a division: its lower half is zero.
constexpr auto rough_reciprocal = [](double a) {
  return std::bit_cast<double>(std::bit_cast<uint64_t>(1 / a) & ~uint64_t{0xffff'ffff});
};

// Of a number and a NaN the number; -0 is smaller than +0.
constexpr auto larger = []<class T>(T a, T b) {
  const T chosen = a == b ? (std::signbit(a) ? b : a) : (a > b ? a : b);
  return canonical(a != a ? b : b != b ? a : chosen);
};
constexpr auto smaller = []<class T>(T a, T b) {
  const T chosen = a == b ? (std::signbit(a) ? a : b) : (a < b ? a : b);
  return canonical(a != a ? b : b != b ? a : chosen);
};
// A NaN if one of both is.
template <auto F>
constexpr auto with_nan = []<class T>(T a, T b) { return a != a || b != b ? canonical(a + b) : F(a, b); };

template <auto F>
constexpr auto flush1 = [](auto a) { return flushed(F(flushed(a))); };
template <auto F>
constexpr auto flush2 = [](auto a, auto b) { return flushed(F(flushed(a), flushed(b))); };
template <auto F>
constexpr auto flush3 = [](auto a, auto b, auto c) { return flushed(F(flushed(a), flushed(b), flushed(c))); };
template <auto F>
constexpr auto sat2 = []<class T>(T a, T b) { return larger(T{0}, smaller(T{1}, F(a, b))); };
template <auto F>
constexpr auto sat3 = []<class T>(T a, T b, T c) { return larger(T{0}, smaller(T{1}, F(a, b, c))); };

template <class T, auto F>
Handler unary(const Instr& instr) {
  return instr.has("ftz") ? map1<flush1<F>, T, T> : map1<F, T, T>;
}

template <class T, auto F>
Handler binary(const Instr& instr) {
  if (instr.has("sat")) return instr.has("ftz") ? map2<flush2<sat2<F>>, T, T, T> : map2<sat2<F>, T, T, T>;
  return instr.has("ftz") ? map2<flush2<F>, T, T, T> : map2<F, T, T, T>;
}

template <class T, auto F>
Handler ternary(const Instr& instr) {
  if (instr.has("sat")) return instr.has("ftz") ? map3<flush3<sat3<F>>, T, T, T, T> : map3<sat3<F>, T, T, T, T>;
  return instr.has("ftz") ? map3<flush3<F>, T, T, T, T> : map3<F, T, T, T, T>;
}

template <class T>
Handler common_handler(const Instr& instr) {
  const std::string& name = instr.parts[0];
  if (name == "add") return binary<T, add>(instr);
  if (name == "sub") return binary<T, sub>(instr);
  if (name == "mul") return binary<T, mul>(instr);
  if (name == "fma" || name == "mad") return ternary<T, fma>(instr);
  if (name == "div") return binary<T, divide>(instr);
  if (name == "sqrt") return unary<T, root>(instr);
  if (name == "rsqrt") return unary<T, reciprocal_root>(instr);
  if (name == "neg") return unary<T, negate>(instr);
  if (name == "abs") return unary<T, magnitude>(instr);
  if (name == "copysign") return map2<copy_sign, T, T, T>;
  if (name == "min") return instr.has("NaN") ? binary<T, with_nan<smaller>>(instr) : binary<T, smaller>(instr);
  if (name == "max") return instr.has("NaN") ? binary<T, with_nan<larger>>(instr) : binary<T, larger>(instr);
  if (name == "rcp") {
    if (std::is_same_v<T, double> && instr.has("approx")) return map1<rough_reciprocal, double, double>;
    return unary<T, reciprocal>(instr);
  }
  return nullptr;
}

}  // namespace

Handler float_handler(const Instr& instr) {
  for (const char* part : {"rz", "rm", "rp", "xorsign", "abs"})
    if (instr.parts[0] != part && instr.has(part)) return nullptr;
  if (instr.parts.back() == "f64") return common_handler<double>(instr);
  if (instr.parts.back() != "f32") return nullptr;
  const std::string& name = instr.parts[0];
  if (name == "ex2") return unary<float, power_of_2>(instr);
  if (name == "lg2") return unary<float, log_2>(instr);
  if (name == "sin") return unary<float, sine>(instr);
  if (name == "cos") return unary<float, cosine>(instr);
  if (name == "tanh") return unary<float, tangent_h>(instr);
  return common_handler<float>(instr);
}

}  // namespace dgrt::emulator
