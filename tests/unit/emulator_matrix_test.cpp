// Tensor cores of the emulator, in kernels of a few lines of PTX, against naive products: wgmma with operands in
// shared memory and in registers, mma.sync, ldmatrix, stmatrix.
#include <cmath>
#include <random>
#include <vector>

#include "tests/emulator/number.h"
#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

using Catch::Matchers::Contains;

constexpr uint32_t columns = 16, registers = columns / 2;

std::string list(const std::string& prefix, uint32_t first, uint32_t count) {
  std::string result = "{";
  for (uint32_t i = 0; i < count; ++i) result += (i ? ", " : "") + prefix + std::to_string(first + i);
  return result + "}";
}

// 128 threads copy 10240 bytes of x to shared memory: a [64][128 bytes], then b [16][128 bytes]. %rd10 and %rd11
// become their descriptors.
std::string operands_to_shared() {
  std::string text = "mul.lo.u32 %r2, %r1, 80;\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd2, %rd5;\n";
  for (int i = 0; i < 80; i += 16) {
    const std::string at = std::to_string(i);
    text += "ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%rd6+" + at + "];\nst.shared.v4.u32 [%r2+" + at +
            "], {%r10, %r11, %r12, %r13};\n";
  }
  return text +
         "fence.proxy.async.shared::cta;\nbar.sync 0;\nmov.b64 %rd10, 0x4000004000010000;\n"
         "mov.b64 %rd11, 0x4000004000010200;\nsetp.ne.u32 %p1, %r1, %r1;\nsetp.eq.u32 %p2, %r1, %r1;\n"
         "mov.f32 %f0, 0f41200000;\nmov.f32 %f1, %f0;\nmov.f32 %f2, %f0;\nmov.f32 %f3, %f0;\nmov.f32 %f4, %f0;\n"
         "mov.f32 %f5, %f0;\nmov.f32 %f6, %f0;\nmov.f32 %f7, %f0;\nwgmma.fence.sync.aligned;\n";
}

// Four steps along k. The first adds to ten, or not.
std::string products(const std::string& shape, const std::string& transposes, bool accumulate) {
  std::string text;
  for (int step = 0; step < 4; ++step)
    text += "wgmma.mma_async.sync.aligned." + shape + " " + list("%f", 0, registers) + ", %rd10, %rd11, " +
            (step == 0 && !accumulate ? "%p1" : "%p2") + ", 1, 1" + transposes +
            ";\nadd.s64 %rd10, %rd10, 2;\nadd.s64 %rd11, %rd11, 2;\n";
  return text + "wgmma.commit_group.sync.aligned;\n";
}
const std::string wait = "wgmma.wait_group.sync.aligned 0;\n";

// y[thread][register]
std::string write_sums() {
  std::string text = "mul.wide.u32 %rd7, %r1, " + std::to_string(registers * 4) + ";\nadd.s64 %rd8, %rd3, %rd7;\n";
  for (uint32_t i = 0; i < registers; ++i)
    text += "st.global.f32 [%rd8+" + std::to_string(4 * i) + "], %f" + std::to_string(i) + ";\n";
  return text;
}

// Operands of 64 (8 bits: 128) k, in memory as the 128-byte swizzle has them.
struct Operands {
  explicit Operands(uint32_t size) : size(size) {
    std::mt19937 random(size);
    for (uint32_t row = 0; row < 64 + columns; ++row)
      for (uint32_t k = 0; k < 128 / size; ++k) {
        const auto code = static_cast<uint16_t>(size == 1 ? random() % 64 : 0x3f00 + random() % 512);
        codes.push_back(code);
        const uint32_t at = row * 128 + ((k * size / 16) ^ row % 8) * 16 + k * size % 16;
        std::memcpy(bytes.data + at, &code, size);
      }
  }
  float value(uint32_t row, uint32_t k) const {
    const uint16_t code = codes[row * (128 / size) + k];
    return size == 1 ? e4m3_to_float(static_cast<uint8_t>(code)) : fp16 ? f16_to_float(code) : bf16_to_float(code);
  }
  // Sum of row m and column n.
  double sum(uint32_t m, uint32_t n, uint32_t depth) const {
    double result = 0;
    for (uint32_t k = 0; k < depth; ++k) result += double{value(m, k)} * double{value(64 + n, k)};
    return result;
  }
  uint32_t size;
  bool fp16 = false;
  std::vector<uint16_t> codes;
  Global<uint8_t> bytes{(64 + columns) * 128};
};

