// Ways of launching a gemm: graphs, threads, dependent launches.
#include <algorithm>
#include <thread>

#include "tests/gpu/gemm_runner.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

// x -> x * transpose(b), several times over, each time from the last result. Square, so that
// results are operands.
class Chain {
 public:
  static constexpr int64_t size = 512, m = 129, num_steps = 6;

  static Result<Chain> make(Gpu& gpu, dgrt_dtype dtype_ab, uint32_t flags) {
    Chain chain;
    chain.gpu_ = &gpu;
    chain.fp8_ = dtype_ab == DGRT_E4M3;
    DGRT_TRY(chain.make_plans(dtype_ab, flags));
    DGRT_TRY(chain.allocate());
    return chain;
  }

  // `wait`: for the device after each launch.
  Status run(bool wait) const {
    const CUstream stream = gpu_->lab->stream();
    for (int64_t step = 0; step < num_steps; ++step) {
      if (fp8_) {
        dgrt_quant_fp8_args q = DGRT_QUANT_FP8_ARGS;
        q.x = x_[step].data(), q.q = q_.data(), q.scale = a_scale_.as<float>();
        q.m = m, q.ldx = size, q.ldq = size, q.ld_scale = ld_a_scale;
        DGRT_TRY(quant_.launch(&q.op, stream));
        if (wait) DGRT_TRY(gpu_->lab->synchronize());
      }
      dgrt_gemm_args g = DGRT_GEMM_ARGS;
      g.a = fp8_ ? q_.data() : x_[step].data();
      g.b = b_.data(), g.d = x_[step + 1].data();
      g.m = m, g.lda = size, g.ldb = size, g.ldd = size;
      if (fp8_) {
        g.a_scale = a_scale_.as<float>(), g.b_scale = b_scale_.as<float>();
        g.ld_a_scale = ld_a_scale, g.ld_b_scale = size / 128;
      }
      DGRT_TRY(gemm_.launch(&g.op, stream));
      if (wait) DGRT_TRY(gpu_->lab->synchronize());
    }
    return gpu_->lab->synchronize();
  }
  const lab::DeviceBuffer& x(int64_t step) const { return x_[step]; }

 private:
  static constexpr int64_t ld_a_scale = (m + 3) / 4 * 4;

  Status make_plans(dgrt_dtype dtype_ab, uint32_t flags) {
    dgrt_gemm_desc desc = DGRT_GEMM_DESC;
    desc.n = size, desc.k = size, desc.max_m = max_test_m;
    desc.dtype_ab = dtype_ab, desc.dtype_d = DGRT_BF16;
    desc.scale_mode = fp8_ ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
    desc.flags = flags;
    DGRT_ASSIGN(gemm_, Plan::make(*gpu_, &desc.op));
    if (!fp8_) return ok();
    dgrt_quant_fp8_desc quant = DGRT_QUANT_FP8_DESC;
    quant.k = size, quant.max_m = max_test_m;
    quant.block = DGRT_QUANT_1X128, quant.scale_major = DGRT_MN_MAJOR;
    quant.flags = flags;
    DGRT_ASSIGN(quant_, Plan::make(*gpu_, &quant.op));
    return ok();
  }

  Status allocate() {
    const lab::Device& lab = *gpu_->lab;
    for (int64_t i = 0; i <= num_steps; ++i) {
      DGRT_ASSIGN(lab::DeviceBuffer x, lab::DeviceBuffer::make(lab, m * size * 2));
      x_.push_back(std::move(x));
    }
    DGRT_TRY(lab::fill_normal_bf16(lab, x_[0].data(), m * size, 21));
    DGRT_ASSIGN(b_, lab::DeviceBuffer::make(lab, size * size * (fp8_ ? 1 : 2)));
    if (!fp8_) return lab::fill_normal_bf16(lab, b_.data(), size * size, 22, 0.05f);
    DGRT_TRY(lab::fill_normal_e4m3(lab, b_.data(), size * size, 22));
    DGRT_ASSIGN(q_, lab::DeviceBuffer::make(lab, m * size));
    DGRT_ASSIGN(a_scale_, lab::DeviceBuffer::make(lab, ld_a_scale * (size / 128) * 4));
    const uint64_t num_scales = (size / 128) * (size / 128);
    DGRT_ASSIGN(b_scale_, lab::DeviceBuffer::make(lab, num_scales * 4));
    return lab::fill_scales(lab, b_scale_.as<float>(), num_scales, 23, 2e-4f, 4e-4f);
  }

  Gpu* gpu_ = nullptr;
  bool fp8_ = false;
  Plan gemm_, quant_;
  std::vector<lab::DeviceBuffer> x_;
  lab::DeviceBuffer b_, q_, a_scale_, b_scale_;
};

