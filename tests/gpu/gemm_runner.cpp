#include "tests/gpu/gemm_runner.h"

#include <algorithm>

#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

constexpr uint64_t seed_a = 11, seed_b = 12, seed_c = 13, seed_a_scale = 14, seed_b_scale = 15;
constexpr size_t max_checked_tiles = 2048;  // of 64 x 64; more are sampled

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
int64_t k_blocks(int64_t k) { return (k + 127) / 128; }

int64_t element_bytes(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? 1 : dtype == DGRT_FP32 ? 4 : 2;
}

// Elements between rows of `length`, 16-byte rows.
int64_t stride(int64_t length, int64_t pad, dgrt_dtype dtype) {
  return std::max<int64_t>(round_up(length + pad, 16 / element_bytes(dtype)),
                           16 / element_bytes(dtype));
}

Status fill(const Gpu& gpu, const lab::DeviceBuffer& buffer, dgrt_dtype dtype, uint64_t seed) {
  const uint64_t count = buffer.bytes() / element_bytes(dtype);
  if (dtype == DGRT_E4M3) return lab::fill_normal_e4m3(*gpu.lab, buffer.data(), count, seed);
  if (dtype == DGRT_FP32) return lab::fill_normal_f32(*gpu.lab, buffer.as<float>(), count, seed);
  return lab::fill_normal_bf16(*gpu.lab, buffer.data(), count, seed);
}

Result<lab::DeviceBuffer> make_matrix(const Gpu& gpu, int64_t rows, int64_t row_stride,
                                      dgrt_dtype dtype) {
  return lab::DeviceBuffer::make(*gpu.lab, rows * row_stride * element_bytes(dtype));
}

Status copy(const Gpu& gpu, const lab::DeviceBuffer& to, const lab::DeviceBuffer& from) {
  DGRT_CU(gpu.lab->driver(), cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(to.data()),
                                               reinterpret_cast<CUdeviceptr>(from.data()),
                                               to.bytes(), gpu.lab->stream()));
  return ok();
}

const char* dtype_name(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? "e4m3" : dtype == DGRT_FP32 ? "fp32" : "bf16";
}

}  // namespace

std::string GemmCase::name() const {
  std::string text =
      fmt::format("gemm {} n={} k={} d={}", dtype_name(dtype_ab), n, k, dtype_name(dtype_d));
  if (b_scale_major == DGRT_MN_MAJOR) text += " b_scale=mn";
  if (c != CMode::none) text += c == CMode::separate ? " c" : " c=d";
  if (pad != 0) text += fmt::format(" pad={}", pad);
  if (sm_budget != 0) text += fmt::format(" sm_budget={}", sm_budget);
  if (flags != 0) text += " pdl";
  if (extremes) text += " extremes";
  return text;
}

Result<GemmRun> GemmRun::make(Gpu& gpu, const GemmCase& test) {
  GemmRun run;
  run.gpu_ = &gpu;
  run.test_ = test;
  run.rows_ = std::max<int64_t>(1, *std::max_element(test.m.begin(), test.m.end()));
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = test.n;
  desc.k = test.k;
  desc.max_m = max_test_m;
  desc.dtype_ab = test.dtype_ab;
  desc.dtype_d = test.dtype_d;
  desc.scale_mode = test.dtype_ab == DGRT_E4M3 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  desc.b_scale_major = test.b_scale_major;
  desc.sm_budget = test.sm_budget;
  desc.flags = test.flags | (test.c == CMode::none ? 0u : uint32_t{DGRT_GEMM_WITH_C});
  run.desc_ = desc;
  DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
  DGRT_TRY(run.allocate());
  return run;
}

