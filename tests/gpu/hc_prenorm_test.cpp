// hc_prenorm against a reference in fp64: models' sizes, tails, splits, strides, what is not finite;
// and bit for bit against itself: repeats, graphs, dependent launches, other batches.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()
#include "tools/lib/lab_hc_check.h"

namespace dgrt::test {
namespace {

struct HcCase {
  int64_t n = 24, k = 0, max_m = 0, max_splits = 16;
  uint32_t flags = 0;
  int64_t pad = 0;  // columns of 16 bytes between rows of x and z, and rows between splits

  std::string name() const {
    return fmt::format("hc_prenorm n={} k={}{}{}{}", n, k,
                       pad != 0 ? fmt::format(" pad={}", pad) : "",
                       (flags & DGRT_FLAG_PDL) != 0 ? " pdl" : "",
                       (flags & DGRT_FLAG_BATCH_INVARIANT) != 0 ? " batch-invariant" : "");
  }
};

// Inputs for up to max_m rows, w made by hc_prenorm_weights, and a plan.
class HcRun {
 public:
  static Result<HcRun> make(Gpu& gpu, const HcCase& test, float x_sigma = 1.0f) {
    HcRun run;
    run.gpu_ = &gpu;
    run.test_ = test;
    run.desc_.n = test.n, run.desc_.k = test.k, run.desc_.max_m = test.max_m;
    run.desc_.max_splits = test.max_splits, run.desc_.flags = test.flags;
    const lab::Device& lab = *gpu.lab;
    const int64_t padded = (test.n + 7) / 8 * 8;
    DGRT_ASSIGN(run.x_, lab::DeviceBuffer::make(lab, test.max_m * run.ldx() * 2));
    DGRT_ASSIGN(run.f_, lab::DeviceBuffer::make(lab, test.n * test.k * 4));
    DGRT_ASSIGN(run.w_, lab::DeviceBuffer::make(lab, 2 * padded * test.k * 2));
    DGRT_TRY(run.fill(1, x_sigma));
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    return run;
  }

  // Other inputs in the same places.
  Status fill(uint64_t seed, float x_sigma = 1.0f) const {
    const lab::Device& lab = *gpu_->lab;
    DGRT_TRY(lab::fill_normal_bf16(lab, x_.data(), test_.max_m * ldx(), seed, x_sigma));
    DGRT_TRY(lab::fill_normal_f32(lab, f_.as<float>(), test_.n * test_.k, seed + 1, 0.006f));
    return make_w();
  }

  Status make_w() const {
    dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
    desc.n = test_.n, desc.k = test_.k;
    DGRT_ASSIGN(const Plan plan, Plan::make(*gpu_, &desc.op));
    dgrt_hc_prenorm_weights_args args = DGRT_HC_PRENORM_WEIGHTS_ARGS;
    args.f = f_.as<float>(), args.w = w_.data(), args.ldf = test_.k;
    DGRT_TRY(plan.launch(&args.op, gpu_->lab->stream()));
    return gpu_->lab->synchronize();
  }

  // Outputs of one call, poisoned.
  struct Outputs {
    lab::DeviceBuffer z, q;
    dgrt_hc_prenorm_args args = DGRT_HC_PRENORM_ARGS;
  };
  Result<Outputs> outputs(int64_t m, int64_t num_splits) const {
    Outputs out;
    dgrt_hc_prenorm_args& x = out.args;
    x.x = x_.data(), x.w = w_.data();
    x.m = m, x.num_splits = num_splits, x.ldx = ldx(), x.ldz = test_.n + 4 * test_.pad;
    x.z_split_stride = (m + test_.pad) * x.ldz, x.q_split_stride = m + test_.pad;
    const int64_t splits = std::max<int64_t>(num_splits, 1);
    DGRT_ASSIGN(out.z, lab::DeviceBuffer::make(*gpu_->lab, splits * x.z_split_stride * 4));
    DGRT_ASSIGN(out.q, lab::DeviceBuffer::make(*gpu_->lab, splits * x.q_split_stride * 4));
    x.z = out.z.as<float>(), x.q = out.q.as<float>();
    return out;
  }