// One thread of test_threads: many launches into its own d, of which the last is compared with
// `want`.
Status launch_often(const Gpu& gpu, const GemmRun& run, int64_t m, const lab::DeviceBuffer& want,
                    const lab::DeviceBuffer& d, const lab::DeviceBuffer& workspace) {
  DGRT_TRY(gpu.lab->make_current());
  DGRT_ASSIGN(const lab::Stream stream, lab::Stream::make(*gpu.lab));
  const dgrt_gemm_args args = run.args_into(d, m);
  for (int i = 0; i < 50; ++i) DGRT_TRY(run.plan().launch(&args.op, workspace, stream.get()));
  DGRT_TRY(stream.synchronize());
  DGRT_ASSIGN(const int64_t at,
              lab::first_difference(*gpu.lab, want.data(), d.data(), want.bytes()));
  if (at < 0) return ok();
  return error(DGRT_INTERNAL, "byte {} differs from a launch on its own", at);
}

}  // namespace

void test_graph_replay(Gpu& gpu, const GemmCase& test) {
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(GemmRun run, GemmRun::make(gpu, test));
    DGRT_ASSIGN(const lab::DeviceBuffer second, run.make_d());
    const int64_t m = test.m.front(), second_m = test.m.back();
    const dgrt_gemm_args args = run.args(m), second_args = run.args_into(second, second_m);
    DGRT_ASSIGN(const lab::DeviceBuffer workspace, run.plan().make_workspace(gpu));
    DGRT_TRY(gpu.lab->synchronize());
    Graph graph(gpu.lab->driver());
    DGRT_TRY(capture(&graph, gpu.lab->stream(), [&]() -> Status {
      DGRT_TRY(run.plan().launch(&args.op, workspace, gpu.lab->stream()));
      return run.plan().launch(&second_args.op, workspace, gpu.lab->stream());
    }));
    run.drop_plan();
    std::string summary;
    for (const uint64_t seed : {1, 2}) {
      DGRT_TRY(run.refill(seed));
      DGRT_TRY(run.prepare_d(run.d()));
      DGRT_TRY(run.prepare_d(second));
      DGRT_CU(gpu.lab->driver(), cuGraphLaunch(graph.exec, gpu.lab->stream()));
      DGRT_TRY(run.check_d(run.d(), m, &summary));
      DGRT_TRY(run.check_d(second, second_m, &summary));
    }
    return summary;
  });
}

void test_threads(Gpu& gpu, const GemmCase& test) {
  run_case("4 threads: " + test.name(), [&]() -> Result<std::string> {
    constexpr size_t num_threads = 4;
    DGRT_ASSIGN(const GemmRun run, GemmRun::make(gpu, test));
    std::vector<lab::DeviceBuffer> want, d, workspaces;
    std::vector<int64_t> m;
    for (size_t i = 0; i < num_threads; ++i) {
      m.push_back(test.m[i % test.m.size()]);
      for (std::vector<lab::DeviceBuffer>* list : {&want, &d}) {
        DGRT_ASSIGN(lab::DeviceBuffer buffer, run.make_d());
        list->push_back(std::move(buffer));
      }
      DGRT_ASSIGN(lab::DeviceBuffer workspace, run.plan().make_workspace(gpu));
      workspaces.push_back(std::move(workspace));
      DGRT_TRY(run.prepare_d(want[i]));
      DGRT_TRY(run.prepare_d(d[i]));
      const dgrt_gemm_args args = run.args_into(want[i], m[i]);
      DGRT_TRY(run.plan().launch(&args.op, gpu.lab->stream()));
    }
    DGRT_TRY(gpu.lab->synchronize());
    std::vector<Status> statuses(num_threads);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < num_threads; ++i)
      threads.emplace_back(
          [&, i] { statuses[i] = launch_often(gpu, run, m[i], want[i], d[i], workspaces[i]); });
    for (std::thread& thread : threads) thread.join();
    for (const Status& status : statuses) DGRT_TRY(status);
    return std::string("bitwise equal");
  });
}

void test_dependent_launch(Gpu& gpu, dgrt_dtype dtype_ab) {
  const char* name = dtype_ab == DGRT_E4M3 ? "dependent launch: quant_fp8 and gemm e4m3 in turn"
                                           : "dependent launch: gemm bf16";
  run_case(name, [&]() -> Result<std::string> {
    DGRT_ASSIGN(const Chain one_by_one, Chain::make(gpu, dtype_ab, 0));
    DGRT_ASSIGN(const Chain chained, Chain::make(gpu, dtype_ab, DGRT_FLAG_PDL));
    DGRT_TRY(one_by_one.run(true));
    for (int repeat = 0; repeat < 20; ++repeat) {
      for (int64_t step = 1; step <= Chain::num_steps; ++step) DGRT_TRY(chained.x(step).poison());
      DGRT_TRY(gpu.lab->synchronize());
      DGRT_TRY(chained.run(false));
      for (int64_t step = 1; step <= Chain::num_steps; ++step) {
        const lab::DeviceBuffer& want = one_by_one.x(step);
        DGRT_ASSIGN(const int64_t at, lab::first_difference(*gpu.lab, want.data(),
                                                            chained.x(step).data(), want.bytes()));
        if (at >= 0)
          return error(DGRT_INTERNAL, "repeat {}: step {} differs at byte {}", repeat, step, at);
      }
    }
    return std::string("bitwise equal");
  });
}

}  // namespace dgrt::test
