#include "tools/bench_session.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

#include "tools/attention_bench.h"
#include "tools/attention_memory_bench.h"
#include "tools/command.h"
#include "tools/decode_bench.h"
#include "tools/mla_bench.h"
#include "tools/gemm_bench.h"
#include "tools/hyper_bench.h"
#include "tools/indexer_bench.h"
#include "tools/input_ops_bench.h"
#include "tools/segmented_bench.h"
#include "tools/mla_sparse_bench.h"
#include "tools/sparse_bench.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

Result<BenchShapes> read_shapes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return error(DGRT_IO_ERROR, "shapes={}: {}", path, std::strerror(errno));
  return parse_bench_shapes(text);
}

Status narrow(const BenchOptions& options, BenchShapes* shapes) {
  if (!options.m.empty()) {
    shapes->m = options.m;
    for (BenchShape& shape : shapes->shapes) shape.m.clear();
  }
  if (!options.nk.empty()) {
    shapes->shapes.clear();
    for (const std::string& nk : options.nk) {
      DGRT_ASSIGN(BenchShape shape, parse_nk(*shapes, nk, options.num_groups));
      shapes->shapes.push_back(std::move(shape));
    }
  }
  if (!options.quick) return ok();
  const std::string model = shapes->shapes.front().model;  // the first model stands for all
  std::erase_if(shapes->shapes, [&](const BenchShape& shape) { return shape.model != model; });
  return ok();
}

}  // namespace

void add_bench_options(CLI::App& command, BenchOptions& options) {
  command
      .add_option("--op", options.ops,
                  "Which shapes: names of files in bench/shapes, without .json")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--shapes", options.shapes,
                     "A file laid out like bench/shapes/gemm_fp8.json, instead of --op");
  command.add_option("--nk", options.nk, "Other sizes than the shapes', e.g. 7168x2048,4096x7168")
      ->delimiter(',');
  command.add_option("--num-groups", options.num_groups, "With --nk: groups or batches")
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}));
  command.add_option("--m", options.m, "Rows, e.g. 1,64,4096 (default: those of the shapes)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}));
  command.add_flag("--quick", options.quick, "The first model's layers alone, fewer repeats");
  command.add_option("--json", options.json, "Write everything measured to this file");
  command.add_option("--commit", options.commit, "Recorded in the JSON");
  command.add_option("--device", options.device, "CUDA device ordinal")->capture_default_str();
  add_cache_dir_option(command, options.cache_dir);
}

Result<std::vector<BenchShapes>> load_shapes(const BenchOptions& options) {
  std::vector<BenchShapes> result;
  if (!options.shapes.empty()) {
    DGRT_ASSIGN(BenchShapes shapes, read_shapes(options.shapes));
    result.push_back(std::move(shapes));
  } else {
    for (const std::string& op : options.ops) {
      DGRT_ASSIGN(BenchShapes shapes, builtin_bench_shapes(op));
      result.push_back(std::move(shapes));
    }
  }
  for (BenchShapes& shapes : result) DGRT_TRY(narrow(options, &shapes));
  return result;
}

Result<std::unique_ptr<BenchSession>> BenchSession::open(const BenchOptions& options,
                                                         const char* command) {
  std::unique_ptr<BenchSession> session(new BenchSession);
  Result<std::unique_ptr<lab::Device>> opened = lab::Device::open(options.device);
  if (!opened.is_ok())
    return error(opened.status().code(), "{} needs a GPU: {}", command, opened.status().message());
  session->device_ = std::move(opened).value();
  DGRT_ASSIGN(session->timer_, lab::Timer::make(*session->device_));
  DGRT_ASSIGN(session->empty_, session->timer_->time_empty());

  dgrt_context_options context_options = DGRT_CONTEXT_OPTIONS;
  context_options.device = options.device;
  if (!options.cache_dir.empty()) context_options.cache_dir = options.cache_dir.c_str();
  dgrt_context* context = nullptr;
  if (const dgrt_status status = dgrt_context_create(&context_options, &context); status != DGRT_OK)
    return Status(status, dgrt_last_error());
  session->context_.reset(context);
  return session;
}

std::string BenchSession::cuda_version() const {
  const uint32_t version = device_->info().driver_version;
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

OrderedJson BenchSession::head(const char* kind, const BenchOptions& options) const {
  const lab::DeviceInfo& info = device_->info();
  OrderedJson json = {
      {"kind", kind},
      {"schema", 1},
      {"device", info.name},
      {"sms", info.sm_count},
      {"clocks", "as found"},
      {"cuda_driver", cuda_version()},
      {"compiler", info.compiler},
      {"dgrt", fmt::format("{}.{}.{}", DGRT_VERSION_MAJOR, DGRT_VERSION_MINOR, DGRT_VERSION_PATCH)},
      {"date", today()},
      {"empty_us", timing_json(empty_)}};
  if (!options.commit.empty()) json["commit"] = options.commit;
  return json;
}

Result<std::unique_ptr<OpBench>> make_any_bench(const BenchHost& host, const BenchDesc& desc) {
  return std::visit([&](const auto& d) { return make_bench(host, d); }, desc);
}

OrderedJson timing_json(const lab::Timing& timing) {
  return {{"us", timing.median_us},
          {"p10", timing.p10_us},
          {"p90", timing.p90_us},
          {"min", timing.min_us},
          {"repeats", timing.repeats}};
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{:04}-{:02}-{:02}", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday);
}

Status write_text(const char* option, const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) return error(DGRT_IO_ERROR, "{}={}: {}", option, path, std::strerror(errno));
  return ok();
}

}  // namespace dgrt