  Result<std::string> check(const Outputs& out) const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&x_, &f_, &w_, &out.z, &out.q})
      DGRT_TRY(buffer->check_guards());
    DGRT_TRY(check_state());
    DGRT_ASSIGN(const std::vector<double> reference,
                lab::reference_sums(*gpu_->lab, desc_, out.args, f_.as<float>(), test_.k));
    DGRT_ASSIGN(const std::vector<float> z, out.z.download_all<float>());
    DGRT_ASSIGN(const std::vector<float> q, out.q.download_all<float>());
    const Result<lab::HcError> error = lab::check_hc_prenorm(desc_, out.args, reference, z, q);
    const std::string call = fmt::format("m={} splits={}", out.args.m, out.args.num_splits);
    if (!error.is_ok())
      return Status(error.status().code(), call + ": " + error.status().message());
    return call + " " + error.value().to_string();
  }

  Result<std::string> launch_and_check(int64_t m, int64_t num_splits) const {
    DGRT_ASSIGN(const Outputs out, outputs(m, num_splits));
    if (m > 0) DGRT_TRY(plan_.kernel_name(&out.args.op).status());
    DGRT_TRY(plan_.launch(&out.args.op, gpu_->lab->stream()));
    return check(out);
  }

  // The workspace's start must be zero again, and nothing beyond its end written.
  Status check_state() const {
    dgrt_plan_info info = DGRT_PLAN_INFO;
    DGRT_TRY(to_status(dgrt_plan_get_info(plan_.get(), &info)));
    if (info.workspace_bytes == 0) return ok();
    DGRT_TRY(plan_.check_guards());
    std::vector<unsigned char> state(info.state_bytes);
    DGRT_TRY(plan_.workspace().download(state.data(), state.size()));
    for (size_t i = 0; i < state.size(); ++i)
      if (state[i] != 0) return error(DGRT_INTERNAL, "byte {} of the state is not zero", i);
    return ok();
  }

  const Plan& plan() const { return plan_; }
  const lab::DeviceBuffer& x() const { return x_; }
  const lab::DeviceBuffer& f() const { return f_; }
  int64_t ldx() const { return test_.k + 8 * test_.pad; }

 private:
  Gpu* gpu_ = nullptr;
  HcCase test_;
  dgrt_hc_prenorm_desc desc_ = DGRT_HC_PRENORM_DESC;
  lab::DeviceBuffer x_, f_, w_;
  Plan plan_;
};

void run_sizes(Gpu& gpu, const HcCase& test, const std::vector<int64_t>& m,
               const std::vector<int64_t>& splits) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const HcRun run, HcRun::make(gpu, test));
    std::string details;
    for (const int64_t rows : m)
      for (const int64_t num_splits : splits) {
        DGRT_ASSIGN(const std::string detail, run.launch_and_check(rows, num_splits));
        details += (details.empty() ? "" : "; ") + detail;
      }
    return details;
  });
}

// INTERNAL: the first `z_bytes` and `q_bytes` differ.
Status check_equal(const Gpu& gpu, const HcRun::Outputs& want, const HcRun::Outputs& got,
                   uint64_t z_bytes, uint64_t q_bytes) {
  DGRT_TRY(gpu.lab->synchronize());
  DGRT_ASSIGN(const int64_t z,
              lab::first_difference(*gpu.lab, want.z.data(), got.z.data(), z_bytes));
  DGRT_ASSIGN(const int64_t q,
              lab::first_difference(*gpu.lab, want.q.data(), got.q.data(), q_bytes));
  if (z < 0 && q < 0) return ok();
  return error(DGRT_INTERNAL, "m={} splits={}: byte {} of z, {} of q differs (-1: none)",
               got.args.m, got.args.num_splits, z, q);
}

}  // namespace

TEST_CASE("hc_prenorm: sizes of models", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: sizes of models");
  if (!gpu) return;
  for (const int64_t k : {7168, 7680, 16384, 20480, 28672})
    run_sizes(*gpu, {24, k, 8192}, {0, 1, 13, 64, 137, 512, 2048, 4096, 8192}, {0, 1, 16});
  run_sizes(*gpu, {4, 28672, 1024}, {1, 64, 1000}, {0, 1, 16});
}

