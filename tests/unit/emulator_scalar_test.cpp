// Instructions of single lanes on the emulator, against values worked out by hand from the PTX ISA.
#include <bit>
#include <limits>

#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

// What `body` leaves in %rd20. %rd11 to %rd13 hold a, b and c, %r11 and %f11 and so on their lower halves, %d11 the
// same as doubles, %h11 their lowest 16 bits.
uint64_t value_of(const std::string& body, uint64_t a, uint64_t b = 0, uint64_t c = 0) {
  Global<uint64_t> out(1), in(3);
  in[0] = a, in[1] = b, in[2] = c;
  std::string text = ".reg .f64 %d<32>;\n.reg .b16 %h<32>;\n";
  for (const std::string i : {"11", "12", "13"}) {
    text += "ld.global.u64 %rd" + i + ", [%rd3+" + std::to_string((i[1] - '1') * 8) + "];\ncvt.u32.u64 %r" + i +
            ", %rd" + i + ";\nmov.b32 %f" + i + ", %r" + i + ";\nmov.b64 %d" + i + ", %rd" + i + ";\ncvt.u16.u64 %h" +
            i + ", %rd" + i + ";\n";
  }
  TestKernel kernel(text + "mov.u64 %rd20, 0;\n" + body + "\nst.global.u64 [%rd2], %rd20;");
  kernel.run(0, CUtensorMap{}, out.data, in.data, 1);
  return out[0];
}

// `instr` writes %r20.
uint32_t value32(const std::string& instr, uint64_t a, uint64_t b = 0, uint64_t c = 0) {
  return static_cast<uint32_t>(value_of(instr + "; cvt.u64.u32 %rd20, %r20;", a, b, c));
}
// `instr` writes %f20 of %f11 to %f13.
float value_f32(const std::string& instr, float a, float b = 0, float c = 0) {
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  return std::bit_cast<float>(value32(instr + "; mov.b32 %r20, %f20", bits(a), bits(b), bits(c)));
}
// `instr` writes %p1.
bool holds(const std::string& instr, uint64_t a, uint64_t b, uint64_t c = 0) {
  return value32(instr + "; selp.u32 %r20, 1, 0, %p1", a, b, c) != 0;
}

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t one = 0x3f80'0000, minus_two = 0xc000'0000, nan = 0x7fc0'0000;

