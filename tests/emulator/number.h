// Small floating-point formats: to float exactly, from float to the nearest, ties to even.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace dgrt::emulator {

constexpr uint32_t nan_bits = 0x7fff'ffff;  // what the GPU makes

inline float bf16_to_float(uint16_t code) { return std::bit_cast<float>(static_cast<uint32_t>(code) << 16); }

inline uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fff'ffff) > 0x7f80'0000) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float f16_to_float(uint16_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(code & 0x7fff) << 13;
  const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  return std::bit_cast<float>(sign | ((code & 0x7c00) == 0x7c00 ? magnitude | 0x7f80'0000 : finite));
}

// Magnitude in units of the last place, and the exponent as the format has it, in one number: a carry out of the
// mantissa raises the exponent. Codes above the format's largest are for the caller to see.
template <int mantissa_bits, int min_exponent>
uint32_t round_magnitude(float magnitude) {
  const int exponent = std::max(static_cast<int>(std::bit_cast<uint32_t>(magnitude) >> 23) - 127, min_exponent);
  const double unit = std::bit_cast<double>(static_cast<uint64_t>(1023 + mantissa_bits - exponent) << 52);
  const double units = std::nearbyint(static_cast<double>(magnitude) * unit);
  return (static_cast<uint32_t>(exponent - min_exponent) << mantissa_bits) + static_cast<uint32_t>(units);
}

inline uint16_t float_to_f16(float value) {
  const uint16_t sign = std::bit_cast<uint32_t>(value) >> 16 & 0x8000;
  if (std::isnan(value)) return 0x7fff;
  if (std::isinf(value)) return sign | 0x7c00;
  return static_cast<uint16_t>(sign | std::min(round_magnitude<10, -14>(std::fabs(value)), 0x7c00u));
}

// Largest 448; no infinity: too large ones become the largest.
inline uint8_t float_to_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  const uint8_t sign = std::bit_cast<uint32_t>(value) >> 24 & 0x80;
  if (std::isinf(value)) return sign | 0x7e;
  return static_cast<uint8_t>(sign | std::min(round_magnitude<3, -6>(std::fabs(value)), 0x7eu));
}

// Largest 57344, which too large ones become.
inline uint8_t float_to_e5m2(float value) {
  if (std::isnan(value)) return 0x7f;
  const uint8_t sign = std::bit_cast<uint32_t>(value) >> 24 & 0x80;
  if (std::isinf(value)) return sign | 0x7b;
  return static_cast<uint8_t>(sign | std::min(round_magnitude<2, -14>(std::fabs(value)), 0x7bu));
}

inline float e5m2_to_float(uint8_t code) { return f16_to_float(static_cast<uint16_t>(code << 8)); }

inline float e4m3_to_float(uint8_t code) {
  if ((code & 0x7f) == 0x7f) return std::bit_cast<float>(nan_bits);
  const float magnitude = std::bit_cast<float>(static_cast<uint32_t>(code & 0x7f) << 20) * 0x1p120f;
  return code & 0x80 ? -magnitude : magnitude;
}

}  // namespace dgrt::emulator