// As the ISA's figure of d: warp w has rows 16 w.., lane l row l / 4, register i column i / 4 * 8 + l % 4 * 2 + i % 2.
bool right(const Global<float>& out, const Operands& operands, double first, uint32_t depth) {
  for (uint32_t thread = 0; thread < 128; ++thread)
    for (uint32_t i = 0; i < registers; ++i) {
      const uint32_t m = thread / 32 * 16 + thread % 32 / 4 + (i & 2) * 4, n = i / 4 * 8 + thread % 4 * 2 + i % 2;
      const double expected = first + operands.sum(m, n, depth);
      if (!(std::abs(out.data[thread * registers + i] - expected) <= 1e-5 * std::abs(expected))) return false;
    }
  return true;
}

TEST_CASE("wgmma multiplies what lies in shared memory", "[unit]") {
  const CUtensorMap none{};
  Global<float> out(128 * registers);
  const bool accumulate = GENERATE(false, true);
  struct Case {
    const char *shape, *transposes;
    uint32_t size;
    bool fp16;
  };
  const auto one = GENERATE(Case{"m64n16k16.f32.bf16.bf16", ", 0, 0", 2, false},
                            Case{"m64n16k16.f32.f16.f16", ", 0, 0", 2, true},
                            Case{"m64n16k32.f32.e4m3.e4m3", "", 1, false});
  Operands operands(one.size);
  operands.fp16 = one.fp16;
  TestKernel kernel(operands_to_shared() + products(one.shape, one.transposes, accumulate) + wait + write_sums());
  for (uint64_t seed = 0; seed < 6; ++seed) {
    kernel.run(seed, none, operands.bytes.data, out.data, 128);
    REQUIRE(right(out, operands, accumulate ? 10 : 0, 128 / one.size));
  }
}

TEST_CASE("wgmma is not done before it is waited for", "[unit]") {
  const CUtensorMap none{};
  Operands operands(2);
  Global<float> out(128 * registers);
  const std::string begin = operands_to_shared() + products("m64n16k16.f32.bf16.bf16", ", 0, 0", false);
  TestKernel reads_early(begin + write_sums() + wait);
  TestKernel overwrites(begin + "bar.sync 0;\nst.volatile.shared.u32 [%r2], 0;\n" + wait + write_sums());
  TestKernel leaves_one(begin + "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 1;\n" + write_sums() +
                        wait);
  uint32_t early_wrong = 0, overwritten_wrong = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    reads_early.run(seed, none, operands.bytes.data, out.data, 128);
    early_wrong += !right(out, operands, 0, 64);
    overwrites.run(seed, none, operands.bytes.data, out.data, 128);
    overwritten_wrong += !right(out, operands, 0, 64);
    leaves_one.run(seed, none, operands.bytes.data, out.data, 128);
    REQUIRE(right(out, operands, 0, 64));
  }
  CHECK(early_wrong > 0);
  CHECK(overwritten_wrong > 0);
}