TEST_CASE("integers wrap around, and division by zero is all ones", "[unit]") {
  CHECK(value32("add.s32 %r20, %r11, %r12", 0xffff'ffff, 2) == 1);
  CHECK(value32("sub.s32 %r20, %r11, 7", 3) == 0xffff'fffc);
  CHECK(value32("mul.lo.s32 %r20, %r11, %r12", 0x8000'0001, 3) == 0x8000'0003);
  CHECK(value32("mul.hi.u32 %r20, %r11, %r12", 0xffff'ffff, 0xffff'ffff) == 0xffff'fffe);
  CHECK(value32("mul.hi.s32 %r20, %r11, %r12", 0xffff'ffff, 0xffff'ffff) == 0);
  CHECK(value32("mad.lo.s32 %r20, %r11, %r12, %r13", 5, 7, 0xffff'ffff) == 34);
  CHECK(value_of("mul.wide.s32 %rd20, %r11, %r12;", 0xffff'ffff, 5) == ~uint64_t{4});
  CHECK(value_of("mul.wide.u32 %rd20, %r11, -1;", 2) == 0x1'ffff'fffe);
  CHECK(value_of("mad.wide.u32 %rd20, %r11, %r12, %rd13;", 0xffff'ffff, 2, 1) == 0x1'ffff'ffff);
  CHECK(value32("div.s32 %r20, %r11, %r12", 0xffff'fff9, 2) == 0xffff'fffd);
  CHECK(value32("rem.s32 %r20, %r11, %r12", 0xffff'fff9, 2) == 0xffff'ffff);
  CHECK(value32("div.u32 %r20, %r11, %r12", 9, 0) == 0xffff'ffff);
  CHECK(value32("div.s32 %r20, %r11, %r12", 0x8000'0000, 0xffff'ffff) == 0x8000'0000);
  CHECK(value32("min.s32 %r20, %r11, %r12", 0xffff'ffff, 1) == 0xffff'ffff);
  CHECK(value32("min.u32 %r20, %r11, %r12", 0xffff'ffff, 1) == 1);
  CHECK(value32("abs.s32 %r20, %r11", 0xffff'fff6) == 10);
  CHECK(value32("sad.u32 %r20, %r11, %r12, %r13", 3, 10, 100) == 107);
  CHECK(value32("mul.wide.u16 %r20, %h11, %h12", 0xffff, 0xffff) == 0xfffe'0001);
}

TEST_CASE("bits are moved as the PTX ISA has them", "[unit]") {
  CHECK(value32("shl.b32 %r20, %r11, %r12", 1, 32) == 0);
  CHECK(value32("shr.s32 %r20, %r11, %r12", 0x8000'0000, 99) == 0xffff'ffff);
  CHECK(value32("shr.u32 %r20, %r11, %r12", 0x8000'0000, 31) == 1);
  CHECK(value32("shf.l.wrap.b32 %r20, %r11, %r12, %r13", 0x8000'0000, 1, 33) == 3);
  CHECK(value32("shf.r.wrap.b32 %r20, %r11, %r12, %r13", 0x8000'0000, 1, 31) == 3);
  CHECK(value32("shf.r.clamp.b32 %r20, %r11, %r12, %r13", 5, 6, 40) == 6);
  CHECK(value32("bfe.u32 %r20, %r11, 8, 4", 0xa5f00) == 0xf);
  CHECK(value32("bfe.s32 %r20, %r11, 8, 4", 0xa5f00) == 0xffff'ffff);
  CHECK(value32("bfi.b32 %r20, %r11, %r12, 4, 8", 0xab, 0xffff'ffff) == 0xffff'fabf);
  CHECK(value32("bfind.u32 %r20, %r11", 0x10) == 4);
  CHECK(value32("bfind.shiftamt.u32 %r20, %r11", 0x10) == 27);
  CHECK(value32("bfind.s32 %r20, %r11", 0xffff'ffef) == 4);
  CHECK(value32("bfind.u32 %r20, %r11", 0) == 0xffff'ffff);
  CHECK(value32("popc.b32 %r20, %r11", 0xf0f0) == 8);
  CHECK(value32("clz.b64 %r20, %rd11", 1) == 63);
  CHECK(value32("brev.b32 %r20, %r11", 0x8000'0005) == 0xa000'0001);
  CHECK(value32("prmt.b32 %r20, %r11, %r12, 0x0f71", 0x3322'1100, 0xff66'5544) == 0x00ff'ff11);
  CHECK(value32("lop3.b32 %r20, %r11, %r12, %r13, 0xe8", 0b1100, 0b1010, 0b1001) == 0b1000);
  CHECK(value32("slct.b32.s32 %r20, %r11, %r12, %r13", 1, 2, 0x8000'0000) == 2);
  CHECK(value_of("mov.b64 %rd20, {%r12, %r11};", 1, 2) == 0x1'0000'0002);
  CHECK(value32("mov.b64 {_, %r20}, %rd11", 0x5'0000'0002) == 5);
  CHECK(value32("{ .reg .b16 low, high; mov.b32 {low, high}, %r11; mov.b32 %r20, {high, low}; }", 0x1234'abcd) ==
        0xabcd'1234);
  CHECK(value_of("{ .reg .b128 both; .reg .b64 low; mov.b128 both, {%rd11, %rd12}; mov.b128 {low, %rd20}, both; }", 7,
                 8) == 8);
}

TEST_CASE("floats: one NaN, signed zeros, no fused sums that are not asked for", "[unit]") {
  CHECK(value32("add.f32 %f20, %f11, %f12; mov.b32 %r20, %f20", nan, one) == 0x7fff'ffff);
  CHECK(value_f32("max.f32 %f20, %f11, %f12", not_a_number, -3.0f) == -3.0f);
  CHECK(std::isnan(value_f32("max.NaN.f32 %f20, %f11, %f12", not_a_number, -3.0f)));
  CHECK(std::signbit(value_f32("min.f32 %f20, %f11, %f12", 0.0f, -0.0f)));
  CHECK_FALSE(std::signbit(value_f32("max.f32 %f20, %f11, %f12", -0.0f, 0.0f)));
  const float x = 1 + 0x1p-12f;
  CHECK(value_f32("fma.rn.f32 %f20, %f11, %f12, %f13", x, x, -1 - 0x1p-11f) == 0x1p-24f);
  CHECK(value_f32("mul.f32 %f20, %f11, %f12; add.f32 %f20, %f20, %f13", x, x, -1 - 0x1p-11f) == 0.0f);
  CHECK(value_f32("ex2.approx.ftz.f32 %f20, %f11", -3.0f) == 0.125f);
  CHECK(value_f32("ex2.approx.ftz.f32 %f20, %f11", -130.0f) == 0.0f);
  CHECK(value_f32("ex2.approx.f32 %f20, %f11", -130.0f) == 0x1p-130f);
  CHECK(value_f32("lg2.approx.ftz.f32 %f20, %f11", 0.0f) == -infinity);
  CHECK(value_f32("rcp.approx.ftz.f32 %f20, %f11", 0x1p-130f) == infinity);
  CHECK(value_f32("div.rn.f32 %f20, %f11, %f12", 1.0f, 3.0f) == 1.0f / 3.0f);
  CHECK(value_f32("add.sat.f32 %f20, %f11, %f12", 1.0f, 3.0f) == 1.0f);
  CHECK(value_f32("copysign.f32 %f20, %f11, %f12", -1.0f, 3.0f) == -3.0f);
  CHECK(value_f32("mov.f32 %f20, 0fC0400000", 0) == -3.0f);
  CHECK(value_f32("mul.f32 %f20, %f11, 0.5", 3) == 1.5f);
  CHECK(value_of("fma.rn.f64 %d20, %d11, 0d4000000000000000, %d12; mov.b64 %rd20, %d20;", std::bit_cast<uint64_t>(1.5),
                 std::bit_cast<uint64_t>(0.25)) == std::bit_cast<uint64_t>(3.25));
  CHECK(value32("max.NaN.xorsign.abs.bf16x2 %r20, %r11, %r12", 0x3f80'c000, 0xbf00'3f80) == 0xbf80'c000);
  CHECK(value32("add.f16x2 %r20, %r11, %r12", 0x3c00'7bff, 0x3c00'7bff) == 0x4000'7c00);
}

TEST_CASE("comparisons, ordered and not, combined and with their opposite", "[unit]") {
  CHECK(holds("setp.lt.s32 %p1, %r11, %r12", 0xffff'ffff, 0));
  CHECK_FALSE(holds("setp.lt.u32 %p1, %r11, %r12", 0xffff'ffff, 0));
  CHECK_FALSE(holds("setp.ne.f32 %p1, %f11, %f12", nan, one));
  CHECK(holds("setp.neu.f32 %p1, %f11, %f12", nan, one));
  CHECK(holds("setp.gtu.f32 %p1, %f11, %f12", nan, one));
  CHECK_FALSE(holds("setp.gt.f32 %p1, %f11, %f12", minus_two, one));
  CHECK(holds("setp.nan.f32 %p1, %f11, %f12", nan, one));
  CHECK(holds("setp.num.f32 %p1, %f11, %f12", minus_two, one));
  CHECK_FALSE(holds("setp.eq.u32 %p2, %r13, 1; setp.eq.and.u32 %p1, %r11, %r12, %p2", 4, 4, 0));
  CHECK(holds("setp.eq.u32 %p2, %r13, 1; setp.eq.or.u32 %p1, %r11, %r12, %p2", 4, 5, 1));
  CHECK(holds("setp.lt.s32 %p2|%p1, %r11, %r12", 6, 5));
  CHECK(holds("mov.pred %p1, -1", 0, 0));
  CHECK(holds("setp.eq.u32 %p2, %r11, 1; not.pred %p1, %p2", 0, 0));
}

TEST_CASE("conversions round, saturate and fill wider registers", "[unit]") {
  CHECK(value_of("cvt.s64.s32 %rd20, %r11;", 0xffff'fff0) == ~uint64_t{15});
  CHECK(value_of("cvt.u64.u16 %rd20, %h11;", 0xffff) == 0xffff);
  CHECK(value32("cvt.s16.s8 %h20, %h11; cvt.u32.u16 %r20, %h20", 0x80) == 0xff80);
  CHECK(value32("cvt.s32.s8 %r20, %r11", 0x1ff) == 0xffff'ffff);
  CHECK(value32("cvt.rzi.s32.f32 %r20, %f11", 0xc02c'cccd) == 0xffff'fffe);  // -2.7
  CHECK(value32("cvt.rni.s32.f32 %r20, %f11", 0x4020'0000) == 2);            // 2.5
  CHECK(value32("cvt.rzi.u32.f32 %r20, %f11", minus_two) == 0);
  CHECK(value32("cvt.rzi.s32.f32 %r20, %f11", 0x5000'0000) == 0x7fff'ffff);
  CHECK(value32("cvt.rzi.s32.f32 %r20, %f11", nan) == 0);
  CHECK(value_f32("cvt.rn.f32.u32 %f20, 16777217", 0) == 16777216.0f);
  CHECK(value_f32("cvt.rni.f32.f32 %f20, %f11", 3.5f) == 4.0f);
  CHECK(value32("cvt.rn.bf16x2.f32 %r20, %f11, %f12", 0x3f80'8000, 0x3f81'8000) == 0x3f80'3f82);  // to even
  CHECK(value32("cvt.rn.f16x2.f32 %r20, %f11, %f12", 0x4780'0000, minus_two) == 0x7c00'c000);     // 65536: infinite
  CHECK(value32("cvt.rn.satfinite.e4m3x2.f32 %h20, %f11, %f12; cvt.u32.u16 %r20, %h20", 0x4480'0000, minus_two) ==
        0x7ec0);  // 1024: 448
  CHECK(value32("cvt.rn.satfinite.e4m3x2.f32 %h20, %f11, %f12; cvt.u32.u16 %r20, %h20", 0x3b00'0000, nan) ==
        0x017f);  // 2^-9, the smallest
  CHECK(value32("cvt.rn.f16x2.e4m3x2 %r20, %h11", 0x7ec0) == 0x5f00'c000);
  CHECK(value_f32("cvt.f32.f16 %f20, %h11", std::bit_cast<float>(0x0001u)) == 0x1p-24f);
  CHECK(value32("cvt.rna.tf32.f32 %r20, %f11", 0x3f80'1000) == 0x3f80'2000);
}

TEST_CASE("loads and stores of every width, and sign extension into the register", "[unit]") {
  CHECK(value_of("st.shared.u32 [4], %r11; ld.shared.s32 %rd20, [4];", 0x8000'0000) == 0xffff'ffff'8000'0000);
  CHECK(value_of("st.shared.u32 [4], %r11; ld.shared.u32 %rd20, [4];", 0x8000'0000) == 0x8000'0000);
  CHECK(value32("st.shared.b32 [dynamic+8], %r11; ld.shared.u8 %r20, [dynamic+9]", 0x1234) == 0x12);
  CHECK(value32("st.shared.v4.b32 [16], {%r11, %r12, %r13, %r12}; ld.shared.v2.u32 {%r21, %r20}, [24]", 1, 2, 3) == 2);
  CHECK(value32("mov.u64 %rd20, dynamic; cvta.shared.u64 %rd21, %rd20; st.u16 [%rd21+2], %h11; ld.shared.u32 %r20, [0]",
                0x1234) == 0x1234'ffff);
  CHECK(value32("ld.param.u32 %r20, [x+4]; ld.param.v2.u32 {%r21, %r22}, [x]; sub.u32 %r20, %r20, %r22", 0) == 0);
}

TEST_CASE("atomics return what was there", "[unit]") {
  const auto after = [](const std::string& instr, uint64_t old, uint64_t b, uint64_t c = 0) {
    return value_of("st.shared.b64 [8], %rd11;" + instr + "; ld.shared.u64 %rd20, [8];", old, b, c);
  };
  CHECK(after("atom.shared.add.u32 %r20, [8], %r12", 5, 6) == 11);
  CHECK(value32("st.shared.b64 [8], %rd11; atom.shared.add.u32 %r20, [8], %r12", 5, 6) == 5);
  CHECK(after("atom.shared.inc.u32 %r20, [8], %r12", 6, 6) == 0);
  CHECK(after("atom.shared.dec.u32 %r20, [8], %r12", 0, 6) == 6);
  CHECK(after("atom.shared.cas.b32 %r20, [8], %r12, %r13", 5, 5, 9) == 9);
  CHECK(after("atom.shared.cas.b32 %r20, [8], %r12, %r13", 5, 6, 9) == 5);
  CHECK(after("atom.shared.exch.b64 %rd21, [8], %rd12", 5, 6) == 6);
  CHECK(after("atom.shared.min.u64 %rd21, [8], %rd12", ~uint64_t{0}, 6) == 6);
  CHECK(after("red.shared.max.s32 [8], %r12", 0xffff'ffff, 3) == 3);
  CHECK(after("red.shared.add.f32 [8], %f12", one, minus_two) == 0xbf80'0000);
  CHECK(value_of("st.shared.b64 [16], %rd11; st.shared.b64 [24], %rd12;\n{ .reg .b128 old, to; mov.b128 old, {%rd11, "
                 "%rd12}; mov.b128 to, {%rd13, %rd11}; atom.shared.cas.b128 old, [16], old, to; }\nld.shared.u64 "
                 "%rd20, [16];",
                 1, 2, 3) == 3);
}

}  // namespace
}  // namespace dgrt::emulator
