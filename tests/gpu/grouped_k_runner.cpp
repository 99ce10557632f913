#include "tests/gpu/grouped_k_runner.h"

#include <algorithm>
#include <numeric>

#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

constexpr size_t max_checked_tiles = 512;  // of each group

int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

class Run {
 public:
  static Result<Run> make(Gpu& gpu, const GroupedKCase& test) {
    Run run;
    run.gpu_ = &gpu;
    run.test_ = test;
    run.k_ = std::accumulate(test.ks.begin(), test.ks.end(), test.spare_k);
    dgrt_gemm_grouped_k_desc desc = DGRT_GEMM_GROUPED_K_DESC;
    desc.m = test.m;
    desc.n = test.n;
    desc.max_k = std::max<int64_t>(run.k_, 65536);
    desc.num_groups = static_cast<uint32_t>(test.ks.size());
    desc.dtype_ab = test.dtype_ab;
    desc.dtype_d = DGRT_FP32;
    desc.scale_mode = run.is_fp8() ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
    desc.sm_budget = test.sm_budget;
    desc.flags = test.with_c ? uint32_t{DGRT_GEMM_WITH_C} : 0u;
    run.desc_ = desc;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
    DGRT_TRY(run.allocate());
    return run;
  }

  Result<std::string> check() const {
    const dgrt_gemm_grouped_k_args first = args(d_), again = args(again_);
    DGRT_ASSIGN(const std::string kernel, plan_.kernel_name(&first.op));
    double worst = 0;
    const auto checked = [&]() -> Status {
      DGRT_TRY(prepare(d_));
      DGRT_TRY(plan_.launch(&first.op, gpu_->lab->stream()));
      DGRT_TRY(gpu_->lab->synchronize());
      DGRT_TRY(check_surroundings());
      for (uint32_t g = 0; g < test_.ks.size(); ++g) DGRT_TRY(check_group(g, &worst));
      for (int i = 0; i < test_.repeats; ++i) {
        DGRT_TRY(prepare(again_));
        DGRT_TRY(plan_.launch(&again.op, gpu_->lab->stream()));
        DGRT_ASSIGN(const int64_t at,
                    lab::first_difference(*gpu_->lab, d_.data(), again_.data(), d_.bytes()));
        if (at >= 0) return error(DGRT_INTERNAL, "run {} differs in byte {}", i + 2, at);
      }
      return ok();
    };
    const Status status = checked();
    if (!status.is_ok()) return error(status.code(), "{}: {}", kernel, status.message());
    return fmt::format("{}: calc_diff {:.2g}", kernel, worst);
  }

 private:
  bool is_fp8() const { return test_.dtype_ab == DGRT_E4M3; }

