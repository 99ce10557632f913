// cvt: between integers, floats, and the small formats, alone and in pairs.
#include <cmath>
#include <limits>
#include <utility>

#include "tests/emulator/number.h"
#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

// A register may be wider than the type: signed values fill it.
template <class T>
uint64_t extended(T value, uint8_t bits) {
  const auto wide = static_cast<uint64_t>(static_cast<int64_t>(value));
  return bits >= 64 ? wide : wide & ((uint64_t{1} << bits) - 1);
}

template <class To, class From, auto F>
Step to_int(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const uint8_t bits = instr.operands[0].bits;
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) values[i] = extended(static_cast<To>(F(from_bits<From>(a[i]), To{})), bits);
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

constexpr auto same = [](auto value, auto) { return value; };
constexpr auto saturated = []<class From, class To>(From value, To) {
  using Limits = std::numeric_limits<To>;
  return std::cmp_less(value, Limits::min())      ? Limits::min()
         : std::cmp_greater(value, Limits::max()) ? Limits::max()
                                                  : static_cast<To>(value);
};

constexpr auto to_nearest = [](auto value) { return std::nearbyint(value); };
constexpr auto to_zero = [](auto value) { return std::trunc(value); };
constexpr auto down = [](auto value) { return std::floor(value); };
constexpr auto up = [](auto value) { return std::ceil(value); };

// NaN: 0. Others too large: the nearest that there is.
template <auto round>
constexpr auto rounded = []<class From, class To>(From value, To) {
  const From whole = round(value);
  using Limits = std::numeric_limits<To>;
  const From end = std::ldexp(From{1}, Limits::digits);
  if (whole != whole) return To{0};
  if (whole >= end) return Limits::max();
  return whole < static_cast<From>(Limits::min()) ? Limits::min() : static_cast<To>(whole);
};

template <class F>
Handler by_small_int(std::string_view type, F f) {
  if (type == "u8" || type == "b8") return f(uint8_t{});
  if (type == "s8") return f(int8_t{});
  return by_int(type, f);
}

template <class To, class From>
Handler rounding_to_int(const Instr& instr) {
  if (instr.has("rni")) return to_int<To, From, rounded<to_nearest>>;
  if (instr.has("rzi")) return to_int<To, From, rounded<to_zero>>;
  if (instr.has("rmi")) return to_int<To, From, rounded<down>>;
  return instr.has("rpi") ? to_int<To, From, rounded<up>> : nullptr;
}

template <class To>
constexpr auto as = [](auto value) {
  const To result = static_cast<To>(value);
  if constexpr (std::is_same_v<To, float>) return result == result ? result : std::bit_cast<float>(nan_bits);
  return result;
};
constexpr auto clamp01 = [](auto value) {
  using T = decltype(value);
  return value > T{0} ? (value < T{1} ? value : T{1}) : T{0};
};
template <auto F>
constexpr auto saturating = [](auto value) { return clamp01(F(value)); };

template <class To, class From>
Handler float_to_float(const Instr& instr) {
  if (instr.has("rni")) return map1<to_nearest, To, From>;
  if (instr.has("rzi")) return map1<to_zero, To, From>;
  if (instr.has("rmi")) return map1<down, To, From>;
  if (instr.has("rpi")) return map1<up, To, From>;
  return instr.has("sat") ? map1<saturating<as<To>>, To, From> : map1<as<To>, To, From>;
}

