// What dgrt_launch adds to a launch: bare cuLaunchKernelEx of the same kernel with the same
// parameters, grid and attributes, against dgrt_launch, in batches by turns, so that both see the
// same machine. A batch is short enough never to fill the driver's queue. Needs a GPU.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/host_cost.h"
#include "runtime/compile/key.h"
#include "runtime/engine/context.h"

namespace dgrt {
namespace {

constexpr int batch_launches = 200;
constexpr size_t pool_bytes = size_t{64} << 20;
constexpr size_t part_bytes = pool_bytes / 8;  // of one operand; more than any below needs

// One call of an op: small, so that the GPU keeps up with the host. Pointers lie in `pool`.
struct Sample {
  const char* name;
  dgrt_gemm_desc gemm = DGRT_GEMM_DESC;
  dgrt_gemm_args gemm_args = DGRT_GEMM_ARGS;
  dgrt_quant_fp8_desc quant = DGRT_QUANT_FP8_DESC;
  dgrt_quant_fp8_args quant_args = DGRT_QUANT_FP8_ARGS;
  const dgrt_desc* desc = nullptr;
  const dgrt_args* args = nullptr;
};

template <class T>
T* part(CUdeviceptr pool, size_t idx) {
  return reinterpret_cast<T*>(pool + idx * part_bytes);
}

void fill_gemm(CUdeviceptr pool, bool fp8, Sample* sample) {
  const int64_t m = 16, n = 1024, k = 512;
  dgrt_gemm_desc& desc = sample->gemm;
  desc.n = n;
  desc.k = k;
  desc.max_m = m;
  desc.dtype_ab = fp8 ? DGRT_E4M3 : DGRT_BF16;
  desc.dtype_d = DGRT_BF16;
  desc.scale_mode = fp8 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  dgrt_gemm_args& args = sample->gemm_args;
  args.a = part<void>(pool, 0);
  args.b = part<void>(pool, 1);
  args.d = part<void>(pool, 2);
  args.m = m;
  args.lda = args.ldb = k;
  args.ldd = n;
  if (fp8) {
    args.a_scale = part<float>(pool, 3);
    args.b_scale = part<float>(pool, 4);
    args.ld_a_scale = m;
    args.ld_b_scale = k / 128;
  }
  sample->desc = &desc.op;
  sample->args = &args.op;
}

void fill_quant(CUdeviceptr pool, Sample* sample) {
  const int64_t m = 16, k = 1024;
  dgrt_quant_fp8_desc& desc = sample->quant;
  desc.k = k;
  desc.max_m = m;
  desc.scale_major = DGRT_MN_MAJOR;
  dgrt_quant_fp8_args& args = sample->quant_args;
  args.x = part<void>(pool, 0);
  args.q = part<void>(pool, 1);
  args.scale = part<float>(pool, 2);
  args.m = m;
  args.ldx = args.ldq = k;
  args.ld_scale = m;
  sample->desc = &desc.op;
  sample->args = &args.op;
}

// The launch of a sample as someone without dgrt would write it: everything made beforehand.
class BareLaunch {
 public:
  Status make(Context& context, const Sample& sample, void* workspace, CUstream stream) {
    driver_ = &context.device()->driver();
    DGRT_ASSIGN(const DescCopy desc, DescCopy::make(sample.desc, context.ops()));
    const OpImpl& op = desc.op();
    DGRT_ASSIGN(const Selection selection, context.choose(desc));
    const Config& config = selection.choices[selection.lookup(op.point(sample.args))].config;
    const Instance instance = op.instance(desc.get(), context.target(), config);
    DGRT_ASSIGN(const Key key, kernel_key(instance, context.sources()));
    DGRT_ASSIGN(const KernelStore::Got got,
                context.kernels().get(key, instance, op.smem_bytes(desc.get(), config),
                                      KernelStore::Wait::yes));
    function_ = reinterpret_cast<CUfunction>(got.kernel->loaded->handle());
    prepared_ = op.prepare(desc.get(), context.target(), config);
    DGRT_TRY(op.bind(desc.get(), sample.args, prepared_, *driver_, workspace, &launch_));
    op_ = &op;
    desc_.emplace(desc);
    config_ = {launch_.grid[0],
               launch_.grid[1],
               launch_.grid[2],
               launch_.num_threads,
               1,
               1,
               launch_.smem_bytes,
               stream,
               &attribute_,
               0};
    if (launch_.cluster[0] * launch_.cluster[1] * launch_.cluster[2] != 1) {
      attribute_.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
      attribute_.value.clusterDim = {launch_.cluster[0], launch_.cluster[1], launch_.cluster[2]};
      config_.numAttrs = 1;
    }
    return ok();
  }
  // What a launch must do again when its operands move: their tensor maps, the parameters.
  bool bind_again(const Sample& sample, void* workspace) {
    Launch launch;
    return op_->bind(desc_->get(), sample.args, prepared_, *driver_, workspace, &launch).is_ok();
  }
  bool operator()() {
    void* params[] = {launch_.params};
    return driver_->cuLaunchKernelEx(&config_, function_, params, nullptr) == CUDA_SUCCESS;
  }

