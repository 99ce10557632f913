// The references that judge quant_fp8, scale_layout and scale_pack_ue8m0: right results pass, and each way of being
// wrong is named.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "gemm/sm90_scale_pack_ue8m0.cuh"  // interface half: ue8m0_code()
#include "tests/support/catch.h"
#include "tools/lib/lab_input_ops_check.h"
#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

// Operands of a quant_fp8 call with its right result: 130 x 200, so tails in both directions.
struct QuantSample {
  dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
  dgrt_quant_fp8_args args = DGRT_QUANT_FP8_ARGS;
  std::vector<uint16_t> x;
  std::vector<uint8_t> q;
  std::vector<uint32_t> scale;

  QuantSample(dgrt_quant_block block, dgrt_major major) {
    desc.k = 200, desc.max_m = 130, desc.block = block, desc.scale_major = major;
    args.m = 130, args.ldx = 208, args.ldq = 224, args.ld_scale = 132;
    x.assign(130 * 208, 0x7fc0);
    q.assign(130 * 224, 0xff);
    scale.assign(130 * 132, 0xffffffff);
    for (int64_t row = 0; row < 130; ++row)
      for (int64_t col = 0; col < 200; ++col)
        x[row * 208 + col] = float_to_bf16(static_cast<float>((row * 37 + col * 11) % 101 - 50));
    const int64_t block_m = block == DGRT_QUANT_1X128 ? 1 : 128;
    for (int64_t row = 0; row < 130; row += block_m)
      for (int64_t col = 0; col < 200; col += 128) fill_block(row, col, block_m);
  }
  uint32_t& scale_at(int64_t m_block, int64_t k_block) {
    return scale[desc.scale_major == DGRT_K_MAJOR ? m_block * 132 + k_block
                                                  : k_block * 132 + m_block];
  }
  Status check() const { return check_quant_fp8(desc, args, x, q, scale); }

 private:
  void fill_block(int64_t first_row, int64_t first_col, int64_t block_m) {
    QuantModel model;
    const auto for_each = [&](const auto& body) {
      for (int64_t row = first_row; row < std::min<int64_t>(130, first_row + block_m); ++row)
        for (int64_t col = first_col; col < std::min<int64_t>(200, first_col + 128); ++col)
          body(row, col);
    };
    for_each([&](int64_t row, int64_t col) { model.add(x[row * 208 + col]); });
    const float value = model.scale();
    std::memcpy(&scale_at(first_row / block_m, first_col / 128), &value, sizeof(value));
    for_each([&](int64_t row, int64_t col) {
      q[row * 224 + col] = QuantModel::quantise(x[row * 208 + col], 1.0f / value);
    });
  }
};

void check_named(const Status& status, const char* word) {
  INFO(status.message());
  CHECK(status.code() == DGRT_INTERNAL);
  CHECK(status.message().find(word) != std::string::npos);
}

}  // namespace

TEST_CASE("input ops check: quant_fp8, right in every layout, each wrong byte named", "[unit]") {
  for (const dgrt_quant_block block : {DGRT_QUANT_1X128, DGRT_QUANT_128X128})
    for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR}) {
      const QuantSample right(block, major);
      INFO("block " << block << " major " << major << ": " << right.check().message());
      CHECK(right.check().is_ok());
      QuantSample wrong = right;
      wrong.q[129 * 224 + 199] ^= 1;
      check_named(wrong.check(), "q(129, 199)");
      wrong = right;
      wrong.q[129 * 224 + 200] = 0;  // between k and the next row
      check_named(wrong.check(), "q(129, 200) is outside");
      wrong = right;
      wrong.scale_at(1, 1) ^= 1;
      check_named(wrong.check(), block == DGRT_QUANT_1X128 ? "(1, 128)" : "(128, 128)");
      wrong = right;
      wrong.scale_at(0, 0) = 0xffffffff;  // not written
      check_named(wrong.check(), "(0, 0)");
      wrong = right;
      wrong.scale.back() = 0;
      check_named(wrong.check(), "scale[17159] is outside");
      wrong = right;
      wrong.q.resize(wrong.q.size() + 3, 0xff);  // room after the last row
      CHECK(wrong.check().is_ok());
      wrong.q.back() = 0;
      check_named(wrong.check(), "q(130, 2) is outside");
    }
}

TEST_CASE("input ops check: quant_fp8, NaN in x asks for NaN, not for memory as it was", "[unit]") {
  QuantSample sample(DGRT_QUANT_1X128, DGRT_K_MAJOR);
  sample.x[3 * 208 + 5] = 0x7fc0;
  check_named(sample.check(), "(3, 0)");
  sample.scale_at(3, 0) = 0x7fffffff;
  for (int64_t col = 0; col < 128; ++col) sample.q[3 * 224 + col] = 0x7f;
  CHECK(sample.check().is_ok());
  sample.q[3 * 224 + 127] = 0xff;
  check_named(sample.check(), "q(3, 127)");
}

TEST_CASE("input ops check: scale_layout, zeros up to the next 4 rows and nothing else", "[unit]") {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  dgrt_scale_layout_args args = DGRT_SCALE_LAYOUT_ARGS;
  desc.k_blocks = 3;
  args.m = 5, args.ld_src = 4, args.ld_dst = 12;
  std::vector<uint32_t> src(5 * 4), right(3 * 12 + 1, 0xffffffff);
  for (uint32_t i = 0; i < src.size(); ++i) src[i] = 0x7fc00000 + i;
  for (int64_t k_block = 0; k_block < 3; ++k_block)
    for (int64_t row = 0; row < 8; ++row)
      right[k_block * 12 + row] = row < 5 ? src[row * 4 + k_block] : 0;
  CHECK(check_scale_layout(desc, args, src, right).is_ok());
  for (const size_t at : {0, 28, 31, 32, 36}) {  // first, last, zero, untouched, past the end
    std::vector<uint32_t> wrong = right;
    wrong[at] ^= 1;
    check_named(check_scale_layout(desc, args, src, wrong),
                fmt::format("dst[{} * ld_dst + {}]", at / 12, at % 12).c_str());
  }
}

