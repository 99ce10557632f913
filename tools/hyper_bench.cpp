#include "tools/hyper_bench.h"

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_hc_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20253;  // of the inputs; any will do

int64_t padded(int64_t n) { return (n + 7) / 8 * 8; }

Status to_status(dgrt_status status) {
  return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
}

// Final sums: num_splits 0, the library decides.
class HcPrenormBench final : public OpBench {
 public:
  HcPrenormBench(const BenchHost& host, const dgrt_hc_prenorm_desc& desc)
      : OpBench(host), context_(host.context), desc_(desc) {}

  Status init() {
    const uint64_t num_f = desc_.n * desc_.k, num_x = desc_.max_m * desc_.k;
    DGRT_ASSIGN(f_, lab::DeviceBuffer::make(device(), num_f * sizeof(float)));
    DGRT_ASSIGN(w_, lab::DeviceBuffer::make(device(), 2 * padded(desc_.n) * desc_.k * 2));
    DGRT_ASSIGN(x_, lab::DeviceBuffer::make(device(), num_x * 2));
    DGRT_TRY(lab::fill_normal_f32(device(), f_.as<float>(), num_f, seed, 0.006f));
    DGRT_TRY(lab::fill_normal_bf16(device(), x_.data(), num_x, seed + 1));
    return make_w();
  }
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status make_w() {
    dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
    desc.n = desc_.n;
    desc.k = desc_.k;
    dgrt_plan* plan = nullptr;
    DGRT_TRY(to_status(dgrt_hc_prenorm_weights_plan_create(context_, &desc, &plan)));
    dgrt_hc_prenorm_weights_args args = DGRT_HC_PRENORM_WEIGHTS_ARGS;
    args.f = f_.as<float>();
    args.w = w_.data();
    args.ldf = desc_.k;
    const Status status =
        to_status(dgrt_hc_prenorm_weights_launch(plan, &args, nullptr, 0, device().stream()));
    dgrt_plan_destroy(plan);
    DGRT_TRY(status);
    return device().synchronize();
  }
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_context* context_;
  dgrt_hc_prenorm_desc desc_;
  dgrt_hc_prenorm_args args_ = DGRT_HC_PRENORM_ARGS;
  lab::DeviceBuffer x_, f_, w_, z_, q_;
};

Result<const dgrt_args*> HcPrenormBench::prepare(int64_t m) {
  DGRT_ASSIGN(z_, lab::DeviceBuffer::make(device(), m * desc_.n * sizeof(float)));
  DGRT_ASSIGN(q_, lab::DeviceBuffer::make(device(), m * sizeof(float)));
  args_.x = x_.data();
  args_.w = w_.data();
  args_.z = z_.as<float>();
  args_.q = q_.as<float>();
  args_.m = m;
  args_.ldx = desc_.k;
  args_.ldz = desc_.n;
  return &args_.op;
}

Status HcPrenormBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer : {&x_, &f_, &w_, &z_, &q_})
    DGRT_TRY(buffer->check_guards());
  DGRT_ASSIGN(const std::vector<double> reference,
              lab::reference_sums(device(), desc_, args_, f_.as<float>(), desc_.k));
  DGRT_ASSIGN(const std::vector<float> z, z_.download_all<float>());
  DGRT_ASSIGN(const std::vector<float> q, q_.download_all<float>());
  DGRT_ASSIGN(const lab::HcError error, lab::check_hc_prenorm(desc_, args_, reference, z, q));
  check->elements = error.checked;
  check->errors = {
      {"calc_diff", error.calc_diff}, {"worst_tile", error.worst_tile}, {"worst_q", error.worst_q}};
  return ok();
}

BenchCost HcPrenormBench::cost(int64_t m) const {
  const double n = static_cast<double>(desc_.n), k = static_cast<double>(desc_.k);
  BenchCost cost;
  cost.bytes = 2.0 * m * k + sizeof(float) * (n * k + m * (n + 1));
  return cost;
}

class HcPrenormWeightsBench final : public OpBench {
 public:
  HcPrenormWeightsBench(const BenchHost& host, const dgrt_hc_prenorm_weights_desc& desc)
      : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t) override {
    const uint64_t num_f = desc_.n * desc_.k;
    DGRT_ASSIGN(f_, lab::DeviceBuffer::make(device(), num_f * sizeof(float)));
    DGRT_ASSIGN(w_, lab::DeviceBuffer::make(device(), 2 * padded(desc_.n) * desc_.k * 2));
    DGRT_TRY(lab::fill_normal_f32(device(), f_.as<float>(), num_f, seed));
    args_.f = f_.as<float>();
    args_.w = w_.data();
    args_.ldf = desc_.k;
    return &args_.op;
  }

 private:
  Status check(BenchCheck* check) const override {
    check->elements = w_.bytes() / 2;
    for (const lab::DeviceBuffer* buffer : {&f_, &w_}) DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(const std::vector<float> f, f_.download_all<float>());
    DGRT_ASSIGN(const std::vector<uint16_t> w, w_.download_all<uint16_t>());
    return lab::check_hc_prenorm_weights(desc_, args_.ldf, f, w);
  }
  BenchCost cost(int64_t) const override {
    BenchCost cost;
    cost.bytes = 4.0 * static_cast<double>((desc_.n + padded(desc_.n)) * desc_.k);
    return cost;
  }

  dgrt_hc_prenorm_weights_desc desc_;
  dgrt_hc_prenorm_weights_args args_ = DGRT_HC_PRENORM_WEIGHTS_ARGS;
  lab::DeviceBuffer f_, w_;
};

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_hc_prenorm_desc& desc) {
  return make_op_bench<HcPrenormBench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_hc_prenorm_weights_desc& desc) {
  return make_op_bench<HcPrenormWeightsBench>(host, desc);
}

}  // namespace dgrt
