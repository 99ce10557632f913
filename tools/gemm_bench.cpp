#include "tools/gemm_bench.h"

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20251;          // of the operands; any will do
constexpr size_t num_checked_tiles = 96;  // of 64 x 64: corners, edges and a fixed selection

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t align4(int64_t m) { return ceil_div(m, 4) * 4; }  // rows of a_scale, gemm.h

uint64_t element_bytes(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? 1 : dtype == DGRT_FP32 ? 4 : 2;
}

class GemmBench final : public OpBench {
 public:
  GemmBench(const BenchHost& host, const dgrt_gemm_desc& desc) : OpBench(host), desc_(desc) {}

  Status init() {
    DGRT_TRY(make_plan(&desc_.op));
    return allocate();
  }

 private:
  Status allocate();
  Result<const dgrt_args*> prepare(int64_t m) override;
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_gemm_desc desc_;
  dgrt_gemm_args args_ = DGRT_GEMM_ARGS;
  lab::DeviceBuffer a_, b_, a_scale_, b_scale_, d_;
};

Status GemmBench::allocate() {
  const bool fp8 = desc_.dtype_ab == DGRT_E4M3;
  const uint64_t num_a = desc_.max_m * desc_.k, num_b = desc_.n * desc_.k;
  const uint64_t k_blocks = ceil_div(desc_.k, 128), n_blocks = ceil_div(desc_.n, 128);
  DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device(), num_a * element_bytes(desc_.dtype_ab)));
  DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device(), num_b * element_bytes(desc_.dtype_ab)));
  DGRT_ASSIGN(
      d_, lab::DeviceBuffer::make(device(), desc_.max_m * desc_.n * element_bytes(desc_.dtype_d)));
  if (!fp8) {
    DGRT_TRY(lab::fill_normal_bf16(device(), a_.data(), num_a, seed));
    return lab::fill_normal_bf16(device(), b_.data(), num_b, seed + 1);
  }
  const uint64_t num_a_scales = k_blocks * align4(desc_.max_m);
  DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(device(), num_a_scales * sizeof(float)));
  DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(device(), k_blocks * n_blocks * sizeof(float)));
  DGRT_TRY(lab::fill_normal_e4m3(device(), a_.data(), num_a, seed));
  DGRT_TRY(lab::fill_normal_e4m3(device(), b_.data(), num_b, seed + 1));
  DGRT_TRY(lab::fill_scales(device(), a_scale_.as<float>(), num_a_scales, seed + 2));
  return lab::fill_scales(device(), b_scale_.as<float>(), k_blocks * n_blocks, seed + 3);
}

Result<const dgrt_args*> GemmBench::prepare(int64_t m) {
  args_.a = a_.data();
  args_.b = b_.data();
  args_.d = d_.data();
  args_.m = m;
  args_.lda = args_.ldb = desc_.k;
  args_.ldd = desc_.n;
  if (desc_.scale_mode == DGRT_SCALE_BLOCK) {
    args_.a_scale = a_scale_.as<float>();
    args_.b_scale = b_scale_.as<float>();
    args_.ld_a_scale = align4(m);
    args_.ld_b_scale = ceil_div(desc_.k, 128);
  }
  DGRT_TRY(d_.poison());
  return &args_.op;
}

Status GemmBench::check(BenchCheck* check) const {
  const auto tiles = lab::sample_tiles(args_.m, desc_.n, num_checked_tiles, seed);
  DGRT_ASSIGN(const lab::GemmError error, lab::check_gemm(device(), desc_, args_, tiles));
  check->elements = error.checked;
  check->errors = {{"calc_diff", error.calc_diff},
                   {"worst_tile", error.worst_tile},
                   {"worst_element", error.worst_element}};
  DGRT_TRY(lab::check_limits(error, lab::gemm_limits(desc_)));
  return d_.check_guards();
}

BenchCost GemmBench::cost(int64_t m) const {
  const double n = static_cast<double>(desc_.n), k = static_cast<double>(desc_.k);
  BenchCost cost;
  cost.flops = 2.0 * m * n * k;
  cost.flops_dtype = desc_.dtype_ab;
  cost.bytes = (m + n) * k * element_bytes(desc_.dtype_ab) + m * n * element_bytes(desc_.dtype_d);
  if (desc_.scale_mode == DGRT_SCALE_BLOCK)
    cost.bytes += sizeof(float) * ceil_div(desc_.k, 128) * (m + ceil_div(desc_.n, 128));
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host, const dgrt_gemm_desc& desc) {
  return make_op_bench<GemmBench>(host, desc);
}

}  // namespace dgrt