Status GemmRun::allocate() {
  const GemmCase& t = test_;
  lda_ = stride(t.k, t.pad, t.dtype_ab);
  ldb_ = stride(t.k, t.pad == 0 ? 0 : t.pad + 16, t.dtype_ab);
  ldd_ = stride(t.n, t.pad, t.dtype_d);
  ldc_ = t.c == CMode::separate ? stride(t.n, t.pad == 0 ? 0 : t.pad + 8, t.dtype_d) : ldd_;
  DGRT_ASSIGN(a_, make_matrix(*gpu_, rows_, lda_, t.dtype_ab));
  DGRT_ASSIGN(b_, make_matrix(*gpu_, t.n, ldb_, t.dtype_ab));
  DGRT_ASSIGN(d_, make_d());
  DGRT_ASSIGN(d_again_, make_d());
  DGRT_TRY(refill(0));
  if (t.c != CMode::none) {
    DGRT_ASSIGN(c_, make_matrix(*gpu_, rows_, ldc_, t.dtype_d));
    DGRT_TRY(fill(*gpu_, c_, t.dtype_d, seed_c));
  }
  if (t.dtype_ab == DGRT_E4M3) {
    const int64_t columns = std::max<int64_t>(1, k_blocks(t.k)), n_blocks = k_blocks(t.n);
    const bool k_major = t.b_scale_major == DGRT_K_MAJOR;
    ld_a_scale_ = round_up(rows_ + t.pad, 4);
    ld_b_scale_ = (k_major ? columns : n_blocks) + (t.pad == 0 ? 0 : 3);
    DGRT_ASSIGN(a_scale_, make_matrix(*gpu_, columns, ld_a_scale_, DGRT_FP32));
    DGRT_ASSIGN(b_scale_, make_matrix(*gpu_, k_major ? n_blocks : columns, ld_b_scale_, DGRT_FP32));
    DGRT_TRY(
        lab::fill_scales(*gpu_->lab, a_scale_.as<float>(), a_scale_.bytes() / 4, seed_a_scale));
    DGRT_TRY(
        lab::fill_scales(*gpu_->lab, b_scale_.as<float>(), b_scale_.bytes() / 4, seed_b_scale));
  }
  DGRT_TRY(gpu_->lab->synchronize());
  return t.extremes ? plant_extremes() : ok();
}

// Row 0 of a gets a NaN, row 1 an infinity (bf16) or an infinite scale (e4m3), row 2 huge numbers;
// row 3 of b gets a NaN. Everything else must stay finite and right.
Status GemmRun::plant_extremes() const {
  const int64_t bytes = element_bytes(test_.dtype_ab);
  const auto put = [bytes](const lab::DeviceBuffer& to, int64_t at, uint16_t bits) {
    return to.upload(&bits, bytes, at * bytes);
  };
  const bool fp8 = test_.dtype_ab == DGRT_E4M3;
  const uint16_t nan = fp8 ? 0x7f : 0x7fc0;
  DGRT_TRY(put(a_, test_.k / 2, nan));
  DGRT_TRY(put(b_, 3 * ldb_ + test_.k - 1, nan));
  if (rows_ < 3) return ok();
  if (!fp8) {
    DGRT_TRY(put(a_, lda_ + test_.k - 1, 0x7f80));
    return put(a_, 2 * lda_, 0x7f00);  // 2^127; its products with b stay in range
  }
  const float infinity = __builtin_inff(), huge = 1e30f;
  DGRT_TRY(a_scale_.upload(&infinity, sizeof(float), 1 * sizeof(float)));
  return a_scale_.upload(&huge, sizeof(float), 2 * sizeof(float));
}

Status GemmRun::refill(uint64_t seed) const {
  DGRT_TRY(fill(*gpu_, a_, test_.dtype_ab, seed_a + seed * 1000));
  DGRT_TRY(fill(*gpu_, b_, test_.dtype_ab, seed_b + seed * 1000));
  return gpu_->lab->synchronize();
}

Result<lab::DeviceBuffer> GemmRun::make_d() const {
  return make_matrix(*gpu_, rows_, ldd_, test_.dtype_d);
}