TEST_CASE("input ops check: scale_layout, MN-major source and groups with room between", "[unit]") {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  dgrt_scale_layout_args args = DGRT_SCALE_LAYOUT_ARGS;
  desc.k_blocks = 2, desc.num_groups = 3, desc.src_major = DGRT_MN_MAJOR;
  args.m = 5, args.ld_src = 6, args.ld_dst = 8;
  args.group_stride_src = 13, args.group_stride_dst = 20;
  std::vector<uint32_t> src(3 * 13), right(3 * 20, 0xffffffff);
  for (uint32_t i = 0; i < src.size(); ++i) src[i] = 1000 + i;
  for (int64_t group = 0; group < 3; ++group)
    for (int64_t k_block = 0; k_block < 2; ++k_block)
      for (int64_t row = 0; row < 8; ++row)
        right[group * 20 + k_block * 8 + row] = row < 5 ? 1000 + group * 13 + k_block * 6 + row : 0;
  CHECK(check_scale_layout(desc, args, src, right).is_ok());
  for (const size_t at : {0, 36, 45, 59}) {
    std::vector<uint32_t> wrong = right;
    wrong[at] ^= 1;
    check_named(check_scale_layout(desc, args, src, wrong),
                fmt::format("dst[{} * ld_dst + {}] of group {}", at % 20 / 8, at % 20 % 8, at / 20)
                    .c_str());
  }
}

TEST_CASE("input ops check: UE8M0 codes, by value and as the kernel computes them", "[unit]") {
  namespace k90 = sm90::scale_pack_ue8m0;
  const auto check_codes = [](float value, uint32_t exact, uint32_t up) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    INFO(fmt::format("{:#010x}", bits));
    CHECK(ue8m0_of(value, false) == exact);
    CHECK(ue8m0_of(value, true) == up);
    CHECK(k90::ue8m0_code(bits, false) == exact);
    CHECK(k90::ue8m0_code(bits, true) == up);
  };
  for (int power = -127; power <= 127; ++power) {
    const float value = std::ldexp(1.0f, power);
    const uint32_t code = static_cast<uint32_t>(power + 127);
    check_codes(value, code, code);
    check_codes(std::nextafter(value, INFINITY), 0xff, code + 1);
    check_codes(std::nextafter(value, 0.0f), 0xff, code);
    check_codes(-value, 0xff, 0xff);
  }
  check_codes(0.0f, 0, 0);
  check_codes(-0.0f, 0xff, 0xff);
  check_codes(0x1p-128f, 0xff, 0);  // a power of two below the smallest code
  check_codes(0x1p-149f, 0xff, 0);
  check_codes(INFINITY, 0xff, 0xff);
  check_codes(NAN, 0xff, 0xff);
}

TEST_CASE("input ops check: scale_pack_ue8m0, words of uneven groups and nothing else", "[unit]") {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  dgrt_scale_pack_ue8m0_args args = DGRT_SCALE_PACK_UE8M0_ARGS;
  desc.k_blocks = 16, desc.num_groups = 4, desc.src_major = DGRT_MN_MAJOR;
  desc.flags = DGRT_SCALE_K_GROUPED, desc.gran_k = 128;
  args.m = 2, args.ld_src = 3, args.ld_dst = 8, args.k_blocks = 8;
  const std::vector<int32_t> ks = {640, 0, 129, 128};  // 5, 0, 2, 1 blocks: 2, 0, 1, 1 words
  std::vector<uint32_t> src(8 * 3, 0x7fc00000), right(5 * 8, 0xffffffff);
  for (uint32_t k = 0; k < 8; ++k) src[k * 3] = (k + 1) << 23, src[k * 3 + 1] = 0x3fc00000;
  const std::vector<std::vector<uint32_t>> want = {
      {0x04030201, 0xffffffff}, {5, 0xff}, {0x0706, 0xffff}, {8, 0xff}};
  for (size_t word = 0; word < want.size(); ++word)
    for (size_t row = 0; row < 4; ++row) right[word * 8 + row] = row < 2 ? want[word][row] : 0;
  const Status status = check_scale_pack(desc, args, ks, src, right);
  INFO(status.message());
  CHECK(status.is_ok());
  for (const size_t at : {0, 9, 18, 26, 28, 32}) {  // values, zeros, untouched, a word too many
    std::vector<uint32_t> wrong = right;
    wrong[at] ^= 1;
    check_named(check_scale_pack(desc, args, ks, src, wrong),
                fmt::format("dst[{} * ld_dst + {}]", at / 8, at % 8).c_str());
  }
  CHECK(sm90::scale_pack_ue8m0::max_group_words(8, 4) == 5);
  CHECK(sm90::scale_pack_ue8m0::max_group_words(2, 4) == 2);
  CHECK(sm90::scale_pack_ue8m0::max_group_words(0, 4) == 0);
  CHECK(sm90::scale_pack_ue8m0::max_group_words(9, 1) == 3);
}

}  // namespace dgrt::lab
