// Arithmetic of f16 and bf16, also two at a time: in f32, then rounded, which gives the same as rounding once.
#include <cmath>

#include "tests/emulator/number.h"
#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

struct F16 {
  static float to_float(uint16_t code) { return f16_to_float(code); }
  static uint16_t from_float(float value) { return float_to_f16(value); }
};
struct Bf16 {
  static float to_float(uint16_t code) { return bf16_to_float(code); }
  static uint16_t from_float(float value) { return float_to_bf16(value); }
};

constexpr auto add = [](float a, float b, float) { return a + b; };
constexpr auto sub = [](float a, float b, float) { return a - b; };
constexpr auto mul = [](float a, float b, float) { return a * b; };
// The product is exact in f64, and the sum nearly.
constexpr auto fma = [](float a, float b, float c) {
  return static_cast<float>(static_cast<double>(a) * b + static_cast<double>(c));
};
constexpr auto negate = [](float a, float, float) { return -a; };
constexpr auto magnitude = [](float a, float, float) { return std::fabs(a); };
constexpr auto larger = [](float a, float b, float) {
  if (a == b) return std::signbit(a) ? b : a;
  return std::fmax(a, b);
};
constexpr auto smaller = [](float a, float b, float) {
  if (a == b) return std::signbit(a) ? a : b;
  return std::fmin(a, b);
};
template <auto F>
constexpr auto with_nan = [](float a, float b, float c) { return a != a || b != b ? a + b : F(a, b, c); };
// Of magnitudes, with the product of the signs.
template <auto F>
constexpr auto xor_signs = [](float a, float b, float c) {
  const float magnitude_of = F(std::fabs(a), std::fabs(b), c);
  return std::signbit(a) != std::signbit(b) ? -magnitude_of : magnitude_of;
};

template <class Format, bool pair, auto F>
Step map(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* sources[3];
  for (size_t i = 0; i < 3; ++i)
    sources[i] = source(warp, instr.operands[i + 1 < instr.operands.size() ? i + 1 : 1]);
  Lanes values{};
  each_lane(lanes, [&](uint32_t lane) {
    for (uint32_t shift = 0; shift < (pair ? 32 : 16); shift += 16) {
      float in[3];
      for (size_t i = 0; i < 3; ++i) in[i] = Format::to_float(static_cast<uint16_t>(sources[i][lane] >> shift));
      values[lane] |= static_cast<uint64_t>(Format::from_float(F(in[0], in[1], in[2]))) << shift;
    }
  });
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

template <class Format, bool pair, auto F>
Handler extreme(const Instr& instr) {
  if (instr.has("xorsign"))
    return instr.has("NaN") ? map<Format, pair, xor_signs<with_nan<F>>> : map<Format, pair, xor_signs<F>>;
  return instr.has("NaN") ? map<Format, pair, with_nan<F>> : map<Format, pair, F>;
}

template <class Format, bool pair>
Handler find(const Instr& instr) {
  const std::string& name = instr.parts[0];
  if (instr.has("ftz") || instr.has("sat") || instr.has("relu")) return nullptr;
  if (name == "add") return map<Format, pair, add>;
  if (name == "sub") return map<Format, pair, sub>;
  if (name == "mul") return map<Format, pair, mul>;
  if (name == "fma") return map<Format, pair, fma>;
  if (name == "neg") return map<Format, pair, negate>;
  if (name == "abs") return map<Format, pair, magnitude>;
  if (name == "min") return extreme<Format, pair, smaller>(instr);
  if (name == "max") return extreme<Format, pair, larger>(instr);
  return nullptr;
}

}  // namespace

Handler half_handler(const Instr& instr) {
  const std::string& type = instr.parts.back();
  if (type == "f16") return find<F16, false>(instr);
  if (type == "f16x2") return find<F16, true>(instr);
  if (type == "bf16") return find<Bf16, false>(instr);
  if (type == "bf16x2") return find<Bf16, true>(instr);
  return nullptr;
}

}  // namespace dgrt::emulator
