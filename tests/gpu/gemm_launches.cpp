// Ways of launching a product: graphs, threads, dependent launches, few SMs, beside a consumer.
#include <algorithm>
#include <thread>

#include "tests/gpu/gemm_runner.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_consumer.cuh"
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
  const AnyGemmArgs args = run.args_into(d, m);
  for (int i = 0; i < 50; ++i) DGRT_TRY(run.plan().launch(op_of(args), workspace, stream.get()));
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
    const AnyGemmArgs args = run.args(m), second_args = run.args_into(second, second_m);
    DGRT_ASSIGN(const lab::DeviceBuffer workspace, run.plan().make_workspace(gpu));
    DGRT_TRY(gpu.lab->synchronize());
    Graph graph(gpu.lab->driver());
    DGRT_TRY(capture(&graph, gpu.lab->stream(), [&]() -> Status {
      DGRT_TRY(run.plan().launch(op_of(args), workspace, gpu.lab->stream()));
      return run.plan().launch(op_of(second_args), workspace, gpu.lab->stream());
    }));
    run.drop_plan();
    std::string summary;
    for (const uint32_t seed : {1, 2}) {
      DGRT_TRY(run.refill(seed));
      if (test.grouping != Grouping::none) DGRT_TRY(run.deal(m, seed));
      DGRT_TRY(run.prepare_d(run.d()));
      DGRT_TRY(run.prepare_d(second));
      DGRT_CU(gpu.lab->driver(), cuGraphLaunch(graph.exec, gpu.lab->stream()));
      for (const auto& [d, of_m] : {std::pair{&run.d(), m}, {&second, second_m}}) {
        if (test.grouping == Grouping::none) DGRT_TRY(run.deal(of_m));
        DGRT_TRY(run.check_d(*d, of_m, &summary));
      }
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
      const AnyGemmArgs args = run.args_into(want[i], m[i]);
      DGRT_TRY(run.plan().launch(op_of(args), gpu.lab->stream()));
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

void test_batch_invariance(Gpu& gpu, const GemmCase& test) {
  run_case("batch invariance: " + test.name(), [&]() -> Result<std::string> {
    GemmCase on_all = test, on_few = test;
    on_all.flags |= DGRT_FLAG_BATCH_INVARIANT;
    on_few.flags |= DGRT_FLAG_BATCH_INVARIANT;
    on_few.sm_budget = 57;
    DGRT_ASSIGN(GemmRun all, GemmRun::make(gpu, on_all));
    DGRT_ASSIGN(GemmRun few, GemmRun::make(gpu, on_few));
    const int64_t most = *std::max_element(test.m.begin(), test.m.end());
    DGRT_ASSIGN(const lab::DeviceBuffer want, all.make_d());
    DGRT_TRY(want.poison());
    DGRT_TRY(all.deal(most));
    const AnyGemmArgs want_args = all.args_into(want, most);
    DGRT_TRY(all.plan().launch(op_of(want_args), gpu.lab->stream()));
    std::string kernels;
    for (GemmRun* run : {&all, &few})
      for (const int64_t m : test.m) {
        DGRT_TRY(gpu.lab->synchronize());
        DGRT_TRY(run->deal(m));
        const AnyGemmArgs args = run->args(m);
        DGRT_ASSIGN(const std::string kernel, run->plan().kernel_name(op_of(args)));
        DGRT_TRY(run->d().poison());
        DGRT_TRY(run->plan().launch(op_of(args), gpu.lab->stream()));
        const int64_t rows = run->rows().counts.front();
        const uint64_t bytes = rows * run->ldd() * element_bytes(test.dtype_d);
        DGRT_ASSIGN(const int64_t at,
                    lab::first_difference(*gpu.lab, want.data(), run->d().data(), bytes));
        if (at >= 0)
          return error(DGRT_INTERNAL, "m={} {}: byte {} differs from what m={} gave", m, kernel, at,
                       most);
        kernels += fmt::format("m={} {}; ", m, kernel);
      }
    return kernels + "bitwise equal";
  });
}

namespace {

// The consumer of test_signal and what it writes.
struct Consumer {
  lab::DeviceBuffer copy, counts;  // counts: tiles waited for, tiles given up
  lab::consumer::Params params{};

  static Result<Consumer> make(const Gpu& gpu, const GemmRun& run, int64_t m) {
    Consumer consumer;
    DGRT_ASSIGN(consumer.copy, run.make_d());
    DGRT_ASSIGN(consumer.counts, lab::DeviceBuffer::make(*gpu.lab, 2 * sizeof(uint32_t)));
    const AnyGemmArgs any = run.args(m);
    DGRT_ASSIGN(const dgrt_call_info info, run.plan().query(op_of(any)));
    const auto& args = std::get<dgrt_gemm_grouped_masked_args>(any);
    const uint64_t words = element_bytes(run.test().dtype_d) / 2;
    lab::consumer::Params& p = consumer.params;
    p.signal = args.signal, p.masked_m = args.masked_m;
    p.d = static_cast<const uint16_t*>(args.d), p.copy = consumer.copy.as<uint16_t>();
    p.group_stride = args.d_group_stride * words, p.row_stride = args.ldd * words;
    p.num_groups = run.test().num_groups, p.m = static_cast<uint32_t>(m);
    p.block_m = info.block_m, p.row_words = static_cast<uint32_t>(run.test().n * words);
    p.threshold = static_cast<int32_t>(info.completion_threshold);
    p.max_tries = 2'000'000;
    p.num_waited = consumer.counts.as<uint32_t>(), p.num_given_up = p.num_waited + 1;
    return consumer;
  }
  // Few blocks, which fit beside the product.
  Status launch(const lab::Device& lab, CUstream stream) const {
    const lab::LabKernel kernel{"consumer", 0, lab::consumer::num_threads, sizeof(params)};
    return lab.launch(kernel, &params, 16, 1, stream);
  }
  Status clear(const lab::Device& lab) const {
    DGRT_TRY(copy.poison());
    return lab::fill_words(lab, counts.data(), 2, 0);
  }
};

}  // namespace

void test_signal(Gpu& gpu, const GemmCase& test) {
  run_case("signal: " + test.name(), [&]() -> Result<std::string> {
    const lab::Device& lab = *gpu.lab;
    const int64_t m = test.m.front();
    DGRT_ASSIGN(GemmRun run, GemmRun::make(gpu, test));
    DGRT_ASSIGN(const Consumer consumer, Consumer::make(gpu, run, m));
    DGRT_ASSIGN(const lab::Stream beside, lab::Stream::make(lab));
    const AnyGemmArgs args = run.args(m);
    uint32_t waited = 0;
    // The first round loads both kernels: one after the other.
    for (const bool at_once : {false, true, true, true}) {
      DGRT_TRY(run.prepare_d(run.d()));
      DGRT_TRY(consumer.clear(lab));
      DGRT_TRY(lab.synchronize());
      if (at_once) DGRT_TRY(consumer.launch(lab, beside.get()));
      DGRT_TRY(run.plan().launch(op_of(args), lab.stream()));
      if (!at_once) DGRT_TRY(lab.synchronize());
      if (!at_once) DGRT_TRY(consumer.launch(lab, beside.get()));
      DGRT_TRY(lab.synchronize());
      uint32_t counts[2] = {};
      DGRT_TRY(consumer.counts.download(counts, sizeof(counts)));
      if (counts[1] != 0) return error(DGRT_INTERNAL, "{} tiles were never signalled", counts[1]);
      waited += counts[0];
      DGRT_TRY(run.check_signal(m));
      DGRT_TRY(consumer.copy.check_guards());
      for (uint32_t g = 0; g < test.num_groups; ++g) {
        const uint64_t row = run.ldd() * element_bytes(test.dtype_d);
        const uint64_t start = g * m * row, bytes = run.rows().counts[g] * row;
        DGRT_ASSIGN(const int64_t at,
                    lab::first_difference(lab, run.d().as<std::byte>() + start,
                                          consumer.copy.as<std::byte>() + start, bytes));
        if (at >= 0)
          return error(DGRT_INTERNAL, "group {}: row {} was signalled before it was stored", g,
                       at / static_cast<int64_t>(row));
      }
    }
    if (waited == 0) return error(DGRT_INTERNAL, "the consumer never ran beside the product");
    std::string summary;
    DGRT_TRY(run.check_d(run.d(), m, &summary));
    return fmt::format("{} tiles waited for; {}", waited, summary);
  });
}

}  // namespace dgrt::test