TEST_CASE("wgmma takes its first operand from registers", "[unit]") {
  const CUtensorMap none{};
  Operands operands(2);
  Global<float> out(128 * registers);
  // Of step 0: a0 row l / 4 and columns l % 4 * 2 and the next, a1 8 rows on, a2 and a3 8 columns on.
  std::string fragments =
      "shr.u32 %r20, %r1, 5;\nshl.b32 %r20, %r20, 11;\nand.b32 %r21, %r1, 31;\nshr.u32 %r22, %r21, 2;\n"
      "shl.b32 %r23, %r22, 7;\nadd.u32 %r20, %r20, %r23;\nand.b32 %r24, %r1, 3;\nshl.b32 %r24, %r24, 2;\n"
      "shl.b32 %r25, %r22, 4;\nadd.u32 %r26, %r20, %r25;\nadd.u32 %r26, %r26, %r24;\nxor.b32 %r27, %r25, 16;\n"
      "add.u32 %r27, %r27, %r20;\nadd.u32 %r27, %r27, %r24;\nld.shared.u32 %r30, [%r26];\n"
      "ld.shared.u32 %r31, [%r26+1024];\nld.shared.u32 %r32, [%r27];\nld.shared.u32 %r33, [%r27+1024];\n"
      "wgmma.fence.sync.aligned;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 " +
      list("%f", 0, registers) + ", {%r30, %r31, %r32, %r33}, %rd11, 1, 1, 1, 0;\nwgmma.commit_group.sync.aligned;\n";
  TestKernel kernel(operands_to_shared() + fragments + wait + write_sums());
  TestKernel overwrites(operands_to_shared() + fragments + "mov.u32 %r31, 0;\n" + wait + write_sums());
  uint32_t wrong = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    kernel.run(seed, none, operands.bytes.data, out.data, 128);
    REQUIRE(right(out, operands, 10, 16));
    overwrites.run(seed, none, operands.bytes.data, out.data, 128);
    wrong += !right(out, operands, 10, 16);
  }
  CHECK(wrong > 0);
}

TEST_CASE("wgmma: what a warpgroup must not do", "[unit]") {
  const CUtensorMap none{};
  Operands operands(2);
  Global<float> out(128 * registers);
  const std::string all = products("m64n16k16.f32.bf16.bf16", ", 0, 0", false) + wait;
  TestKernel differ(operands_to_shared() + "setp.gt.u32 %p3, %r1, 95;\n@%p3 mov.u64 %rd11, %rd10;\n" + all);
  CHECK_THAT(fault_of(differ, none, operands.bytes.data, out.data, 128), Contains("different wgmma"));
  TestKernel beyond(operands_to_shared() + "mov.b64 %rd11, 0x4000004000013fc0;\n" + all);
  CHECK_THAT(fault_of(beyond, none, operands.bytes.data, out.data, 128), Contains("beyond the shared memory"));
  std::string unfenced = operands_to_shared() + all;
  unfenced.erase(unfenced.find("fence.proxy.async"), std::string("fence.proxy.async.shared::cta;").size());
  TestKernel no_fence(unfenced);
  CHECK_THAT(fault_of(no_fence, none, operands.bytes.data, out.data, 128), Contains("fence.proxy.async"));
  TestKernel alone("mov.b64 %rd10, 0;\nmov.b64 %rd11, 0;\nsetp.eq.u32 %p2, %r1, %r1;\n" + all);
  CHECK_THAT(fault_of(alone, none, operands.bytes.data, out.data, 64), Contains("no whole warpgroup"));
  CHECK_THROWS_AS(TestKernel(products("m64n24k16.f32.bf16.bf16", ", 0, 0", false)), Fault);  // 12 registers
  CHECK_THROWS_AS(TestKernel(products("m64n16k8.f32.tf32.tf32", "", false)), Fault);
}

