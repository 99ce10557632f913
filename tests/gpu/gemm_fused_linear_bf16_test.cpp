// gemm_fused_linear: every segment against the fp64 reference of gemm, whatever its type, its width,
// its alignment and its place among the others, and bit for bit against a gemm of its own; nothing
// beside the segments is written.
#include <algorithm>
#include <numeric>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"

namespace dgrt::test {
namespace {

constexpr int64_t max_rows = 8192;
constexpr size_t max_checked_tiles = 512;  // of each segment

struct Case {
  std::vector<int64_t> n;
  int64_t k;
  std::vector<int64_t> m;
  int64_t pad = 0;          // elements between rows of d beyond their length
  bool one_matrix = false;  // the d are column slices of one matrix
  uint32_t flags = 0;
  dgrt_dtype dtype_ab = DGRT_BF16, dtype_d = DGRT_BF16;

  int64_t d_bytes() const { return dtype_d == DGRT_FP32 ? 4 : 2; }

  std::string name() const {
    std::string text = "gemm_fused_linear n=";
    for (size_t i = 0; i < n.size(); ++i) text += fmt::format("{}{}", i ? "," : "", n[i]);
    text += " k=" + std::to_string(k);
    if (pad != 0) text += " pad=" + std::to_string(pad);
    if (one_matrix) text += " slices";
    if (flags != 0) text += " flags=" + std::to_string(flags);
    if (dtype_ab == DGRT_FP16) text += " fp16";
    if (dtype_d == DGRT_FP32) text += " to fp32";
    return text;
  }
};

class Run {
 public:
  static Result<Run> make(Gpu& gpu, const Case& test) {
    Run run;
    run.gpu_ = &gpu;
    run.test_ = test;
    run.rows_ = std::max<int64_t>(1, *std::max_element(test.m.begin(), test.m.end()));
    run.total_n_ = std::accumulate(test.n.begin(), test.n.end(), int64_t{0});
    dgrt_gemm_fused_linear_desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
    desc.k = test.k;
    desc.max_m = max_rows;
    desc.num_segments = static_cast<uint32_t>(test.n.size());
    std::copy(test.n.begin(), test.n.end(), desc.n);
    desc.dtype_ab = test.dtype_ab, desc.dtype_d = test.dtype_d;
    desc.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
    run.ld_ = (test.k + 15) / 8 * 8;
    DGRT_ASSIGN(run.a_, lab::DeviceBuffer::make(*gpu.lab, run.rows_ * run.ld_ * 2));
    DGRT_ASSIGN(run.b_, lab::DeviceBuffer::make(*gpu.lab, run.total_n_ * run.ld_ * 2));
    const auto fill = test.dtype_ab == DGRT_FP16 ? lab::fill_normal_fp16 : lab::fill_normal_bf16;
    DGRT_TRY(fill(*gpu.lab, run.a_.data(), run.a_.bytes() / 2, 1, 1.0f));
    DGRT_TRY(fill(*gpu.lab, run.b_.data(), run.b_.bytes() / 2, 2, 1.0f));
    for (const int64_t n : test.one_matrix ? std::vector{run.total_n_} : test.n)
      for (std::vector<lab::DeviceBuffer>* buffers : {&run.d_, &run.again_}) {
        DGRT_ASSIGN(lab::DeviceBuffer d,
                    lab::DeviceBuffer::make(*gpu.lab, run.rows_ * (n + test.pad) * test.d_bytes()));
        buffers->push_back(std::move(d));
      }
    DGRT_TRY(gpu.lab->synchronize());
    return run;
  }

  Result<std::string> check(int64_t m) const {
    const dgrt_gemm_fused_linear_args first = args(d_, m), again = args(again_, m);
    std::string kernel = "no kernel";
    if (m > 0) {
      DGRT_ASSIGN(kernel, plan_.kernel_name(&first.op));
    }
    double worst = 0;
    const auto checked = [&]() -> Status {
      for (const auto* buffers : {&d_, &again_})
        for (const lab::DeviceBuffer& d : *buffers) DGRT_TRY(d.poison());
      DGRT_TRY(gpu_->lab->synchronize());
      DGRT_TRY(plan_.launch(&first.op, gpu_->lab->stream()));
      DGRT_TRY(plan_.launch(&again.op, gpu_->lab->stream()));
      DGRT_TRY(gpu_->lab->synchronize());
      DGRT_TRY(check_surroundings(m));
      for (size_t i = 0; m > 0 && i < test_.n.size(); ++i)
        DGRT_TRY(check_segment(first, i, &worst));
      return ok();
    };
    const Status status = checked();
    if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
    return fmt::format("m={} {}: calc_diff {:.2g}", m, kernel, worst);
  }

