// Number formats of tensor cores, as fp32. Exact.
#pragma once
#include <array>
#include <bit>
#include <cstdint>

namespace dgrt::emulator {

inline float bf16_value(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// Without branches, so that loops over it vectorise. The product is exact for subnormals too.
inline float fp16_value(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const float magnitude =
      std::bit_cast<float>(static_cast<uint32_t>(bits & 0x7fff) << 13) * std::bit_cast<float>(0x77800000u);  // 2^112
  const uint32_t infinite = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign | infinite);
}

// 1 sign, 4 exponent (bias 7), 3 fraction bits; no infinities, all ones is NaN.
inline float e4m3_value(uint8_t bits) {
  static constexpr std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (uint32_t code = 0; code < 256; ++code) {
      const uint32_t exponent = code >> 3 & 15, fraction = code & 7;
      float value = static_cast<float>(exponent ? 8 + fraction : fraction) / 512;
      for (uint32_t e = 1; e < exponent; ++e) value *= 2;
      if ((code & 0x7f) == 0x7f) value = std::bit_cast<float>(0x7fc00000u);
      table[code] = code & 0x80 ? -value : value;
    }
    return table;
  }();
  return values[bits];
}

}  // namespace dgrt::emulator
