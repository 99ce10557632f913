#include "tests/emulator/warpgroup_product.h"

#include <cstring>

#include "tests/emulator/emulated_machine.h"
#include "tests/emulator/number.h"

namespace dgrt::emulator {
namespace {

void unpack_16_bytes(const std::byte* from, Format format, float* to) {
  if (format == Format::e4m3) {
    for (uint32_t i = 0; i < 16; ++i) to[i] = e4m3_to_float(static_cast<uint8_t>(from[i]));
    return;
  }
  uint16_t bits[8];
  std::memcpy(bits, from, sizeof bits);
  if (format == Format::bf16)
    for (uint32_t i = 0; i < 8; ++i) to[i] = bf16_to_float(bits[i]);
  else
    for (uint32_t i = 0; i < 8; ++i) to[i] = f16_to_float(bits[i]);
}

}  // namespace

Descriptor decode_descriptor(uint64_t bits) {
  const auto field = [bits](uint32_t first) { return static_cast<uint32_t>(bits >> first & 0x3fff) << 4; };
  const uint64_t mode = bits >> 62;
  const Descriptor descriptor = {field(0), field(16), field(32), mode == 0 ? 16u : 256u >> mode};
  if (bits & 0x3fff'c000'c000'c000) throw Fault("a matrix descriptor has bits where none may be");
  const uint32_t pattern = descriptor.span * 8 - 1;  // repeats after so many bytes
  if (mode != 0 && (descriptor.start & pattern & ~127u))
    throw Fault("a swizzled matrix must start where its pattern does, but for the step along k");
  return descriptor;
}

uint32_t element_address(const Descriptor& descriptor, bool mn_major, Format format, uint32_t row, uint32_t k) {
  const uint32_t bytes = format_bytes(format), span = descriptor.span;
  uint32_t offset = 0;
  if (span == 16) {
    // Core matrices of 8 times 16 bytes: their distances along k and along rows.
    const uint32_t contiguous = mn_major ? row * bytes : k * bytes, other = mn_major ? k : row;
    offset = contiguous / 16 * (mn_major ? descriptor.stride : descriptor.leading) +
             other / 8 * (mn_major ? descriptor.leading : descriptor.stride) + other % 8 * 16 + contiguous % 16;
    return descriptor.start + offset;
  }
  const uint32_t contiguous = mn_major ? row * bytes : k * bytes, other = mn_major ? k : row;
  offset = other / 8 * descriptor.stride + other % 8 * span;
  // Of a K-major operand all of the step lies in one row of the pattern.
  offset += mn_major ? contiguous / span * descriptor.leading + contiguous % span : contiguous;
  const uint32_t address = descriptor.start + offset;
  return address ^ ((address >> 7 & (span / 16 - 1)) << 4);
}

void unpack_operand(std::span<const std::byte> shared, const Descriptor& descriptor, bool mn_major, Format format,
                    uint32_t rows, float* to, uint32_t row_step, uint32_t k_step) {
  const uint32_t depth = step_elements(format), together = 16 / format_bytes(format);
  if (mn_major && format == Format::e4m3) throw Fault("operands of 8 bits cannot be MN-major");
  const uint32_t outer = mn_major ? depth : rows, inner = mn_major ? rows : depth;
  const uint32_t outer_step = mn_major ? k_step : row_step, inner_step = mn_major ? row_step : k_step;
  for (uint32_t o = 0; o < outer; ++o)
    for (uint32_t i = 0; i < inner; i += together) {
      const uint32_t at = element_address(descriptor, mn_major, format, mn_major ? i : o, mn_major ? o : i);
      if (at + 16 > shared.size()) throw Fault("a matrix reaches beyond the shared memory");
      float values[16];
      unpack_16_bytes(shared.data() + at, format, values);
      for (uint32_t e = 0; e < together; ++e) to[o * outer_step + (i + e) * inner_step] = values[e];
    }
}

void unpack_register(uint32_t bits, Format format, float* to) {
  if (format == Format::e4m3) {
    for (uint32_t i = 0; i < 4; ++i) to[i] = e4m3_to_float(static_cast<uint8_t>(bits >> 8 * i));
    return;
  }
  for (uint32_t i = 0; i < 2; ++i) {
    const auto half = static_cast<uint16_t>(bits >> 16 * i);
    to[i] = format == Format::bf16 ? bf16_to_float(half) : f16_to_float(half);
  }
}

// Eight columns of four rows at a time. A step's products are summed before they meet d: closer to what tensor cores
// do, which round once or twice per step.
void multiply_add(float* d, const float* a, const float* b, uint32_t rows, uint32_t columns, uint32_t depth) {
  using Columns = float __attribute__((vector_size(32), aligned(4), may_alias));
  for (uint32_t m = 0; m < rows; m += 4)
    for (uint32_t n = 0; n < columns; n += 8) {
      Columns sums[4] = {};
      for (uint32_t k = 0; k < depth; ++k) {
        const Columns row = *reinterpret_cast<const Columns*>(b + k * most_columns + n);
        for (uint32_t i = 0; i < 4; ++i) sums[i] += a[(m + i) * depth + k] * row;
      }
      for (uint32_t i = 0; i < 4; ++i) *reinterpret_cast<Columns*>(d + (m + i) * most_columns + n) += sums[i];
    }
}

}  // namespace dgrt::emulator