 private:
  const Driver* driver_ = nullptr;
  const OpImpl* op_ = nullptr;
  std::optional<DescCopy> desc_;
  Prepared prepared_{};
  CUfunction function_ = nullptr;
  Launch launch_;
  CUlaunchConfig config_{};
  CUlaunchAttribute attribute_{};
};

// Device, memory and both ways of launching, for one sample.
class Session {
 public:
  explicit Session(const char* name) { sample_.name = name; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Status start() {
    dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
    options.log_level = DGRT_LOG_OFF;
    DGRT_ASSIGN(context_, Context::create(options));
    const Driver& driver = this->driver();
    current_.emplace(*context_->device());
    DGRT_TRY(current_->status());
    DGRT_CU(driver, cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING));
    DGRT_CU(driver, cuMemAlloc(&pool_, pool_bytes));
    DGRT_CU(driver, cuMemsetD8Async(pool_, 0, pool_bytes, stream_));
    const std::string name = sample_.name;
    if (name == "quant_fp8")
      fill_quant(pool_, &sample_);
    else
      fill_gemm(pool_, name == "gemm_fp8", &sample_);
    DGRT_TRY(to_status(dgrt_context_create(&options, &c_context_)));
    DGRT_TRY(to_status(dgrt_plan_create(c_context_, sample_.desc, &plan_)));
    DGRT_TRY(bare_.make(*context_, sample_, workspace(), stream_));
    DGRT_TRY(to_status(dgrt()));
    if (!bare_()) return error(DGRT_DRIVER_ERROR, "cuLaunchKernelEx failed");
    return synchronize();
  }
  ~Session() {
    dgrt_plan_destroy(plan_);
    dgrt_context_destroy(c_context_);
    if (pool_ != 0) (void)driver().cuMemFree(pool_);
    if (stream_ != nullptr) (void)driver().cuStreamDestroy(stream_);
  }

  bool bare() { return bare_(); }
  bool bind_again() { return bare_.bind_again(sample_, workspace()); }
  dgrt_status dgrt() {
    return dgrt_launch(plan_, sample_.args, workspace(), 3 * part_bytes, stream_);
  }
  Status synchronize() {
    DGRT_CU(driver(), cuStreamSynchronize(stream_));
    return ok();
  }

 private:
  const Driver& driver() const { return context_->device()->driver(); }
  void* workspace() const { return part<void>(pool_, 5); }
  static Status to_status(dgrt_status status) {
    return status == DGRT_OK ? ok() : Status(status, dgrt_last_error());
  }

  Sample sample_;
  std::unique_ptr<Context> context_;  // of the bare launch
  std::optional<ScopedContext> current_;
  CUstream stream_ = nullptr;
  CUdeviceptr pool_ = 0;
  dgrt_context* c_context_ = nullptr;
  dgrt_plan* plan_ = nullptr;
  BareLaunch bare_;
};

template <class Fn>
double batch_us(Fn&& launch) {
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < batch_launches; ++i) launch();
  return 1e6 * seconds_since(start) / batch_launches;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void launch_overhead(benchmark::State& state, const char* name) {
  Session session(name);
  if (const Status status = session.start(); !status.is_ok())
    return state.SkipWithError(("skipped: " + status.message()).c_str());
  std::vector<double> bare, ours, bind;
  for (auto _ : state) {
    bool is_good = true;
    bare.push_back(batch_us([&] { is_good &= session.bare(); }));
    const Status between = session.synchronize();
    ours.push_back(batch_us([&] { is_good &= session.dgrt() == DGRT_OK; }));
    const Status after = session.synchronize();
    bind.push_back(batch_us([&] { is_good &= session.bind_again(); }));
    if (!is_good || !between.is_ok() || !after.is_ok())
      return state.SkipWithError("a launch failed");
    state.SetIterationTime(ours.back() / 1e6);
  }
  state.counters["bare_us"] = median(bare);
  state.counters["dgrt_us"] = median(ours);
  state.counters["over_us"] = median(ours) - median(bare);
  state.counters["bind_us"] = median(bind);  // part of over_us: tensor maps and parameters
}

}  // namespace

void register_launch_benchmarks() {
  for (const char* name : {"gemm_fp8", "gemm_bf16", "quant_fp8"})
    benchmark::RegisterBenchmark((std::string("launch/") + name).c_str(), launch_overhead, name)
        ->Unit(benchmark::kMicrosecond)
        ->UseManualTime()
        ->Iterations(100);
}

}  // namespace dgrt
