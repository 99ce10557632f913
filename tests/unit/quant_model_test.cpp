// The CPU model that judges quant_fp8, against values worked out by hand from the e4m3 format.
#include <limits>

#include "tests/support/catch.h"
#include "tools/lib/lab_quant_model.h"

namespace dgrt::lab {
namespace {

// Value of a code by the definition of the format.
float e4m3_value(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                   : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return code & 0x80 ? -size : size;
}

}  // namespace

TEST_CASE("quant model: each finite e4m3 code survives, ties go to the even code", "[unit]") {
  for (int code = 0; code < 0x7f; ++code) {
    const float value = e4m3_value(static_cast<uint8_t>(code));
    CHECK(float_to_e4m3(value) == code);
    CHECK(float_to_e4m3(-value) == (code | 0x80));
    if (code == 0x7e) continue;
    const float next = e4m3_value(static_cast<uint8_t>(code + 1)), middle = (value + next) / 2;
    CHECK(float_to_e4m3(middle) == (code % 2 == 0 ? code : code + 1));
    CHECK(float_to_e4m3(std::nextafter(middle, 0.0f)) == code);
    CHECK(float_to_e4m3(std::nextafter(middle, 1000.0f)) == code + 1);
  }
}

TEST_CASE("quant model: golden values", "[unit]") {
  CHECK(float_to_e4m3(0.0f) == 0x00);
  CHECK(float_to_e4m3(-0.0f) == 0x80);
  CHECK(float_to_e4m3(1.0f) == 0x38);
  CHECK(float_to_e4m3(448.0f) == 0x7e);
  CHECK(float_to_e4m3(1e30f) == 0x7e);
  CHECK(float_to_e4m3(-std::numeric_limits<float>::infinity()) == 0xfe);
  CHECK(float_to_e4m3(std::numeric_limits<float>::quiet_NaN()) == 0x7f);
  CHECK(float_to_e4m3(std::ldexp(1.0f, -10)) == 0x00);  // tie between 0 and the smallest code
  CHECK(float_to_e4m3(std::ldexp(1.5f, -10)) == 0x01);

  CHECK(float_to_bf16(1.0f) == 0x3f80);
  CHECK(float_to_bf16(1.00390625f) == 0x3f80);  // tie to even
  CHECK(float_to_bf16(1.01171875f) == 0x3f82);  // tie to even
}

TEST_CASE("quant model: scales", "[unit]") {
  QuantModel zeros;
  zeros.add(0x0000);
  CHECK(zeros.scale() == 1e-4f / 448.0f);
  CHECK(QuantModel::quantise(0x8000, 1.0f / zeros.scale()) == 0x80);

  QuantModel model;
  for (const float value : {0.5f, -3.0f, 2.0f}) model.add(float_to_bf16(value));
  CHECK(model.scale() == 3.0f / 448.0f);
  CHECK(QuantModel::quantise(float_to_bf16(-3.0f), 1.0f / model.scale()) == 0xfe);

  QuantModel infinite;
  infinite.add(0xff80);
  infinite.add(0x3f80);
  CHECK(std::isinf(infinite.scale()));
  CHECK(QuantModel::quantise(0x3f80, 1.0f / infinite.scale()) == 0x00);
  CHECK(QuantModel::quantise(0xff80, 1.0f / infinite.scale()) == 0x7f);

  infinite.add(0x7fc0);
  infinite.add(0x3f80);
  CHECK(std::isnan(infinite.scale()));
  CHECK(QuantModel::quantise(0x3f80, 1.0f / infinite.scale()) == 0x7f);
}

}  // namespace dgrt::lab
