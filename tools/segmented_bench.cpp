#include "tools/segmented_bench.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20253;          // of the operands; any will do
constexpr size_t num_checked_tiles = 96;  // of 64 x 64, over all segments
constexpr size_t max_checked_segments = 8;

int64_t align4(int64_t rows) { return (rows + 3) / 4 * 4; }

// One segment's errors into `check`, the largest of all so far.
Status check_product(const lab::Device& device, const lab::GemmProduct& product, size_t tiles,
                     BenchCheck* check) {
  DGRT_ASSIGN(
      const lab::GemmError error,
      lab::check_gemm(device, product, lab::sample_tiles(product.m, product.n, tiles, seed)));
  check->elements += error.checked;
  if (check->errors.empty())
    check->errors = {{"calc_diff", 0}, {"worst_tile", 0}, {"worst_element", 0}};
  const double found[] = {error.calc_diff, error.worst_tile, error.worst_element};
  for (size_t i = 0; i < std::size(found); ++i)
    check->errors[i].second = std::max(check->errors[i].second, found[i]);
  return lab::check_limits(error, lab::gemm_limits(product));
}

class GroupedKBench final : public OpBench {
 public:
  GroupedKBench(const BenchHost& host, const dgrt_gemm_grouped_k_desc& desc)
      : OpBench(host), desc_(desc) {}
  Status init() { return allocate(); }
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t k) override;

 private:
  bool is_fp8() const { return desc_.dtype_ab == DGRT_E4M3; }
  int64_t ab_bytes() const { return is_fp8() ? 1 : 2; }
  // What the groups have of k, about.
  std::vector<int32_t> draw(int64_t k) const;
  Status allocate();
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t k) const override;

  dgrt_gemm_grouped_k_desc desc_;
  dgrt_gemm_grouped_k_args args_ = DGRT_GEMM_GROUPED_K_ARGS;
  std::vector<int32_t> ks_;
  lab::DeviceBuffer a_, b_, c_, d_, a_scale_, b_scale_, ks_device_;
};

std::vector<int32_t> GroupedKBench::draw(int64_t k) const {
  std::mt19937_64 random(seed + k);
  std::vector<int32_t> ks;
  const int64_t share = k / desc_.num_groups;
  for (uint32_t g = 0; g < desc_.num_groups; ++g) {
    const int64_t of_group = share * static_cast<int64_t>(700 + random() % 601) / 1000;
    ks.push_back(static_cast<int32_t>(std::max<int64_t>(128, of_group / 128 * 128)));
  }
  return ks;
}

Status GroupedKBench::allocate() {
  const uint64_t k = desc_.max_k, m = desc_.m, n = desc_.n;
  DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device(), k * m * ab_bytes()));
  DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device(), k * n * ab_bytes()));
  for (lab::DeviceBuffer* buffer : {&c_, &d_}) {
    DGRT_ASSIGN(*buffer,
                lab::DeviceBuffer::make(device(), desc_.num_groups * m * n * sizeof(float)));
  }
  DGRT_ASSIGN(ks_device_, lab::DeviceBuffer::make(device(), desc_.num_groups * sizeof(int32_t)));
  DGRT_TRY(lab::fill_normal_f32(device(), c_.as<float>(), c_.bytes() / sizeof(float), seed));
  if (!is_fp8()) {
    DGRT_TRY(lab::fill_normal_bf16(device(), a_.data(), k * m, seed + 1));
    return lab::fill_normal_bf16(device(), b_.data(), k * n, seed + 2);
  }
  const uint64_t num_a = k / 128 * align4(m), num_b = k / 128 * align4(n);
  DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(device(), num_a * sizeof(float)));
  DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(device(), num_b * sizeof(float)));
  DGRT_TRY(lab::fill_normal_e4m3(device(), a_.data(), k * m, seed + 1));
  DGRT_TRY(lab::fill_normal_e4m3(device(), b_.data(), k * n, seed + 2));
  DGRT_TRY(lab::fill_scales(device(), a_scale_.as<float>(), num_a, seed + 3));
  return lab::fill_scales(device(), b_scale_.as<float>(), num_b, seed + 4);
}

Result<const dgrt_args*> GroupedKBench::prepare(int64_t k) {
  ks_ = draw(k);
  DGRT_TRY(ks_device_.upload(ks_.data(), ks_.size() * sizeof(int32_t)));
  args_.a = a_.data(), args_.b = b_.data(), args_.c = c_.data(), args_.d = d_.data();
  args_.ks = ks_device_.as<int32_t>();
  args_.k = std::accumulate(ks_.begin(), ks_.end(), int64_t{0});
  args_.ldc = args_.ldd = desc_.n;
  args_.c_group_stride = args_.d_group_stride = desc_.m * desc_.n;
  if (is_fp8()) {
    args_.a_scale = a_scale_.as<float>(), args_.b_scale = b_scale_.as<float>();
    args_.ld_a_scale = align4(desc_.m), args_.ld_b_scale = align4(desc_.n);
  } else {
    args_.lda = desc_.m, args_.ldb = desc_.n;
  }
  DGRT_TRY(d_.poison());
  return &args_.op;
}