// Functions of one code, or of two floats, that pair halves: the first is the upper.
constexpr auto of_f16 = [](uint16_t code) { return as<float>(f16_to_float(code)); };
constexpr auto of_bf16 = [](uint16_t code) { return as<float>(bf16_to_float(code)); };
constexpr auto to_f16 = [](float value) { return float_to_f16(value); };
constexpr auto to_bf16 = [](float value) { return float_to_bf16(value); };
constexpr auto to_tf32_even = [](float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return value == value ? (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu : nan_bits;
};
constexpr auto to_tf32_away = [](float value) {
  return value == value ? (std::bit_cast<uint32_t>(value) + 0x1000) & ~0x1fffu : nan_bits;
};
template <auto F>
constexpr auto pair16 = [](float upper, float lower) {
  return static_cast<uint32_t>(F(upper)) << 16 | static_cast<uint32_t>(F(lower));
};
template <auto F>
constexpr auto relu = [](float value) { return F(value > 0 || value != value ? value : 0.0f); };
template <auto F>
constexpr auto pair8 = [](float upper, float lower) { return static_cast<uint16_t>(F(upper) << 8 | F(lower)); };
template <auto F>
constexpr auto pair8_of_pair16 = [](uint32_t pair) {
  return static_cast<uint16_t>(F(f16_to_float(static_cast<uint16_t>(pair >> 16))) << 8 |
                               F(f16_to_float(static_cast<uint16_t>(pair))));
};
template <auto F>
constexpr auto f16_pair_of_pair8 = [](uint16_t pair) {
  return pair16<to_f16>(F(static_cast<uint8_t>(pair >> 8)), F(static_cast<uint8_t>(pair)));
};

Handler half_pair_handler(const Instr& instr, std::string_view to) {
  const bool has_relu = instr.has("relu");
  if (to == "f16x2")
    return has_relu ? map2<pair16<relu<to_f16>>, uint32_t, float, float> : map2<pair16<to_f16>, uint32_t, float, float>;
  return has_relu ? map2<pair16<relu<to_bf16>>, uint32_t, float, float>
                  : map2<pair16<to_bf16>, uint32_t, float, float>;
}

Handler small_format_handler(const Instr& instr, std::string_view to, std::string_view from) {
  if (from == "f32") {
    if (to == "f16x2" || to == "bf16x2") return half_pair_handler(instr, to);
    if (to == "f16") return map1<to_f16, uint16_t, float>;
    if (to == "bf16") return map1<to_bf16, uint16_t, float>;
    if (to == "tf32")
      return instr.has("rna") ? map1<to_tf32_away, uint32_t, float> : map1<to_tf32_even, uint32_t, float>;
    if (to == "e4m3x2") return map2<pair8<float_to_e4m3>, uint16_t, float, float>;
    if (to == "e5m2x2") return map2<pair8<float_to_e5m2>, uint16_t, float, float>;
  }
  if (from == "f16x2" && to == "e4m3x2") return map1<pair8_of_pair16<float_to_e4m3>, uint16_t, uint32_t>;
  if (from == "f16x2" && to == "e5m2x2") return map1<pair8_of_pair16<float_to_e5m2>, uint16_t, uint32_t>;
  if (from == "e4m3x2" && to == "f16x2") return map1<f16_pair_of_pair8<e4m3_to_float>, uint32_t, uint16_t>;
  if (from == "e5m2x2" && to == "f16x2") return map1<f16_pair_of_pair8<e5m2_to_float>, uint32_t, uint16_t>;
  if (to == "f32" && from == "f16") return map1<of_f16, float, uint16_t>;
  if (to == "f32" && from == "bf16") return map1<of_bf16, float, uint16_t>;
  return nullptr;
}

template <class From>
Handler from_int(const Instr& instr, std::string_view to) {
  const auto find = [&]<class To>(To) -> Handler {
    return instr.has("sat") ? to_int<To, From, saturated> : to_int<To, From, same>;
  };
  if (const Handler handler = by_small_int(to, find)) return handler;
  const bool rounds_to_nearest = instr.has("rn") || to == "f64";
  return by_float(to, [&]<class To>(To) -> Handler { return rounds_to_nearest ? map1<as<To>, To, From> : nullptr; });
}

template <class From>
Handler from_float(const Instr& instr, std::string_view to) {
  const auto find = [&]<class To>(To) { return rounding_to_int<To, From>(instr); };
  if (const Handler handler = by_small_int(to, find)) return handler;
  return by_float(to, [&]<class To>(To) { return float_to_float<To, From>(instr); });
}

}  // namespace

Handler convert_handler(const Instr& instr) {
  const size_t size = instr.parts.size();
  if (instr.parts[0] != "cvt" || size < 3) return nullptr;
  const std::string &to = instr.parts[size - 2], &from = instr.parts[size - 1];
  if (instr.has("rz") || instr.has("rm") || instr.has("rp") || instr.has("ftz")) return nullptr;
  if (const Handler handler = small_format_handler(instr, to, from)) return handler;
  const auto of_int = [&]<class From>(From) { return from_int<From>(instr, to); };
  if (const Handler handler = by_small_int(from, of_int)) return handler;
  return by_float(from, [&]<class From>(From) { return from_float<From>(instr, to); });
}

}  // namespace dgrt::emulator