TEST_CASE("hc_prenorm: every n, tails, rows further apart than they are long", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: every n, tails, rows further apart than they are long");
  if (!gpu) return;
  for (const int64_t n : {4, 8, 12, 16, 20, 24, 28, 32})
    for (const int64_t k : {64, 192, 1088}) {
      if (k != 192 && n != 4 && n != 24 && n != 32) continue;
      run_sizes(*gpu, {n, k, 600, 300, 0, n % 8 == 0 ? 3 : 0},
                {1, 15, 17, 31, 33, 63, 65, 127, 129, 191, 193, 257, 385, 600}, {0, 1, 7, 300});
    }
}

TEST_CASE("hc_prenorm: more than 2^31 elements", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: more than 2^31 elements");
  if (!gpu) return;
  run_sizes(*gpu, {24, 28672, 74899, 2}, {74899}, {0, 2});
}

TEST_CASE("hc_prenorm: batch-invariant, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: batch-invariant, bitwise");
  if (!gpu) return;
  for (const int64_t k : {7168, 28672}) {
    // From 8449 rows on an H100 has a tile for each SM, and each CTA adds up all parts itself.
    const HcCase test{24, k, 9000, 16, DGRT_FLAG_BATCH_INVARIANT};
    run_case(test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const HcRun run, HcRun::make(*gpu, test));
      DGRT_ASSIGN(const HcRun::Outputs want, run.outputs(9000, 0));
      DGRT_TRY(run.plan().launch(&want.args.op, gpu->lab->stream()));
      DGRT_ASSIGN(const std::string detail, run.check(want));
      for (const int64_t m :
           {1, 2, 7, 63, 64, 65, 127, 128, 129, 511, 512, 1000, 4097, 8448, 8449}) {
        DGRT_ASSIGN(const HcRun::Outputs got, run.outputs(m, 0));
        DGRT_TRY(run.plan().launch(&got.args.op, gpu->lab->stream()));
        DGRT_TRY(check_equal(*gpu, want, got, m * 24 * 4, m * 4));
      }
      return detail;
    });
  }
}

namespace {

// 1000 launches, each into outputs of its own, each compared with the first.
Status repeat_often(const Gpu& gpu, const HcRun& run, int64_t m, int64_t num_splits) {
  constexpr size_t num_slots = 20, num_rounds = 50;
  DGRT_ASSIGN(const lab::Stream side, lab::Stream::make(*gpu.lab));
  DGRT_ASSIGN(const HcRun::Outputs first, run.outputs(m, num_splits));
  DGRT_TRY(run.plan().launch(&first.args.op, gpu.lab->stream()));
  DGRT_TRY(run.check(first).status());
  DGRT_ASSIGN(const std::vector<uint32_t> want_z, first.z.download_all<uint32_t>());
  DGRT_ASSIGN(const std::vector<uint32_t> want_q, first.q.download_all<uint32_t>());
  DGRT_ASSIGN(const lab::DeviceBuffer z,
              lab::DeviceBuffer::make(*gpu.lab, num_slots * first.z.bytes()));
  DGRT_ASSIGN(const lab::DeviceBuffer q,
              lab::DeviceBuffer::make(*gpu.lab, num_slots * first.q.bytes()));
  dgrt_hc_prenorm_args args = first.args;
  for (size_t round = 0; round < num_rounds; ++round) {
    DGRT_TRY(z.poison());
    DGRT_TRY(q.poison());
    DGRT_TRY(gpu.lab->synchronize());
    for (size_t slot = 0; slot < num_slots; ++slot) {
      args.z = z.as<float>() + slot * want_z.size();
      args.q = q.as<float>() + slot * want_q.size();
      DGRT_TRY(run.plan().launch(&args.op, side.get()));
    }
    DGRT_TRY(side.synchronize());
    DGRT_ASSIGN(const std::vector<uint32_t> got_z, z.download_all<uint32_t>());
    DGRT_ASSIGN(const std::vector<uint32_t> got_q, q.download_all<uint32_t>());
    for (size_t slot = 0; slot < num_slots; ++slot)
      if (!std::equal(want_z.begin(), want_z.end(), got_z.begin() + slot * want_z.size()) ||
          !std::equal(want_q.begin(), want_q.end(), got_q.begin() + slot * want_q.size()))
        return error(DGRT_INTERNAL, "m={} splits={}: repeat {} differs", m, num_splits,
                     round * num_slots + slot);
  }
  return run.check_state();
}

}  // namespace