 private:
  dgrt_gemm_fused_linear_args args(const std::vector<lab::DeviceBuffer>& d, int64_t m) const {
    dgrt_gemm_fused_linear_args x = DGRT_GEMM_FUSED_LINEAR_ARGS;
    x.a = a_.data();
    x.b = b_.data();
    x.m = m;
    x.lda = x.ldb = ld_;
    int64_t begin = 0;
    for (size_t i = 0; i < test_.n.size(); ++i) {
      x.d[i] = test_.one_matrix ? d[0].as<std::byte>() + begin * test_.d_bytes() : d[i].data();
      x.ldd[i] = (test_.one_matrix ? total_n_ : test_.n[i]) + test_.pad;
      begin += test_.n[i];
    }
    return x;
  }

  // Guards, padding, rows from m on; and the second run's bits.
  Status check_surroundings(int64_t m) const {
    for (const lab::DeviceBuffer* buffer : {&a_, &b_}) DGRT_TRY(buffer->check_guards());
    for (size_t i = 0; i < d_.size(); ++i) {
      const int64_t n = test_.one_matrix ? total_n_ : test_.n[i];
      const uint64_t stride = (n + test_.pad) * test_.d_bytes();
      const uint64_t used = m * stride, all = rows_ * stride;
      const uint64_t rows = m, row_bytes = n * test_.d_bytes();
      DGRT_TRY(d_[i].check_guards());
      DGRT_TRY(lab::check_untouched(*gpu_->lab, {d_[i].data(), rows, stride, row_bytes, stride}));
      DGRT_TRY(lab::check_untouched(*gpu_->lab, {d_[i].data(), 1, all, used, all}));
      DGRT_ASSIGN(const int64_t at,
                  lab::first_difference(*gpu_->lab, d_[i].data(), again_[i].data(), d_[i].bytes()));
      if (at >= 0) return error(DGRT_INTERNAL, "the second run differs in d[{}], byte {}", i, at);
    }
    return ok();
  }

  // The gemm that segment i is, to `d`.
  struct Separate {
    dgrt_gemm_desc desc = DGRT_GEMM_DESC;
    dgrt_gemm_args args = DGRT_GEMM_ARGS;
  };
  Separate separate(const dgrt_gemm_fused_linear_args& x, size_t i, void* d, int64_t ldd) const {
    const int64_t begin = std::accumulate(
        test_.n.begin(), test_.n.begin() + static_cast<std::ptrdiff_t>(i), int64_t{0});
    Separate one;
    one.desc.n = test_.n[i];
    one.desc.k = test_.k;
    one.desc.max_m = max_rows;
    one.desc.dtype_ab = test_.dtype_ab, one.desc.dtype_d = test_.dtype_d;
    one.desc.flags = test_.flags;
    one.args.a = x.a;
    one.args.b = b_.as<uint16_t>() + begin * ld_;
    one.args.d = d;
    one.args.m = x.m;
    one.args.lda = one.args.ldb = ld_;
    one.args.ldd = ldd;
    return one;
  }

  Status check_segment(const dgrt_gemm_fused_linear_args& x, size_t i, double* worst) const {
    const Separate one = separate(x, i, x.d[i], x.ldd[i]);
    const lab::GemmProduct product = lab::product_of(one.desc, one.args);
    DGRT_ASSIGN(const lab::GemmError found,
                lab::check_gemm(
                    *gpu_->lab, product,
                    lab::sample_tiles(static_cast<uint64_t>(x.m), static_cast<uint64_t>(one.desc.n),
                                      max_checked_tiles, i)));
    *worst = std::max(*worst, found.calc_diff);
    Status status = lab::check_limits(found, lab::gemm_limits(product));
    // Without a split k every kernel adds up in the same order.
    if (status.is_ok() && (test_.flags & DGRT_FLAG_BATCH_INVARIANT) != 0) status = check_bits(x, i);
    if (status.is_ok()) return ok();
    return error(status.code(), "segment {}: {}", i, status.message());
  }

  // Segment i and a gemm of its own agree in every bit.
  Status check_bits(const dgrt_gemm_fused_linear_args& x, size_t i) const {
    const int64_t ldd = (test_.n[i] + 7) / 8 * 8;
    DGRT_ASSIGN(const lab::DeviceBuffer d,
                lab::DeviceBuffer::make(*gpu_->lab, x.m * ldd * test_.d_bytes()));
    const Separate one = separate(x, i, d.data(), ldd);
    DGRT_ASSIGN(const Plan plan, Plan::make(*gpu_, &one.desc.op));
    DGRT_TRY(plan.launch(&one.args.op, gpu_->lab->stream()));
    DGRT_TRY(gpu_->lab->synchronize());
    DGRT_ASSIGN(const std::vector<std::byte> want, d.download_all<std::byte>());
    const lab::DeviceBuffer& buffer = d_[test_.one_matrix ? 0 : i];
    DGRT_ASSIGN(const std::vector<std::byte> all, buffer.download_all<std::byte>());
    const std::byte* got = all.data() + (static_cast<const std::byte*>(x.d[i]) -
                                         static_cast<const std::byte*>(buffer.data()));
    for (int64_t row = 0; row < x.m; ++row)
      if (!std::equal(got + row * x.ldd[i] * test_.d_bytes(),
                      got + (row * x.ldd[i] + test_.n[i]) * test_.d_bytes(),
                      want.data() + row * ldd * test_.d_bytes()))
        return error(DGRT_INTERNAL, "row {} has other bits than a gemm of its own", row);
    return ok();
  }

