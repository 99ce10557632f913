#include "tools/gemm_bench.h"

#include <cmath>

#include "tools/lib/lab_fill.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20251;          // of the operands; any will do
constexpr size_t num_checked_tiles = 96;  // of 64 x 64: corners, edges and a fixed selection

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t align4(int64_t m) { return ceil_div(m, 4) * 4; }  // rows of a_scale, gemm.h

uint64_t element_bytes(dgrt_dtype dtype) {
  return dtype == DGRT_E4M3 ? 1 : dtype == DGRT_FP32 ? 4 : 2;
}

Status to_status(dgrt_status status) {
  return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
}

}  // namespace

Result<std::unique_ptr<GemmBench>> GemmBench::make(const lab::Device& device, lab::Timer& timer,
                                                   dgrt_context* context,
                                                   const dgrt_gemm_desc& desc) {
  std::unique_ptr<GemmBench> bench(new GemmBench(device, timer, desc));
  DGRT_TRY(bench->make_plan(context));
  DGRT_TRY(bench->allocate());
  return bench;
}

GemmBench::~GemmBench() { dgrt_plan_destroy(plan_); }

Status GemmBench::make_plan(dgrt_context* context) {
  DGRT_TRY(to_status(dgrt_gemm_plan_create(context, &desc_, &plan_)));
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_, &info)));
  if (info.workspace_bytes == 0) return ok();
  DGRT_ASSIGN(workspace_, lab::DeviceBuffer::make(device_, ceil_div(info.workspace_bytes, 4) * 4));
  // The start of the workspace is state, which begins as zeros.
  return lab::fill_words(device_, workspace_.data(), workspace_.bytes() / 4, 0);
}

Status GemmBench::allocate() {
  const bool fp8 = desc_.dtype_ab == DGRT_E4M3;
  const uint64_t num_a = desc_.max_m * desc_.k, num_b = desc_.n * desc_.k;
  const uint64_t k_blocks = ceil_div(desc_.k, 128), n_blocks = ceil_div(desc_.n, 128);
  DGRT_ASSIGN(a_, lab::DeviceBuffer::make(device_, num_a * element_bytes(desc_.dtype_ab)));
  DGRT_ASSIGN(b_, lab::DeviceBuffer::make(device_, num_b * element_bytes(desc_.dtype_ab)));
  DGRT_ASSIGN(
      d_, lab::DeviceBuffer::make(device_, desc_.max_m * desc_.n * element_bytes(desc_.dtype_d)));
  if (!fp8) {
    DGRT_TRY(lab::fill_normal_bf16(device_, a_.data(), num_a, seed));
    return lab::fill_normal_bf16(device_, b_.data(), num_b, seed + 1);
  }
  const uint64_t num_a_scales = k_blocks * align4(desc_.max_m);
  DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(device_, num_a_scales * sizeof(float)));
  DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(device_, k_blocks * n_blocks * sizeof(float)));
  DGRT_TRY(lab::fill_normal_e4m3(device_, a_.data(), num_a, seed));
  DGRT_TRY(lab::fill_normal_e4m3(device_, b_.data(), num_b, seed + 1));
  DGRT_TRY(lab::fill_scales(device_, a_scale_.as<float>(), num_a_scales, seed + 2));
  return lab::fill_scales(device_, b_scale_.as<float>(), k_blocks * n_blocks, seed + 3);
}

dgrt_gemm_args GemmBench::args(int64_t m) const {
  dgrt_gemm_args args = DGRT_GEMM_ARGS;
  args.a = a_.data();
  args.b = b_.data();
  args.d = d_.data();
  args.m = m;
  args.lda = args.ldb = desc_.k;
  args.ldd = desc_.n;
  if (desc_.scale_mode == DGRT_SCALE_BLOCK) {
    args.a_scale = a_scale_.as<float>();
    args.b_scale = b_scale_.as<float>();
    args.ld_a_scale = align4(m);
    args.ld_b_scale = ceil_div(desc_.k, 128);
  }
  return args;
}

Status GemmBench::launch(const dgrt_gemm_args& args, CUstream stream) const {
  return to_status(dgrt_gemm_launch(plan_, &args, workspace_.data(), workspace_.bytes(), stream));
}

Status GemmBench::check(const dgrt_gemm_args& args, GemmRow* row) const {
  DGRT_TRY(d_.poison());
  DGRT_TRY(launch(args, device_.stream()));
  DGRT_TRY(device_.synchronize());
  const auto tiles = lab::sample_tiles(args.m, desc_.n, num_checked_tiles, seed);
  DGRT_ASSIGN(row->check, lab::check_gemm(device_, desc_, args, tiles));
  const lab::GemmLimits limits = lab::gemm_limits(desc_);
  row->is_right = row->check.calc_diff <= limits.calc_diff &&
                  row->check.worst_tile <= limits.worst_tile &&
                  row->check.worst_element <= limits.worst_element &&
                  row->check.class_mismatches == 0 && row->check.checked > 0;
  return d_.check_guards();
}

Result<GemmRow> GemmBench::run(int64_t m, uint32_t repeats) {
  GemmRow row;
  row.m = m;
  const dgrt_gemm_args args = this->args(m);
  dgrt_call_info call = DGRT_CALL_INFO;
  DGRT_TRY(to_status(dgrt_plan_query(plan_, &args.op, &call)));
  dgrt_plan_info plan = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_, &plan)));
  row.kernel = plan.kernels[call.kernel_idx].name;
  DGRT_TRY(check(args, &row));
  if (!row.is_right) return row;

  const lab::Operation operation = [&](CUstream stream) { return launch(args, stream); };
  DGRT_ASSIGN(row.cold, timer_.time(operation, repeats));
  DGRT_ASSIGN(row.graph, timer_.time_graph(operation, 20, repeats / 4));
  const double n = static_cast<double>(desc_.n), k = static_cast<double>(desc_.k);
  row.flops = 2.0 * m * n * k;
  row.bytes = (m + n) * k * element_bytes(desc_.dtype_ab) + m * n * element_bytes(desc_.dtype_d);
  if (desc_.scale_mode == DGRT_SCALE_BLOCK)
    row.bytes += sizeof(float) * ceil_div(desc_.k, 128) * (m + ceil_div(desc_.n, 128));
  return row;
}

}  // namespace dgrt
