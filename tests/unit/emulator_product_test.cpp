// The arithmetic of wgmma: number formats, matrix descriptors and layouts as the PTX ISA draws them, products.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-shared-memory-layout
#include "tests/emulator/warpgroup_product.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tests/emulator/emulated_machine.h"
#include "tests/emulator/mbarrier.h"
#include "tests/emulator/number.h"
#include "tests/support/catch.h"

namespace dgrt::emulator {
namespace {

TEST_CASE("tensor cores' formats have the values of their bits", "[unit]") {
  CHECK(bf16_to_float(0x3f80) == 1.f);
  CHECK(bf16_to_float(0xc049) == -3.140625f);
  CHECK(f16_to_float(0x3c00) == 1.f);
  CHECK(f16_to_float(0x0001) == std::ldexp(1.f, -24));
  CHECK(f16_to_float(0x83ff) == -std::ldexp(1023.f, -24));
  CHECK(f16_to_float(0x7bff) == 65504.f);
  CHECK(f16_to_float(0xfc00) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(f16_to_float(0x7e00)));
  CHECK(e4m3_to_float(0x38) == 1.f);
  CHECK(e4m3_to_float(0x01) == std::ldexp(1.f, -9));
  CHECK(e4m3_to_float(0x7e) == 448.f);
  CHECK(e4m3_to_float(0xb4) == -0.75f);
  CHECK(std::isnan(e4m3_to_float(0xff)));
}

uint64_t descriptor(uint64_t start, uint64_t leading, uint64_t stride, uint64_t mode) {
  return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | mode << 62;
}

struct Layout {
  const char* name;
  uint64_t mode;
  uint32_t leading, stride, step;  // step: bytes from 16 k (8-bit: 32) to the next
  bool mn_major;
  size_t (*at)(size_t row, size_t k_bytes);  // of an element's first byte, of 64 rows and 32 elements of k
};

// Numbers as in the ISA's figures: 16-bit elements, 64 rows, all of k in one or two rows of the swizzle.
const Layout layouts[] = {
    {"none", 0, 2048, 128, 4096, false,
     [](size_t row, size_t k) { return k / 16 * 2048 + row / 8 * 128 + row % 8 * 16 + k % 16; }},
    {"32 bytes", 3, 16, 256, 2048, false,
     [](size_t row, size_t k) { return k / 32 * 2048 + row * 32 + (k % 32 / 16 ^ row / 4 % 2) * 16 + k % 16; }},
    {"64 bytes", 2, 16, 512, 32, false,
     [](size_t row, size_t k) { return row * 64 + (k / 16 ^ row / 2 % 4) * 16 + k % 16; }},
    {"128 bytes", 1, 16, 1024, 32, false,
     [](size_t row, size_t k) { return row * 128 + (k / 16 ^ row % 8) * 16 + k % 16; }},
    {"none, MN-major", 0, 1024, 128, 2048, true,
     [](size_t row, size_t k) { return k / 16 * 1024 + row / 8 * 128 + k / 2 % 8 * 16 + row % 8 * 2; }},
    {"32 bytes, MN-major", 3, 1024, 256, 512, true,
     [](size_t row, size_t k) {
       k /= 2;
       return row / 16 * 1024 + k * 32 + (row % 16 / 8 ^ k / 4 % 2) * 16 + row % 8 * 2;
     }},
    {"64 bytes, MN-major", 2, 2048, 512, 1024, true,
     [](size_t row, size_t k) {
       k /= 2;
       return row / 32 * 2048 + k * 64 + (row % 32 / 8 ^ k / 2 % 4) * 16 + row % 8 * 2;
     }},
    {"128 bytes, MN-major", 1, 8192, 1024, 2048, true,
     [](size_t row, size_t k) {
       k /= 2;
       return row / 64 * 8192 + k * 128 + (row % 64 / 8 ^ k % 8) * 16 + row % 8 * 2;
     }},
};

TEST_CASE("operands are read as matrix descriptors say", "[unit]") {
  const size_t which = GENERATE(range(size_t{0}, std::size(layouts)));
  const Layout& layout = layouts[which];
  const bool bytes = GENERATE(false, true);
  if (bytes && layout.mn_major) return;
  INFO(layout.name << ", " << (bytes ? "e4m3" : "bf16"));
  constexpr uint32_t start = 4096;
  const uint32_t size = bytes ? 1 : 2, depth = 32 / size;  // k of one step
  std::vector<std::byte> shared(start + 16384);
  const auto code = [&](size_t row, size_t k) { return static_cast<uint16_t>(0x3c00 + (row * 37 + k * 101) % 1024); };
  const auto e4m3 = [&](size_t row, size_t k) { return static_cast<uint8_t>((row * 37 + k * 101) % 120); };
  for (size_t row = 0; row < 64; ++row)
    for (size_t k = 0; k < 2 * depth; ++k) {
      const uint16_t bits = bytes ? e4m3(row, k) : code(row, k);
      std::memcpy(shared.data() + start + layout.at(row, k * size), &bits, size);
    }
  for (uint32_t step = 0; step < 2; ++step) {
    std::vector<float> values(64 * 40, -1.f);
    unpack_operand(shared, decode_descriptor(descriptor(start + step * layout.step, layout.leading, layout.stride,
                                                        layout.mode)),
                   layout.mn_major, bytes ? Format::e4m3 : Format::bf16, 64, values.data(), 40, 1);
    for (size_t row = 0; row < 64; ++row)
      for (size_t k = 0; k < depth; ++k) {
        const size_t k_all = step * depth + k;
        REQUIRE(values[row * 40 + k] == (bytes ? e4m3_to_float(e4m3(row, k_all)) : bf16_to_float(code(row, k_all))));
      }
  }
}

TEST_CASE("matrix descriptors must be right", "[unit]") {
  CHECK_NOTHROW(decode_descriptor(descriptor(1024 + 96, 16, 1024, 1)));
  CHECK_THROWS_AS(decode_descriptor(descriptor(1024 + 128, 16, 1024, 1)), Fault);
  CHECK_THROWS_AS(decode_descriptor(descriptor(1024, 16, 1024, 1) | uint64_t{1} << 49), Fault);
  CHECK_THROWS_AS(decode_descriptor(descriptor(1024, 16, 1024, 1) | uint64_t{1} << 14), Fault);
  CHECK(decode_descriptor(descriptor(0x3fff0, 48, 1024, 0)).start == 0x3fff0);
  float values[64 * 16];
  const std::vector<std::byte> shared(8192 + 1024);
  const auto at = [](uint64_t start) { return decode_descriptor(descriptor(start, 16, 1024, 1)); };
  CHECK_NOTHROW(unpack_operand(shared, at(1024), false, Format::bf16, 64, values, 16, 1));
  CHECK_THROWS_AS(unpack_operand(shared, at(2048), false, Format::bf16, 64, values, 16, 1), Fault);
  CHECK_THROWS_AS(unpack_operand(shared, at(1024), true, Format::e4m3, 64, values, 16, 1), Fault);
}

TEST_CASE("products of a step are added", "[unit]") {
  const uint32_t columns = GENERATE(8u, 24u, 256u), depth = GENERATE(16u, 32u);
  std::mt19937 random(columns + depth);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> a(64 * depth), b(depth * most_columns), d(64 * most_columns);
  for (auto* values : {&a, &b, &d})
    for (float& value : *values) value = uniform(random);
  const std::vector<float> before = d;
  multiply_add(d.data(), a.data(), b.data(), 64, columns, depth);
  for (size_t m = 0; m < 64; ++m)
    for (size_t n = 0; n < most_columns; ++n) {
      double sum = before[m * most_columns + n];
      for (size_t k = 0; n < columns && k < depth; ++k)
        sum += double{a[m * depth + k]} * double{b[k * most_columns + n]};
      REQUIRE(std::abs(d[m * most_columns + n] - sum) < 1e-5);
    }
}

TEST_CASE("an mbarrier's phase ends with its last arrival and its last byte", "[unit]") {
  Mbarrier barrier = Mbarrier::of_count(2);
  const auto again = [&] { barrier = Mbarrier(barrier.word()); };  // as memory keeps it
  CHECK(barrier.passed(1));  // the phase before the first
  CHECK_FALSE(barrier.passed(0));
  barrier.expect(100);
  again();
  barrier.arrive();
  again();
  barrier.complete(60);
  again();
  barrier.arrive();
  again();
  CHECK_FALSE(barrier.passed(0));
  barrier.complete(40);
  again();
  CHECK(barrier.passed(0));
  CHECK_FALSE(barrier.passed(1));
  // Bytes may land before they are expected.
  barrier.complete(16);
  again();
  barrier.arrive();
  barrier.expect(16);
  again();
  CHECK_FALSE(barrier.passed(1));
  barrier.arrive();
  again();
  CHECK(barrier.passed(1));
  CHECK(barrier.word() == Mbarrier::of_count(2).word());
}

TEST_CASE("an mbarrier does not count what it cannot", "[unit]") {
  CHECK_THROWS_AS(Mbarrier::of_count(0), Fault);
  CHECK_THROWS_AS(Mbarrier::of_count(1 << 20), Fault);
  CHECK(Mbarrier(Mbarrier::of_count((1 << 20) - 1).word()).word() == Mbarrier::of_count((1 << 20) - 1).word());
  Mbarrier barrier = Mbarrier::of_count(1);
  barrier.expect((1 << 20) - 1);
  CHECK_THROWS_AS(barrier.expect(1), Fault);
  Mbarrier waits = Mbarrier::of_count(1);
  waits.expect(16);
  waits.arrive();
  CHECK_THROWS_AS(waits.arrive(), Fault);
}

}  // namespace
}  // namespace dgrt::emulator
