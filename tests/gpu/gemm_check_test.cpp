// What the check of products takes for right, and what for wrong: d is computed on the host as the tensor core does,
// and then damaged.
#include "tools/lib/lab_gemm_check.h"

#include <cmath>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

// Of gemm_batched_fp8's small sizes the second product: sums cancel in the corner of 8 rows and 1 column.
constexpr int64_t m = 72, n = 129, k = 136, lda = 176, ldb = 192, ld_a_scale = 112, ld_b_scale = 5;
constexpr lab::GemmTile corner{64, 128}, whole{0, 0};

double e4m3_value(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return code & 0x80 ? -size : size;
}

// Cuts products and a sum off 13 bits below the first bit of the largest, and adds them up.
double add_truncated(const double (&products)[32], double sum) {
  double largest = std::fabs(sum);
  for (const double product : products) largest = std::max(largest, std::fabs(product));
  if (largest == 0) return 0;
  const double unit = std::ldexp(1.0, std::ilogb(largest) - 13);
  double result = std::trunc(sum / unit);
  for (const double product : products) result += std::trunc(product / unit);
  return result * unit;
}

class Product {
 public:
  explicit Product(const Gpu& gpu) : gpu_(gpu) {
    a_ = make(3 * m * lda), b_ = make(3 * n * ldb);
    a_scale_ = make(3 * 2 * ld_a_scale * 4), b_scale_ = make(3 * 2 * ld_b_scale * 4), d_ = make(m * n * 4);
    require(lab::fill_normal_e4m3(*gpu.lab, a_.data(), a_.bytes(), 11));
    require(lab::fill_normal_e4m3(*gpu.lab, b_.data(), b_.bytes(), 12));
    require(lab::fill_scales(*gpu.lab, a_scale_.as<float>(), a_scale_.bytes() / 4, 14));
    require(lab::fill_scales(*gpu.lab, b_scale_.as<float>(), b_scale_.bytes() / 4, 15));
    require(gpu.lab->synchronize());
    a_values_ = values<uint8_t>(a_), b_values_ = values<uint8_t>(b_);
    a_scales_ = values<float>(a_scale_), b_scales_ = values<float>(b_scale_);
  }

  // An element of d, of the terms in [0, end_k).
  float element(int64_t row, int64_t col, int64_t end_k = k) const {
    float result = 0;
    for (int64_t block = 0; block < (end_k + 127) / 128; ++block) {
      double sum = 0;
      for (int64_t first = block * 128; first < std::min(end_k, (block + 1) * 128); first += 32) {
        double products[32] = {};
        for (int64_t i = first; i < std::min(end_k, first + 32); ++i)
          products[i - first] =
              e4m3_value(a_values_[(m + row) * lda + i]) * e4m3_value(b_values_[(n + col) * ldb + i]);
        sum = add_truncated(products, sum);
      }
      const float scale = a_scales_[(2 + block) * ld_a_scale + row] *
                          b_scales_[(2 + col / 128) * ld_b_scale + block];
      result += static_cast<float>(sum) * scale;
    }
    return result;
  }

  // Of one tile of d.
  lab::GemmError check(const std::vector<float>& d, lab::GemmTile tile) const {
    require(d_.upload(d.data(), d_.bytes()));
    const Result<lab::GemmError> error = lab::check_gemm(*gpu_.lab, product(), {tile});
    require(error.status());
    return error.value();
  }
  lab::GemmProduct product() const {
    lab::GemmProduct p{};
    p.dtype_ab = DGRT_E4M3, p.dtype_d = DGRT_FP32, p.scale_mode = DGRT_SCALE_BLOCK;
    p.m = m, p.n = n, p.k = k;
    p.a = a_.as<uint8_t>() + m * lda, p.b = b_.as<uint8_t>() + n * ldb, p.d = d_.data();
    p.a_row = lda, p.a_k = 1, p.b_row = ldb, p.b_k = 1, p.ldd = n;
    p.a_scale = a_scale_.as<float>() + 2 * ld_a_scale, p.b_scale = b_scale_.as<float>() + 2 * ld_b_scale;
    p.a_scale_row = 1, p.a_scale_k = ld_a_scale, p.b_scale_row = ld_b_scale, p.b_scale_k = 1;
    return p;
  }

 private:
  static void require(const Status& status) {
    INFO(status.message());
    REQUIRE(status.is_ok());
  }
  lab::DeviceBuffer make(size_t bytes) const {
    Result<lab::DeviceBuffer> buffer = lab::DeviceBuffer::make(*gpu_.lab, bytes);
    require(buffer.status());
    return std::move(buffer.value());
  }
  template <class T>
  static std::vector<T> values(const lab::DeviceBuffer& buffer) {
    const Result<std::vector<T>> result = buffer.download_all<T>();
    require(result.status());
    return result.value();
  }

  const Gpu& gpu_;
  lab::DeviceBuffer a_, b_, a_scale_, b_scale_, d_;
  std::vector<uint8_t> a_values_, b_values_;
  std::vector<float> a_scales_, b_scales_;
};

// The tensor core's truncation passes, one wrong element of a tile of few or of many does not.
TEST_CASE("check of products: tiles of few elements", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("check of products: tiles of few elements");
  if (!gpu) return;
  const Product product(*gpu);
  std::vector<float> right;
  for (int64_t row = 0; row < m; ++row)
    for (int64_t col = 0; col < n; ++col) right.push_back(product.element(row, col));
  const lab::GemmLimits limits = lab::gemm_limits(product.product());
  // What a tile's error is of its limit.
  const auto share = [&](const std::vector<float>& d, lab::GemmTile tile) {
    return product.check(d, tile).worst_tile / limits.worst_tile;
  };
  CHECK(share(right, whole) < 1);
  CHECK(share(right, corner) < 1);
  CHECK(share(right, corner) > 0.1);  // the error that is meant
  std::vector<float> d = right;
  d[70 * n + 128] = right[69 * n + 128];
  CHECK(share(d, corner) > 50);
  d = right;
  for (int64_t row = 64; row < m; ++row) d[row * n + 128] = product.element(row, 128, 128);
  CHECK(share(d, corner) > 10);
  d = right;
  d[31 * n + 17] = right[32 * n + 17];
  CHECK(share(d, whole) > 10);
}

}  // namespace
}  // namespace dgrt::test
