#include "tools/segments_bench.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20251;          // of the operands; any will do
constexpr size_t num_checked_tiles = 32;  // of 64 x 64, of each group or segment
constexpr size_t max_checked_groups = 8;

Status fill(const lab::Device& device, const lab::DeviceBuffer& to, dgrt_dtype dtype,
            uint64_t of_seed) {
  if (dtype == DGRT_E4M3) return lab::fill_normal_e4m3(device, to.data(), to.bytes(), of_seed);
  return lab::fill_normal_bf16(device, to.data(), to.bytes() / 2, of_seed);
}

// Adds one checked product to what was checked before it.
Status add_check(const lab::Device& device, const lab::GemmProduct& product, uint64_t of_seed,
                 lab::GemmError* worst, BenchCheck* check) {
  const auto tiles =
      lab::sample_tiles(static_cast<uint64_t>(product.m), static_cast<uint64_t>(product.n),
                        num_checked_tiles, of_seed);
  DGRT_ASSIGN(const lab::GemmError error, lab::check_gemm(device, product, tiles));
  check->elements += error.checked;
  worst->calc_diff = std::max(worst->calc_diff, error.calc_diff);
  worst->worst_tile = std::max(worst->worst_tile, error.worst_tile);
  worst->worst_element = std::max(worst->worst_element, error.worst_element);
  check->errors = {{"calc_diff", worst->calc_diff},
                   {"worst_tile", worst->worst_tile},
                   {"worst_element", worst->worst_element}};
  return lab::check_limits(error, lab::gemm_limits(product));
}

class GroupedKBench final : public OpBench {
 public:
  GroupedKBench(const BenchHost& host, const dgrt_gemm_grouped_k_desc& desc)
      : OpBench(host), desc_(desc) {}

  Status init() {
    DGRT_TRY(make_plan(&desc_.op));
    const uint64_t bytes = is_fp8() ? 1 : 2;
    DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device(), desc_.max_k * desc_.m * bytes));
    DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device(), desc_.max_k * desc_.n * bytes));
    const uint64_t d_bytes = desc_.num_groups * desc_.m * desc_.n * sizeof(float);
    DGRT_ASSIGN(c_, lab::DeviceBuffer::make(device(), d_bytes));
    DGRT_ASSIGN(d_, lab::DeviceBuffer::make(device(), d_bytes));
    DGRT_ASSIGN(ks_, lab::DeviceBuffer::make(device(), desc_.num_groups * sizeof(int32_t)));
    DGRT_TRY(fill(device(), a_, desc_.dtype_ab, seed));
    DGRT_TRY(fill(device(), b_, desc_.dtype_ab, seed + 1));
    DGRT_TRY(lab::fill_normal_f32(device(), c_.as<float>(), d_bytes / sizeof(float), seed + 2));
    if (!is_fp8()) return ok();
    const uint64_t k_blocks = desc_.max_k / 128;
    DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(device(), k_blocks * ld_scale(desc_.m) * 4));
    DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(device(), k_blocks * ld_scale(desc_.n) * 4));
    DGRT_TRY(lab::fill_scales(device(), a_scale_.as<float>(), a_scale_.bytes() / 4, seed + 3));
    return lab::fill_scales(device(), b_scale_.as<float>(), b_scale_.bytes() / 4, seed + 4);
  }

 private:
  bool is_fp8() const { return desc_.dtype_ab == DGRT_E4M3; }
  static int64_t ld_scale(int64_t rows) { return (rows + 3) / 4 * 4; }

  Result<const dgrt_args*> prepare(int64_t m) override {
    groups_ = bench_group_ks(desc_.num_groups, m);
    DGRT_TRY(ks_.upload(groups_.data(), ks_.bytes()));
    DGRT_CU(device().driver(), cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(d_.data()),
                                                 reinterpret_cast<CUdeviceptr>(c_.data()),
                                                 d_.bytes(), device().stream()));
    args_.a = a_.data(), args_.b = b_.data(), args_.c = args_.d = d_.data();
    args_.ks = ks_.as<int32_t>();
    args_.k = std::accumulate(groups_.begin(), groups_.end(), int64_t{0});
    args_.ldc = args_.ldd = desc_.n;
    args_.c_group_stride = args_.d_group_stride = desc_.m * desc_.n;
    if (is_fp8()) {
      args_.a_scale = a_scale_.as<float>(), args_.b_scale = b_scale_.as<float>();
      args_.ld_a_scale = ld_scale(desc_.m), args_.ld_b_scale = ld_scale(desc_.n);
    } else {
      args_.lda = desc_.m, args_.ldb = desc_.n;
    }
    DGRT_TRY(device().synchronize());
    return &args_.op;
  }

  Status check(BenchCheck* check) const override {
    const size_t checked = std::min(groups_.size(), max_checked_groups);
    lab::GemmError worst;
    dgrt_gemm_grouped_k_args before = args_;
    before.c = c_.data();
    for (size_t i = 0; i < checked; ++i) {
      const size_t group = i * groups_.size() / checked;
      DGRT_TRY(add_check(device(), lab::product_of(desc_, before, groups_, group), seed + i, &worst,
                         check));
    }
    return d_.check_guards();
  }

  BenchCost cost(int64_t m) const override {
    const std::vector<int32_t> ks = bench_group_ks(desc_.num_groups, m);
    const auto k = static_cast<double>(std::accumulate(ks.begin(), ks.end(), int64_t{0}));
    const auto rows = static_cast<double>(desc_.m), n = static_cast<double>(desc_.n);
    BenchCost cost;
    cost.flops = 2.0 * rows * n * k;
    cost.flops_dtype = desc_.dtype_ab;
    cost.bytes = (rows + n) * k * (is_fp8() ? 1.0 + 4.0 / 128 : 2.0) +
                 2.0 * desc_.num_groups * rows * n * sizeof(float);
    return cost;
  }

  dgrt_gemm_grouped_k_desc desc_;
  dgrt_gemm_grouped_k_args args_ = DGRT_GEMM_GROUPED_K_ARGS;
  std::vector<int32_t> groups_;
  lab::DeviceBuffer a_, b_, c_, d_, a_scale_, b_scale_, ks_;
};