TEST_CASE("hc_prenorm: 1000 repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: 1000 repeats, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL}) {
    const HcCase test{24, 28672, 2048, 16, flags};
    run_case("1000 repeats: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const HcRun run, HcRun::make(*gpu, test));
      for (const int64_t m : {13, 137, 512, 2048}) DGRT_TRY(repeat_often(*gpu, run, m, 0));
      DGRT_TRY(repeat_often(*gpu, run, 137, 16));
      return std::string("bitwise equal");
    });
  }
}

TEST_CASE("hc_prenorm: graph replay with other inputs", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: graph replay with other inputs");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL}) {
    const HcCase test{24, 7168, 512, 16, flags};
    run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const HcRun run, HcRun::make(*gpu, test));
      DGRT_ASSIGN(const HcRun::Outputs first, run.outputs(137, 0));
      DGRT_ASSIGN(const HcRun::Outputs second, run.outputs(13, 16));
      DGRT_ASSIGN(const HcRun::Outputs third, run.outputs(512, 0));
      DGRT_TRY(gpu->lab->synchronize());
      Graph graph(gpu->lab->driver());
      const CUstream stream = gpu->lab->stream();
      DGRT_TRY(capture(&graph, stream, [&]() -> Status {
        for (const HcRun::Outputs* out : {&first, &second, &third})
          DGRT_TRY(run.plan().launch(&out->args.op, stream));
        return ok();
      }));
      std::string details;
      for (const uint64_t seed : {11, 12}) {
        DGRT_TRY(run.fill(seed));
        for (const HcRun::Outputs* out : {&first, &second, &third}) {
          DGRT_TRY(out->z.poison());
          DGRT_TRY(out->q.poison());
        }
        DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, stream));
        for (const HcRun::Outputs* out : {&first, &second, &third}) {
          DGRT_ASSIGN(const std::string detail, run.check(*out));
          details += (details.empty() ? "" : "; ") + detail;
        }
      }
      return details;
    });
  }
}

TEST_CASE("hc_prenorm: zeros, infinities and NaN", "[gpu]") {
  Gpu* gpu = gpu_for("hc_prenorm: zeros, infinities and NaN");
  if (!gpu) return;
  run_case("hc_prenorm: all rows zero", [&]() -> Result<std::string> {
    DGRT_ASSIGN(const HcRun run, HcRun::make(*gpu, {24, 7168, 137}, 0.0f));
    return run.launch_and_check(137, 0);
  });
  run_case("hc_prenorm: not finite", [&]() -> Result<std::string> {
    DGRT_ASSIGN(const HcRun run, HcRun::make(*gpu, {24, 7168, 137}));
    const uint16_t infinity = 0x7f80, nan = 0x7fc0, minus_infinity = 0xff80;
    DGRT_TRY(run.x().upload(&infinity, 2, (3 * run.ldx() + 7167) * 2));
    DGRT_TRY(run.x().upload(&nan, 2, (64 * run.ldx() + 1) * 2));
    DGRT_TRY(run.x().upload(&minus_infinity, 2, (136 * run.ldx() + 4000) * 2));
    const float weights[] = {HUGE_VALF, NAN};
    DGRT_TRY(run.f().upload(&weights[0], 4, (5 * 7168 + 77) * 4));
    DGRT_TRY(run.f().upload(&weights[1], 4, (23 * 7168 + 7000) * 4));
    DGRT_TRY(run.make_w());
    std::string details;
    for (const int64_t splits : {0, 1, 16}) {
      DGRT_ASSIGN(const std::string detail, run.launch_and_check(137, splits));
      details += (details.empty() ? "" : "; ") + detail;
    }
    return details;
  });
}

TEST_CASE("hc_prenorm: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("hc_prenorm: small sizes");
  if (!gpu) return;
  run_sizes(*gpu, {24, 1088, 130, 300, 0, 3}, {1, 20, 130}, {0, 1, 3});  // 17 blocks of k
}

}  // namespace dgrt::test