  Gpu* gpu_ = nullptr;
  Case test_;
  int64_t rows_ = 0, total_n_ = 0, ld_ = 0;
  Plan plan_;
  lab::DeviceBuffer a_, b_;
  std::vector<lab::DeviceBuffer> d_, again_;
};

void run_cases(Gpu& gpu, const std::vector<Case>& cases) {
  for (const Case& test : cases)
    run_case(test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const Run run, Run::make(gpu, test));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, run.check(m));
        details += (details.empty() ? "" : "; ") + detail;
      }
      return details;
    });
}

const std::vector<int64_t> all_m = {0,  1,  2,  7,   8,   16,  17,  31,   32,   33,
                                    63, 64, 65, 127, 128, 129, 300, 1000, 4096, 8192};
const std::vector<int64_t> some_m = {1, 8, 17, 30, 64, 129, 300, 2048};

}  // namespace

TEST_CASE("gemm_fused_linear_bf16: the projections of Kimi Delta Attention", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fused_linear_bf16: the projections of Kimi Delta Attention");
  if (!gpu) return;
  const std::vector<int64_t> n = {1024, 1024, 1024, 8, 128, 128};
  run_cases(*gpu, {{.n = n, .k = 2304, .m = all_m},
                   {.n = n, .k = 2304, .m = some_m, .one_matrix = true},
                   {.n = n, .k = 2304, .m = some_m, .flags = DGRT_FLAG_BATCH_INVARIANT},
                   {.n = {512, 512, 512, 4, 128, 128}, .k = 2304, .m = some_m},
                   {.n = {512, 512, 512, 128, 128, 12}, .k = 2304, .m = some_m}});
}

TEST_CASE("gemm_fused_linear_bf16: any widths and strides, boundaries inside chunks", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fused_linear_bf16: any widths and strides, boundaries inside chunks");
  if (!gpu) return;
  std::vector<Case> cases;
  for (const std::vector<int64_t>& n : std::vector<std::vector<int64_t>>{
           {264}, {8, 16, 24, 32, 40, 48, 56, 64}, {1, 2, 3, 5, 7, 9, 300, 64}, {200, 4, 72, 1}})
    for (const int64_t pad : {0, 1, 8})
      cases.push_back({.n = n, .k = 328, .m = some_m, .pad = pad});
  cases.push_back({.n = {16, 5, 300}, .k = 328, .m = some_m, .pad = 3, .one_matrix = true});
  cases.push_back({.n = {64, 8, 4}, .k = 0, .m = {0, 1, 300}});
  run_cases(*gpu, cases);
}

TEST_CASE("gemm_fused_linear_bf16: fp32 outputs", "[gpu]") {
  Gpu* gpu = gpu_for("gemm_fused_linear_bf16: fp32 outputs");
  if (!gpu) return;
  std::vector<Case> cases;
  const auto add = [&](Case test) {
    test.dtype_d = DGRT_FP32;
    cases.push_back(test);
  };
  const std::vector<int64_t> n = {1024, 1024, 1024, 8, 128, 128};
  add({.n = n, .k = 2304, .m = all_m});
  add({.n = n, .k = 2304, .m = some_m, .one_matrix = true});
  add({.n = {512, 512, 4, 128, 128, 12}, .k = 2304, .m = some_m, .dtype_ab = DGRT_FP16});
  // Every width and stride, aligned or not, also bit for bit.
  for (const std::vector<int64_t>& widths : std::vector<std::vector<int64_t>>{
           {264}, {4, 8, 12, 16, 20, 300, 64, 36}, {1, 2, 3, 5, 7, 9, 300, 64}, {200, 6, 72, 1}})
    for (const int64_t pad : {0, 1, 4})
      add({.n = widths, .k = 328, .m = some_m, .pad = pad, .flags = DGRT_FLAG_BATCH_INVARIANT});
  add({.n = n,
       .k = 2304,
       .m = {1, 17, 129, 2048},
       .one_matrix = true,
       .flags = DGRT_FLAG_BATCH_INVARIANT});
  add({.n = {16, 5, 300}, .k = 328, .m = some_m, .pad = 3, .one_matrix = true});
  add({.n = {64, 8, 4}, .k = 0, .m = {0, 1, 300}});
  run_cases(*gpu, cases);
}

TEST_CASE("gemm_fused_linear_bf16: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("gemm_fused_linear_bf16: small sizes");
  if (!gpu) return;
  run_cases(*gpu, {{.n = {16, 5, 100}, .k = 136, .m = {1, 17, 129}, .pad = 3}});
}

}  // namespace dgrt::test