class FusedLinearBench final : public OpBench {
 public:
  FusedLinearBench(const BenchHost& host, const dgrt_gemm_fused_linear_desc& desc)
      : OpBench(host),
        desc_(desc),
        n_(std::accumulate(desc.n, desc.n + desc.num_segments, int64_t{0})) {}

  Status init() {
    DGRT_TRY(make_plan(&desc_.op));
    DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device(), desc_.max_m * desc_.k * 2));
    DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device(), n_ * desc_.k * 2));
    for (uint32_t i = 0; i < desc_.num_segments; ++i) {
      DGRT_ASSIGN(d_[i], lab::DeviceBuffer::make(device(), desc_.max_m * desc_.n[i] * 2));
    }
    DGRT_TRY(fill(device(), a_, desc_.dtype_ab, seed));
    return fill(device(), b_, desc_.dtype_ab, seed + 1);
  }

 private:
  Result<const dgrt_args*> prepare(int64_t m) override {
    args_.a = a_.data(), args_.b = b_.data();
    args_.m = m;
    args_.lda = args_.ldb = desc_.k;
    for (uint32_t i = 0; i < desc_.num_segments; ++i) {
      args_.d[i] = d_[i].data(), args_.ldd[i] = desc_.n[i];
      DGRT_TRY(d_[i].poison());
    }
    return &args_.op;
  }

  Status check(BenchCheck* check) const override {
    lab::GemmError worst;
    for (uint32_t i = 0; i < desc_.num_segments; ++i) {
      DGRT_TRY(add_check(device(), lab::product_of(desc_, args_, i), seed + i, &worst, check));
      DGRT_TRY(d_[i].check_guards());
    }
    return ok();
  }

  BenchCost cost(int64_t m) const override {
    const auto rows = static_cast<double>(m), n = static_cast<double>(n_),
               k = static_cast<double>(desc_.k);
    BenchCost cost;
    cost.flops = 2.0 * rows * n * k;
    cost.flops_dtype = desc_.dtype_ab;
    cost.bytes = 2.0 * ((rows + n) * k + rows * n);
    return cost;
  }

  dgrt_gemm_fused_linear_desc desc_;
  int64_t n_;
  dgrt_gemm_fused_linear_args args_ = DGRT_GEMM_FUSED_LINEAR_ARGS;
  lab::DeviceBuffer a_, b_, d_[DGRT_MAX_SEGMENTS];
};

}  // namespace

std::vector<int32_t> bench_group_ks(uint32_t num_groups, int64_t k) {
  std::mt19937_64 random(seed + static_cast<uint64_t>(k));
  std::vector<int32_t> ks;
  for (uint32_t g = 0; g < num_groups; ++g) {
    const int64_t drawn = k * static_cast<int64_t>(700 + random() % 601) / 1000;
    ks.push_back(static_cast<int32_t>(std::max<int64_t>(128, drawn / 128 * 128)));
  }
  return ks;
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_k_desc& desc) {
  return make_op_bench<GroupedKBench>(host, desc);
}
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_fused_linear_desc& desc) {
  return make_op_bench<FusedLinearBench>(host, desc);
}

}  // namespace dgrt
