// The one header that both compilers read: types that cross from host to kernel, and the integer
// helpers that size shared memory on both sides. Includes nothing: NVRTC has no standard headers,
// and each one would cost compile time.
#pragma once
#ifdef __CUDACC_RTC__
#define DGRT_HD __host__ __device__
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long;
using uint64_t = unsigned long;
#else
#include <cstdint>
#define DGRT_HD
#endif

namespace dgrt {

// Mirror of CUtensorMap: an opaque 128-byte descriptor that must sit 64-byte aligned in kernel
// parameters (PTX ISA, tensor maps).
struct alignas(64) TensorMap {
  uint64_t words[16];
};

DGRT_HD constexpr uint32_t ceil_div(uint32_t x, uint32_t y) { return (x + y - 1) / y; }
DGRT_HD constexpr uint32_t align_up(uint32_t x, uint32_t y) { return ceil_div(x, y) * y; }

// A divisor that many numbers are divided by, with what a division by it begins with: five instructions each instead of
// the sixteen of a division, which also take time to compile.
struct Divisor {
  uint32_t by, scale;

  Divisor() = default;
  DGRT_HD constexpr explicit Divisor(uint32_t by) : by(by), scale(~0u / by) {}

  // Exact: x * scale / 2^32 is less than x / by by less than 1, so that its whole part is the quotient or 1 less.
  DGRT_HD constexpr uint32_t quotient(uint32_t x) const {
    const auto low = static_cast<uint32_t>(static_cast<uint64_t>(x) * scale >> 32);
    return low + (x - low * by >= by ? 1 : 0);
  }
};
DGRT_HD constexpr uint32_t ceil_div(uint32_t x, const Divisor& y) { return y.quotient(x + y.by - 1); }

// The same sooner where y is 1 or not less than x: a division proper is some forty instructions, one after the other.
DGRT_HD constexpr uint32_t quick_div(uint32_t x, uint32_t y) { return y == 1 ? x : x < y ? 0 : x / y; }
DGRT_HD constexpr uint32_t quick_ceil_div(uint32_t x, uint32_t y) {
  return y == 1 ? x : x <= y ? (x != 0 ? 1 : 0) : ceil_div(x, y);
}

// Dynamic shared memory that one block may use on SM90, and its alignment for 128-byte swizzled
// tiles.
constexpr uint32_t sm90_max_smem_bytes = 232448;
constexpr uint32_t smem_alignment = 1024;

}  // namespace dgrt
