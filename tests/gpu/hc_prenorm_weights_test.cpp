// hc_prenorm_weights byte for byte: every n, row strides, tails of k, numbers at the ends of the
// formats and what is not finite.
#include <cmath>
#include <cstring>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_hc_check.h"

namespace dgrt::test {
namespace {

// Numbers of every size, and at the start of each row the special ones.
std::vector<float> make_weights(int64_t n, int64_t k, int64_t ldf) {
  std::vector<float> f(n * ldf, NAN);
  const float special[] = {0.0f,     -0.0f,     INFINITY,   -INFINITY,      NAN,  3.4028235e38f,
                           -3.4e38f, 1.5e-45f,  -1e-39f,    1.1754944e-38f, 1.0f, 1.00390625f,
                           1.005f,   -0.99999f, 3.3895e38f, 65504.0f};
  uint64_t state = n * 1000003 + k;
  for (int64_t row = 0; row < n; ++row)
    for (int64_t col = 0; col < k; ++col) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto bits = static_cast<uint32_t>(state >> 32);
      float random;
      std::memcpy(&random, &bits, sizeof(random));
      f[row * ldf + col] = col < 16 ? special[(col + row) % 16] : random;
    }
  return f;
}

void run_weights(Gpu& gpu, int64_t n, int64_t k, int64_t pad, uint32_t flags) {
  run_case(fmt::format("hc_prenorm_weights n={} k={} pad={} flags={}", n, k, pad, flags),
           [&]() -> Result<std::string> {
             const lab::Device& lab = *gpu.lab;
             dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
             desc.n = n, desc.k = k, desc.flags = flags;
             DGRT_ASSIGN(const Plan plan, Plan::make(gpu, &desc.op));
             const int64_t ldf = k + pad, padded = (n + 7) / 8 * 8;
             const std::vector<float> f = make_weights(n, k, ldf);
             DGRT_ASSIGN(const lab::DeviceBuffer f_dev, lab::DeviceBuffer::make(lab, f.size() * 4));
             DGRT_ASSIGN(const lab::DeviceBuffer w_dev,
                         lab::DeviceBuffer::make(lab, 2 * padded * k * 2));
             DGRT_TRY(f_dev.upload(f.data(), f.size() * 4));
             dgrt_hc_prenorm_weights_args args = DGRT_HC_PRENORM_WEIGHTS_ARGS;
             args.f = f_dev.as<float>(), args.w = w_dev.data(), args.ldf = ldf;
             DGRT_ASSIGN(const std::string kernel, plan.kernel_name(&args.op));
             DGRT_TRY(plan.launch(&args.op, lab.stream()));
             DGRT_TRY(f_dev.check_guards());
             DGRT_TRY(w_dev.check_guards());
             DGRT_ASSIGN(const std::vector<uint16_t> w, w_dev.download_all<uint16_t>());
             DGRT_TRY(lab::check_hc_prenorm_weights(desc, ldf, f, w));
             return kernel;
           });
}

}  // namespace

TEST_CASE("hc_prenorm_weights: every n, tails, rows further apart than they are long", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm_weights: every n, tails, rows further apart than they are long");
  if (!gpu) return;
  for (const int64_t n : {4, 8, 12, 16, 20, 24, 28, 32})
    for (const int64_t k : {64, 1024, 1088, 7168})
      run_weights(*gpu, n, k, n % 8 == 0 ? 12 : 0, k == 1024 ? DGRT_FLAG_PDL : 0);
  run_weights(*gpu, 24, 28672, 0, 0);
}

TEST_CASE("hc_prenorm_weights: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("hc_prenorm_weights: small sizes");
  if (!gpu) return;
  run_weights(*gpu, 20, 192, 12, 0);
}

}  // namespace dgrt::test