dgrt_gemm_args GemmRun::args_into(const lab::DeviceBuffer& d, int64_t m) const {
  dgrt_gemm_args x = DGRT_GEMM_ARGS;
  x.a = a_.data();
  x.b = b_.data();
  x.d = d.data();
  x.m = m;
  x.lda = lda_, x.ldb = ldb_, x.ldd = ldd_;
  if (test_.c != CMode::none) {
    x.c = test_.c == CMode::separate ? c_.data() : d.data();
    x.ldc = ldc_;
  }
  if (test_.dtype_ab == DGRT_E4M3) {
    x.a_scale = a_scale_.as<float>(), x.b_scale = b_scale_.as<float>();
    x.ld_a_scale = ld_a_scale_, x.ld_b_scale = ld_b_scale_;
  }
  return x;
}

dgrt_gemm_args GemmRun::args(int64_t m) const { return args_into(d_, m); }

Status GemmRun::prepare_d(const lab::DeviceBuffer& d) const {
  DGRT_TRY(test_.c == CMode::in_place ? copy(*gpu_, d, c_) : d.poison());
  return gpu_->lab->synchronize();
}

Status GemmRun::check_d(const lab::DeviceBuffer& d, int64_t m, std::string* summary) const {
  const lab::Device& lab = *gpu_->lab;
  DGRT_TRY(lab.synchronize());
  for (const lab::DeviceBuffer* buffer : {&d, &a_, &b_}) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(plan_.check_guards());
  dgrt_gemm_args x = args_into(d, m);
  if (test_.c == CMode::in_place) x.c = c_.data();  // d's contents before

  // Nothing but the m x n elements may change.
  const int64_t size = element_bytes(test_.dtype_d);
  const void* before = test_.c == CMode::in_place ? c_.data() : nullptr;
  DGRT_TRY(lab::check_row_padding(lab, d.data(), m, test_.n * size, ldd_ * size, before));
  if (m < rows_) {
    const int64_t used = m * ldd_ * size, rest = (rows_ - m) * ldd_ * size;
    const void* rest_before = before ? static_cast<const std::byte*>(before) + used : nullptr;
    const Status status =
        lab::check_row_padding(lab, d.as<std::byte>() + used, 1, 0, rest, rest_before);
    if (!status.is_ok())
      return error(DGRT_INTERNAL, "rows from m={} on were written: {}", m, status.message());
  }
  DGRT_ASSIGN(
      const lab::GemmError found,
      lab::check_gemm(lab, desc_, x, lab::sample_tiles(m, test_.n, max_checked_tiles, test_.k)));
  *summary = fmt::format("calc_diff {:.2g}, tile {:.2g}, element {:.2g}", found.calc_diff,
                         found.worst_tile, found.worst_element);
  return lab::check_limits(found, lab::gemm_limits(desc_));
}

Result<std::string> GemmRun::check(int64_t m) {
  std::string kernel = "no kernel", summary;
  const dgrt_gemm_args first = args_into(d_, m), again = args_into(d_again_, m);
  if (m > 0) {
    DGRT_ASSIGN(kernel, plan_.kernel_name(&first.op));
  }
  const auto checked = [&]() -> Status {
    DGRT_TRY(prepare_d(d_));
    DGRT_TRY(prepare_d(d_again_));
    DGRT_TRY(plan_.launch(&first.op, gpu_->lab->stream()));
    DGRT_TRY(check_d(d_, m, &summary));
    DGRT_TRY(plan_.launch(&again.op, gpu_->lab->stream()));
    DGRT_ASSIGN(const int64_t at,
                lab::first_difference(*gpu_->lab, d_.data(), d_again_.data(), d_.bytes()));
    if (at < 0) return ok();
    return error(DGRT_INTERNAL, "the second run differs in row {}, byte {}",
                 at / (ldd_ * element_bytes(test_.dtype_d)),
                 at % (ldd_ * element_bytes(test_.dtype_d)));
  };
  const Status status = checked();
  if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
  return fmt::format("m={} {}: {}", m, kernel, summary);
}

void run_gemm_cases(Gpu& gpu, const std::vector<GemmCase>& cases) {
  for (const GemmCase& test : cases) {
    run_case(test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(GemmRun run, GemmRun::make(gpu, test));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, run.check(m));
        details += (details.empty() ? "" : "; ") + detail;
      }
      return details;
    });
  }
}

}  // namespace dgrt::test
