// A soak on the device: launches of plans whose kernels come from a directory that is being damaged.
// Every result has the bits of one that was checked before. DGRT_SOAK_SECONDS=600 for a long one.
#include <mutex>

#include "tests/gpu/gemm_runner.h"
#include "tests/support/soak.h"
#include "tests/support/temp_dir.h"

namespace dgrt::test {
namespace {

constexpr uint32_t num_threads = 4;

// One product, its right result, and each thread's output and stream.
struct SoakCase {
  GemmCase test;
  GemmRun run;
  AnyGemmDesc desc;
  std::vector<uint8_t> wanted;
  std::vector<lab::DeviceBuffer> outputs;
  std::vector<lab::Stream> streams;

  int64_t m() const { return test.m.front(); }
  Status fill(Gpu& gpu) {
    DGRT_ASSIGN(run, GemmRun::make(gpu, test));
    DGRT_TRY(run.check(m()).status());
    DGRT_TRY(run.prepare_d(run.d()));
    const AnyGemmArgs args = run.args(m());
    DGRT_TRY(run.plan().launch(op_of(args), gpu.lab->stream()));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_ASSIGN(wanted, run.d().download_all<uint8_t>());
    desc = test.desc(m());
    for (uint32_t i = 0; i < num_threads; ++i) {
      DGRT_ASSIGN(lab::DeviceBuffer output, run.make_d());
      outputs.push_back(std::move(output));
      DGRT_ASSIGN(lab::Stream stream, lab::Stream::make(*gpu.lab));
      streams.push_back(std::move(stream));
    }
    return ok();
  }
};

Result<std::string> soak(Gpu& gpu) {
  const TempDir dir(memory_dir());
  const std::string cache_dir = dir.path() + "/cache";
  std::vector<SoakCase> cases(2);
  cases[0].test.n = 512, cases[0].test.k = 1024, cases[0].test.m = {64};
  cases[1].test.n = 256, cases[1].test.k = 512, cases[1].test.m = {48};
  cases[1].test.dtype_ab = DGRT_E4M3;
  for (SoakCase& c : cases) DGRT_TRY(c.fill(gpu));

  Soak soak;
  soak.options.cache_dir = cache_dir.c_str();
  soak.options.log_level = DGRT_LOG_OFF;
  for (const SoakCase& c : cases) soak.descs.push_back(op_of(c.desc));
  soak.num_threads = num_threads;
  soak.duration = soak_duration();
  std::mutex mutex;  // of the laboratory, which copies on one stream
  soak.use = [&](const dgrt::Plan& plan, size_t desc_idx, uint32_t thread) -> Status {
    const SoakCase& c = cases[desc_idx];
    const lab::DeviceBuffer& d = c.outputs[thread];
    DGRT_TRY(gpu.lab->make_current());
    {
      const std::lock_guard<std::mutex> guard(mutex);
      DGRT_TRY(c.run.prepare_d(d));
    }
    const AnyGemmArgs args = c.run.args_into(d, c.m());
    for (int i = 0; i < 4; ++i)
      DGRT_TRY(plan.launch(op_of(args), nullptr, 0, c.streams[thread].get()));
    DGRT_TRY(c.streams[thread].synchronize());
    const std::lock_guard<std::mutex> guard(mutex);
    DGRT_ASSIGN(const std::vector<uint8_t> got, d.download_all<uint8_t>());
    if (got != c.wanted)
      return error(DGRT_INTERNAL, "{}: another result than at the start", c.test.name());
    return ok();
  };
  DGRT_ASSIGN(std::string done, soak.run());
  for (const SoakCase& c : cases)
    for (const lab::DeviceBuffer& output : c.outputs) DGRT_TRY(output.check_guards());
  return done;
}

TEST_CASE("a soak of launches over a cache that is damaged all the time", "[gpu]") {
  Gpu* gpu = gpu_for("soak");
  if (!gpu) return;
  run_case("soak", [&] { return soak(*gpu); });
}

}  // namespace
}  // namespace dgrt::test