TEST_CASE("mma.sync multiplies fragments that ldmatrix loaded", "[unit]") {
  // a: 16 rows of 16 at 0, b: 8 columns of 16 k at 512, or 16 k of 8 columns; rows of 32 (b transposed: 16) bytes.
  const CUtensorMap none{};
  const bool transposed = GENERATE(false, true), fp16 = GENERATE(false, true);
  Global<uint16_t> x(16 * 16 + 8 * 16);
  Global<float> out(32 * 4);
  std::mt19937 random(9);
  for (size_t i = 0; i < x.size; ++i) x[i] = static_cast<uint16_t>(0x3c00 + random() % 512);
  const auto value = [&](size_t i) { return double{fp16 ? f16_to_float(x[i]) : bf16_to_float(x[i])}; };
  const std::string type = fp16 ? "f16.f16" : "bf16.bf16";
  TestKernel kernel(
      // 24 bytes each, in three pieces
      "mul.lo.u32 %r2, %r1, 24;\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd2, %rd5;\n"
      "ld.global.u64 %rd10, [%rd6];\nld.global.u64 %rd11, [%rd6+8];\nld.global.u64 %rd12, [%rd6+16];\n"
      "st.shared.u64 [%r2], %rd10;\nst.shared.u64 [%r2+8], %rd11;\nst.shared.u64 [%r2+16], %rd12;\nbar.sync 0;\n"
      // Row l % 16 of a, its half l / 16.
      "and.b32 %r3, %r1, 15;\nshl.b32 %r3, %r3, 5;\nshr.u32 %r4, %r1, 4;\nshl.b32 %r4, %r4, 4;\n"
      "add.u32 %r3, %r3, %r4;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r3];\n" +
      std::string(transposed ? "shl.b32 %r5, %r1, 4;\nand.b32 %r5, %r5, 255;\n"
                               "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r14, %r15, %r16, %r17}, [%r5+512];\n"
                             : "and.b32 %r5, %r1, 7;\nshl.b32 %r5, %r5, 5;\nshl.b32 %r6, %r1, 1;\n"
                               "and.b32 %r6, %r6, 16;\nadd.u32 %r5, %r5, %r6;\n"
                               "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r14, %r15, %r16, %r17}, [%r5+512];\n") +
      "mov.f32 %f4, 0f40400000;\nmma.sync.aligned.m16n8k16.row.col.f32." + type +
      ".f32 {%f0, %f1, %f2, %f3}, {%r10, %r11, %r12, %r13}, {%r14, %r15}, {%f4, %f4, %f4, %f4};\n"
      "mul.wide.u32 %rd7, %r1, 16;\nadd.s64 %rd8, %rd3, %rd7;\n"
      "st.global.v4.f32 [%rd8], {%f0, %f1, %f2, %f3};\n");
  kernel.run(1, none, x.data, out.data);
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t m = lane / 4 + i / 2 * 8, n = lane % 4 * 2 + i % 2;
      double sum = 3;
      for (uint32_t k = 0; k < 16; ++k)
        sum += value(m * 16 + k) * value(256 + (transposed ? k * 8 + n : n * 16 + k));
      REQUIRE(std::abs(out[lane * 4 + i] - sum) <= 1e-5 * sum);
    }
}

TEST_CASE("stmatrix writes what ldmatrix reads", "[unit]") {
  // Register i of lane l: 1000 i + 2 l and the next; matrix i at 128 i, written as 32 words.
  const CUtensorMap none{};
  Global<uint16_t> out(4 * 64);
  TestKernel kernel(
      "shl.b32 %r2, %r1, 1;\nadd.u32 %r3, %r2, 1;\nshl.b32 %r3, %r3, 16;\nor.b32 %r10, %r2, %r3;\n"
      "add.u32 %r11, %r10, 0x03e803e8;\nadd.u32 %r12, %r11, 0x03e803e8;\nadd.u32 %r13, %r12, 0x03e803e8;\n"
      "shl.b32 %r4, %r1, 4;\nstmatrix.sync.aligned.m8n8.x4.shared.b16 [%r4], {%r10, %r11, %r12, %r13};\n"
      "bar.sync 0;\nld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r4];\ncvt.u64.u32 %rd5, %r4;\n"
      "add.s64 %rd6, %rd2, %rd5;\nst.global.v4.u32 [%rd6], {%r20, %r21, %r22, %r23};\n");
  kernel.run(1, none, out.data, nullptr);
  for (uint32_t matrix = 0; matrix < 4; ++matrix)
    for (uint32_t e = 0; e < 64; ++e) REQUIRE(out[matrix * 64 + e] == matrix * 1000 + e);
  TestKernel unaligned("mov.u32 %r4, 8;\nstmatrix.sync.aligned.m8n8.x4.shared.b16 [%r4], {%r1, %r1, %r1, %r1};\n");
  CHECK_THAT(fault_of(unaligned, none, out.data, nullptr), Contains("16-byte aligned"));
}

}  // namespace
}  // namespace dgrt::emulator