// Each group as a gemm over its part of k.
Status GroupedKBench::check(BenchCheck* check) const {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = desc_.n, desc.max_m = desc_.m;
  desc.dtype_ab = desc_.dtype_ab, desc.dtype_d = desc_.dtype_d;
  desc.scale_mode = desc_.scale_mode;
  desc.a_major = desc.b_major = is_fp8() ? DGRT_K_MAJOR : DGRT_MN_MAJOR;
  desc.flags = DGRT_GEMM_WITH_C;
  const size_t checked = std::min(ks_.size(), max_checked_segments);
  for (size_t i = 0; i < checked; ++i) {
    const size_t g = i * ks_.size() / checked;
    const int64_t first =
        std::accumulate(ks_.begin(), ks_.begin() + static_cast<std::ptrdiff_t>(g), int64_t{0});
    desc.k = ks_[g];
    dgrt_gemm_args x = DGRT_GEMM_ARGS;
    x.m = desc_.m;
    x.a = a_.as<std::byte>() + first * desc_.m * ab_bytes();
    x.b = b_.as<std::byte>() + first * desc_.n * ab_bytes();
    x.lda = is_fp8() ? desc.k : desc_.m, x.ldb = is_fp8() ? desc.k : desc_.n;
    x.c = c_.as<float>() + g * args_.c_group_stride, x.ldc = args_.ldc;
    x.d = d_.as<float>() + g * args_.d_group_stride, x.ldd = args_.ldd;
    if (is_fp8()) {
      x.a_scale = args_.a_scale + first / 128 * args_.ld_a_scale;
      x.b_scale = args_.b_scale + first / 128 * args_.ld_b_scale;
      x.ld_a_scale = args_.ld_a_scale, x.ld_b_scale = args_.ld_b_scale;
    }
    DGRT_TRY(check_product(device(), lab::product_of(desc, x), num_checked_tiles / checked, check));
  }
  return d_.check_guards();
}

BenchCost GroupedKBench::cost(int64_t k) const {
  const std::vector<int32_t> ks = draw(k);
  const auto all_k = static_cast<double>(std::accumulate(ks.begin(), ks.end(), int64_t{0}));
  const double m = static_cast<double>(desc_.m), n = static_cast<double>(desc_.n);
  BenchCost cost;
  cost.flops = 2.0 * m * n * all_k;
  cost.flops_dtype = desc_.dtype_ab;
  cost.bytes = (m + n) * all_k * static_cast<double>(ab_bytes()) +
               2.0 * desc_.num_groups * m * n * sizeof(float);
  if (is_fp8()) cost.bytes += sizeof(float) * all_k / 128 * (m + n);
  return cost;
}

class FusedLinearBench final : public OpBench {
 public:
  FusedLinearBench(const BenchHost& host, const dgrt_gemm_fused_linear_desc& desc)
      : OpBench(host), desc_(desc) {}
  Status init() { return allocate(); }
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  int64_t all_n() const {
    return std::accumulate(desc_.n, desc_.n + desc_.num_segments, int64_t{0});
  }
  int64_t d_bytes() const { return desc_.dtype_d == DGRT_FP32 ? 4 : 2; }
  Status allocate();
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_gemm_fused_linear_desc desc_;
  dgrt_gemm_fused_linear_args args_ = DGRT_GEMM_FUSED_LINEAR_ARGS;
  lab::DeviceBuffer a_, b_;
  std::vector<lab::DeviceBuffer> d_;
};

Status FusedLinearBench::allocate() {
  const uint64_t num_a = desc_.max_m * desc_.k, num_b = all_n() * desc_.k;
  DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device(), num_a * 2));
  DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device(), num_b * 2));
  for (uint32_t i = 0; i < desc_.num_segments; ++i) {
    DGRT_ASSIGN(lab::DeviceBuffer d,
                lab::DeviceBuffer::make(device(), desc_.max_m * desc_.n[i] * d_bytes()));
    d_.push_back(std::move(d));
  }
  DGRT_TRY(lab::fill_normal_bf16(device(), a_.data(), num_a, seed));
  return lab::fill_normal_bf16(device(), b_.data(), num_b, seed + 1);
}

Result<const dgrt_args*> FusedLinearBench::prepare(int64_t m) {
  args_.a = a_.data(), args_.b = b_.data();
  args_.m = m;
  args_.lda = args_.ldb = desc_.k;
  for (uint32_t i = 0; i < desc_.num_segments; ++i) {
    DGRT_TRY(d_[i].poison());
    args_.d[i] = d_[i].data(), args_.ldd[i] = desc_.n[i];
  }
  return &args_.op;
}

Status FusedLinearBench::check(BenchCheck* check) const {
  int64_t first = 0;
  for (uint32_t i = 0; i < desc_.num_segments; ++i) {
    dgrt_gemm_desc desc = DGRT_GEMM_DESC;
    desc.n = desc_.n[i], desc.k = desc_.k, desc.max_m = desc_.max_m;
    desc.dtype_ab = desc_.dtype_ab, desc.dtype_d = desc_.dtype_d;
    dgrt_gemm_args x = DGRT_GEMM_ARGS;
    x.m = args_.m;
    x.a = args_.a, x.b = b_.as<uint16_t>() + first * desc_.k, x.d = args_.d[i];
    x.lda = x.ldb = desc_.k, x.ldd = args_.ldd[i];
    const size_t tiles = num_checked_tiles / desc_.num_segments;
    DGRT_TRY(check_product(device(), lab::product_of(desc, x), tiles, check));
    DGRT_TRY(d_[i].check_guards());
    first += desc_.n[i];
  }
  return ok();
}

BenchCost FusedLinearBench::cost(int64_t m) const {
  const double rows = static_cast<double>(m), k = static_cast<double>(desc_.k);
  const double n = static_cast<double>(all_n());
  BenchCost cost;
  cost.flops = 2.0 * rows * n * k;
  cost.flops_dtype = desc_.dtype_ab;
  cost.bytes = (rows + n) * k * 2 + rows * n * static_cast<double>(d_bytes());
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_grouped_k_desc& desc) {
  return make_op_bench<GroupedKBench>(host, desc);
}
Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_gemm_fused_linear_desc& desc) {
  return make_op_bench<FusedLinearBench>(host, desc);
}

}  // namespace dgrt