  Status allocate() {
    const lab::Device& lab = *gpu_->lab;
    const int64_t bytes = is_fp8() ? 1 : 2, groups = static_cast<int64_t>(test_.ks.size());
    lda_ = is_fp8() ? 0 : round_up(test_.m, 8) + test_.pad;
    ldb_ = is_fp8() ? 0 : round_up(test_.n, 8) + test_.pad;
    ldd_ = round_up(test_.n, 4) + test_.pad;
    DGRT_ASSIGN(a_, lab::DeviceBuffer::make(lab, k_ * (is_fp8() ? test_.m : lda_) * bytes));
    DGRT_ASSIGN(b_, lab::DeviceBuffer::make(lab, k_ * (is_fp8() ? test_.n : ldb_) * bytes));
    for (lab::DeviceBuffer* d : {&c_, &d_, &again_}) {
      DGRT_ASSIGN(*d, lab::DeviceBuffer::make(lab, groups * test_.m * ldd_ * 4));
    }
    DGRT_ASSIGN(ks_, lab::DeviceBuffer::make(lab, groups * 4));
    DGRT_TRY(ks_.upload(test_.ks.data(), ks_.bytes()));
    DGRT_TRY(lab::fill_normal_f32(lab, c_.as<float>(), c_.bytes() / 4, 3));
    if (!is_fp8()) {
      const auto fill = test_.dtype_ab == DGRT_FP16 ? lab::fill_normal_fp16 : lab::fill_normal_bf16;
      DGRT_TRY(fill(lab, a_.data(), a_.bytes() / 2, 1, 1.0f));
      DGRT_TRY(fill(lab, b_.data(), b_.bytes() / 2, 2, 1.0f));
      return lab.synchronize();
    }
    ld_a_scale_ = round_up(test_.m, 4) + test_.pad, ld_b_scale_ = round_up(test_.n, 4) + test_.pad;
    DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(lab, k_ / 128 * ld_a_scale_ * 4));
    DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(lab, k_ / 128 * ld_b_scale_ * 4));
    DGRT_TRY(lab::fill_normal_e4m3(lab, a_.data(), a_.bytes(), 1));
    DGRT_TRY(lab::fill_normal_e4m3(lab, b_.data(), b_.bytes(), 2));
    DGRT_TRY(lab::fill_scales(lab, a_scale_.as<float>(), a_scale_.bytes() / 4, 4));
    DGRT_TRY(lab::fill_scales(lab, b_scale_.as<float>(), b_scale_.bytes() / 4, 5));
    return lab.synchronize();
  }

  // Poisoned, or c's contents.
  Status prepare(const lab::DeviceBuffer& d) const {
    if (!test_.with_c || !test_.in_place) return d.poison();
    DGRT_CU(gpu_->lab->driver(), cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(d.data()),
                                                   reinterpret_cast<CUdeviceptr>(c_.data()),
                                                   d.bytes(), gpu_->lab->stream()));
    return gpu_->lab->synchronize();
  }

  dgrt_gemm_grouped_k_args args(const lab::DeviceBuffer& d) const {
    dgrt_gemm_grouped_k_args x = DGRT_GEMM_GROUPED_K_ARGS;
    x.a = a_.data(), x.b = b_.data(), x.d = d.data();
    x.ks = ks_.as<int32_t>();
    x.k = k_;
    x.lda = lda_, x.ldb = ldb_, x.ldd = ldd_;
    x.d_group_stride = test_.m * ldd_;
    if (test_.with_c) {
      x.c = test_.in_place ? d.data() : c_.data();
      x.ldc = ldd_, x.c_group_stride = x.d_group_stride;
    }
    if (is_fp8()) {
      x.a_scale = a_scale_.as<float>(), x.b_scale = b_scale_.as<float>();
      x.ld_a_scale = ld_a_scale_, x.ld_b_scale = ld_b_scale_;
    }
    return x;
  }

  Status check_surroundings() const {
    for (const lab::DeviceBuffer* buffer : {&a_, &b_, &c_, &d_}) DGRT_TRY(buffer->check_guards());
    DGRT_TRY(plan_.check_guards());
    const uint64_t rows = static_cast<uint64_t>(test_.m) * test_.ks.size(), row = ldd_ * 4;
    return lab::check_untouched(*gpu_->lab,
                                {d_.data(), rows, row, static_cast<uint64_t>(test_.n) * 4, row},
                                test_.with_c && test_.in_place ? c_.data() : nullptr);
  }

  Status check_group(uint32_t g, double* worst) const {
    dgrt_gemm_grouped_k_args x = args(d_);
    if (test_.with_c) x.c = c_.data();  // d's contents before
    const lab::GemmProduct product = lab::product_of(desc_, x, test_.ks, g);
    const auto tiles = lab::sample_tiles(static_cast<uint64_t>(test_.m),
                                         static_cast<uint64_t>(test_.n), max_checked_tiles, g);
    DGRT_ASSIGN(const lab::GemmError found, lab::check_gemm(*gpu_->lab, product, tiles));
    *worst = std::max(*worst, found.calc_diff);
    const Status status = lab::check_limits(found, lab::gemm_limits(product));
    if (status.is_ok()) return ok();
    return error(status.code(), "group {}: {}", g, status.message());
  }

  Gpu* gpu_ = nullptr;
  GroupedKCase test_;
  dgrt_gemm_grouped_k_desc desc_{};
  int64_t k_ = 0, lda_ = 0, ldb_ = 0, ldd_ = 0, ld_a_scale_ = 0, ld_b_scale_ = 0;
  Plan plan_;
  lab::DeviceBuffer a_, b_, c_, d_, again_, a_scale_, b_scale_, ks_;
};

}  // namespace

std::string GroupedKCase::name() const {
  std::string text = fmt::format("gemm_grouped_k {} m={} n={} ks=",
                                 dtype_ab == DGRT_E4M3   ? "e4m3"
                                 : dtype_ab == DGRT_FP16 ? "fp16"
                                                         : "bf16",
                                 m, n);
  for (size_t i = 0; i < ks.size(); ++i) text += fmt::format("{}{}", i ? "," : "", ks[i]);
  if (with_c) text += in_place ? " c=d" : " c";
  if (pad != 0) text += fmt::format(" pad={}", pad);
  if (spare_k != 0) text += fmt::format(" spare_k={}", spare_k);
  if (sm_budget != 0) text += fmt::format(" sm_budget={}", sm_budget);
  if (repeats != 1) text += fmt::format(" repeats={}", repeats);
  return text;
}

void run_grouped_k_cases(Gpu& gpu, const std::vector<GroupedKCase>& cases) {
  for (const GroupedKCase& test : cases)
    run_case(test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const Run run, Run::make(gpu, test));
      return run.check();
    });
}

}  // namespace dgrt::test
