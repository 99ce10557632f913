// What quant_fp8 must produce, byte for byte, computed on the CPU from the formula in dgrt/gemm.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace dgrt::lab {

inline float bf16_to_float(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// Nearest even. Requires: finite, and not so large that it rounds to infinity.
inline uint16_t float_to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// e4m3: sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinity, 448 is the largest
// number. Nearest even, saturating, NaN becomes 0x7f.
inline uint8_t float_to_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float size = std::fabs(value);
  if (size >= 448) return sign | 0x7e;
  // Subnormal codes count in steps of 2^-9, and the eighth step is the first normal code.
  if (size < 0x1p-6f) return static_cast<uint8_t>(sign | std::lrint(size * 512.0f));
  uint32_t bits;
  std::memcpy(&bits, &size, sizeof(bits));
  // Rounds away 20 of the 23 bits of mantissa; a carry moves on to the next exponent, as it should.
  bits += 0x7ffff + (bits >> 20 & 1);
  return static_cast<uint8_t>(sign | ((bits >> 20) - ((127 - 7) << 3)));
}

struct QuantModel {
  // NaN if any element was.
  float amax = 0;

  void add(uint16_t bf16) {
    const float size = std::fabs(bf16_to_float(bf16));
    if (std::isnan(size) || size > amax) amax = size;
    if (std::isnan(size)) has_nan_ = true;
  }
  float scale() const {
    if (has_nan_) return std::numeric_limits<float>::quiet_NaN();
    return (amax > 1e-4f ? amax : 1e-4f) / 448.0f;
  }
  // Of an element of a block; `reciprocal` is 1 / scale().
  static uint8_t quantise(uint16_t bf16, float reciprocal) {
    return float_to_e4m3(bf16_to_float(bf16) * reciprocal);
  }

 private:
  bool has_nan_ = false;
};

}  // namespace dgrt::lab
