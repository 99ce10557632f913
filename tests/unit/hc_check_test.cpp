// The checks that judge hc_prenorm and its weights: right results pass, each way of being wrong is
// named.
#include <bit>
#include <cmath>
#include <vector>

#include "tests/support/catch.h"
#include "tools/lib/lab_hc_check.h"

namespace dgrt::lab {
namespace {

// 2 splits of 70 rows with n = 4, rows and splits padded; z of row i is i + 1, 2, 3, -4.
struct Sample {
  dgrt_hc_prenorm_desc desc = DGRT_HC_PRENORM_DESC;
  dgrt_hc_prenorm_args args = DGRT_HC_PRENORM_ARGS;
  std::vector<double> want;
  std::vector<float> z, q;

  Sample() {
    const float unwritten = std::bit_cast<float>(0xffffffff);
    desc.n = 4, desc.k = 128;
    args.m = 70, args.num_splits = 2, args.ldz = 8, args.z_split_stride = 600;
    args.q_split_stride = 72;
    z.assign(2 * 600, unwritten), q.assign(2 * 72 + 1, unwritten);
    for (int64_t split = 0; split < 2; ++split)
      for (int64_t row = 0; row < 70; ++row) {
        const double values[] = {row + 1.0, 2, 3, -4, 30};
        want.insert(want.end(), values, values + 5);
        for (int64_t j = 0; j < 4; ++j)
          z[split * 600 + row * 8 + j] = static_cast<float>(values[j]);
        q[split * 72 + row] = 30;
      }
  }
  Result<HcError> check() const { return check_hc_prenorm(desc, args, want, z, q); }
  void refused(const char* text) const {
    const Result<HcError> result = check();
    REQUIRE(!result.is_ok());
    INFO("expected " << text << ", got " << result.status().message());
    CHECK(result.status().code() == DGRT_INTERNAL);
    CHECK(result.status().message().find(text) != std::string::npos);
  }
};

}  // namespace

TEST_CASE("hc check: a right result passes, a wrong one is named", "[unit]") {
  const Sample right;
  const Result<HcError> result = right.check();
  INFO(result.status().message());
  REQUIRE(result.is_ok());
  CHECK(result.value().checked == 2 * 70 * 5);
  CHECK(result.value().worst_tile <= 1e-15);
  Sample wrong = right;
  wrong.z[600 + 69 * 8 + 3] = -4.01f;  // in the last rows of the second split
  wrong.refused("limits");
  wrong = right;
  wrong.q[72 + 69] = 30.001f;
  wrong.refused("limits");
  wrong = right;
  wrong.z[5 * 8] = std::bit_cast<float>(0xffffffff);  // left as it was
  wrong.refused("z: split 0, row 5, column 0");
  wrong = right;
  wrong.z[70 * 8] = 0;
  wrong.refused("z[560] is outside");
  wrong = right;
  wrong.z[4] = 0;
  wrong.refused("z[4] is outside");
  wrong = right;
  wrong.q[71] = 0;
  wrong.refused("q[71] is outside");
  wrong = right;
  wrong.q[144] = 0;
  wrong.refused("q[144] is outside");
}

TEST_CASE("hc check: what is not finite must stay so", "[unit]") {
  Sample sample;
  sample.want[3] = -INFINITY, sample.want[4] = INFINITY;
  sample.refused("z: split 0, row 0, column 3");
  sample.z[3] = NAN;
  sample.refused("q: split 0, row 0");
  sample.q[0] = NAN;
  sample.refused("q: split 0, row 0");  // an infinity stays one
  sample.q[0] = INFINITY;
  CHECK(sample.check().is_ok());
  sample.z[8] = INFINITY;
  sample.refused("z: split 0, row 1, column 0");
}

TEST_CASE("hc check: weights, byte for byte", "[unit]") {
  dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
  desc.n = 4, desc.k = 64;
  std::vector<float> f(4 * 68, NAN);
  std::vector<uint16_t> w(16 * 64, 0);
  for (int64_t row = 0; row < 4; ++row)
    for (int64_t k = 0; k < 64; ++k) f[row * 68 + k] = 0;
  const auto set = [&](int64_t k, float value, uint16_t high, uint16_t low) {
    f[68 + k] = value, w[64 + k] = high, w[9 * 64 + k] = low;
  };
  set(0, 1.0f + 0x1p-9f, 0x3f80, 0x3b00);  // halfway: to even, the rest is 2^-9
  set(1, 3.4028235e38f, 0x7f7f, 0x7b80);   // nearest would be infinite
  set(2, -INFINITY, 0xff80, 0);
  set(3, NAN, 0x7fff, 0);
  set(4, -3.0f, 0xc040, 0);
  const Status right = check_hc_prenorm_weights(desc, 68, f, w);
  INFO(right.message());
  CHECK(right.is_ok());
  for (const size_t at : {size_t{64}, size_t{9 * 64 + 1}, size_t{5 * 64}, size_t{15 * 64 + 63}}) {
    std::vector<uint16_t> wrong = w;
    wrong[at] ^= 1;
    const Status status = check_hc_prenorm_weights(desc, 68, f, wrong);
    CHECK(status.message().find(fmt::format("w({}, {})", at / 64, at % 64)) == 0);
  }
}

}  // namespace dgrt::lab
