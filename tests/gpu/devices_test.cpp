// Two GPUs in one process: a context on each, both right, and no launch on the other one's stream.
#include <cstring>

#include "tests/gpu/gpu_test.h"

namespace dgrt::test {
namespace {

constexpr int64_t rows = 100, k_blocks = 56;

// Plan, input and output of a scale_layout on one device.
struct Work {
  Plan plan;
  lab::DeviceBuffer src, dst;
  dgrt_scale_layout_args args = DGRT_SCALE_LAYOUT_ARGS;
  std::vector<float> values;

  static Result<Work> make(Gpu& gpu, float first) {
    Work work;
    DGRT_TRY(gpu.lab->make_current());
    dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
    desc.k_blocks = k_blocks, desc.max_m = rows;
    DGRT_ASSIGN(work.plan, Plan::make(gpu, &desc.op));
    for (int64_t i = 0; i < rows * k_blocks; ++i)
      work.values.push_back(first + static_cast<float>(i));
    const size_t bytes = work.values.size() * sizeof(float);
    DGRT_ASSIGN(work.src, lab::DeviceBuffer::make(*gpu.lab, bytes));
    DGRT_ASSIGN(work.dst, lab::DeviceBuffer::make(*gpu.lab, bytes));
    DGRT_TRY(work.src.upload(work.values.data(), bytes));
    work.args.src = work.src.as<float>(), work.args.dst = work.dst.as<float>();
    work.args.m = rows, work.args.ld_src = k_blocks, work.args.ld_dst = rows;
    return work;
  }

  Status check(const Gpu& gpu) const {
    DGRT_TRY(gpu.lab->make_current());
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_ASSIGN(const std::vector<float> got, dst.download_all<float>());
    for (int64_t i = 0; i < rows * k_blocks; ++i) {
      const float wanted = values[i % rows * k_blocks + i / rows];
      if (got[i] != wanted)
        return error(DGRT_INTERNAL, "element {} is {}, not {}", i, got[i], wanted);
    }
    return ok();
  }

  Status is_untouched(const Gpu& gpu) const {
    DGRT_TRY(gpu.lab->make_current());
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_ASSIGN(const std::vector<uint32_t> got, dst.download_all<uint32_t>());
    for (size_t i = 0; i < got.size(); ++i)
      if (got[i] != 0xffffffffu) return error(DGRT_INTERNAL, "element {} was written", i);
    return ok();
  }
};

Result<std::string> use_both(Gpu& first) {
  Gpu second;
  DGRT_ASSIGN(second.lab, lab::Device::open(1));
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = 1;
  options.cache_dir = "";
  DGRT_TRY(to_status(dgrt_context_create(&options, &second.context)));
  DGRT_ASSIGN(const Work a, Work::make(first, 1.0f));
  DGRT_ASSIGN(const Work b, Work::make(second, 1e6f));

  for (const CUstream stream :
       {second.lab->stream(), CUstream{}}) {  // NULL: b's context is current
    const Status refused = a.plan.launch(&a.args.op, stream);
    if (refused.code() != DGRT_INVALID_ARGUMENT ||
        refused.message().find("device 1") == std::string::npos)
      return error(DGRT_INTERNAL, "a stream of device 1: status {} \"{}\"", refused.code(),
                   refused.message());
  }
  DGRT_TRY(a.is_untouched(first));
  DGRT_TRY(b.plan.launch(&b.args.op, second.lab->stream()));  // while device 0's context is current
  DGRT_TRY(a.plan.launch(&a.args.op, first.lab->stream()));
  DGRT_TRY(b.check(second));
  DGRT_TRY(a.check(first));
  DGRT_TRY(second.check_hot_path());
  return std::string("both right");
}

}  // namespace

TEST_CASE("devices: two in one process, and a stream of the other one is refused", "[gpu][emulated]") {
  constexpr const char* name = "two devices";
  Gpu* gpu = gpu_for(name);
  if (!gpu) return;
  int count = 0;
  REQUIRE(gpu->lab->driver().cuDeviceGetCount(&count) == CUDA_SUCCESS);
  if (count < 2) {
    GpuRecord::instance().add_case(name, "skipped", "only one GPU");
    WARN("skipped: only one GPU");
    return;
  }
  run_case(name, [&] { return use_both(*gpu); });
  REQUIRE(gpu->lab->make_current().is_ok());
}

}  // namespace dgrt::test
