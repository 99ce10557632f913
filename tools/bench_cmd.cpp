// dgrt bench: checks and times dgrt's kernels on this machine's GPU, on the layers of known models.
// It leaves the device's clocks as they are. Beside each time stands its share of the floor, the
// shortest time that the device's measured rates allow; for devices whose rates nobody measured
// there is none.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/bench_shapes.h"
#include "tools/command.h"
#include "tools/gemm_bench.h"
#include "tools/hyper_bench.h"
#include "tools/input_ops_bench.h"
#include "tools/segmented_bench.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct BenchOptions {
  std::vector<std::string> ops = {"gemm_fp8",          "gemm_bf16",        "quant_fp8",
                                  "scale_layout",      "scale_pack_ue8m0", "hc_prenorm",
                                  "hc_prenorm_weights"};
  std::vector<int64_t> m;
  std::string shapes, json, cache_dir, commit;
  int device = 0;
  bool quick = false;
};

// Rates that a device was measured to reach, in bytes and operations per microsecond.
struct Rates {
  const char* device;
  double bytes, fp8_flops, bf16_flops;
};
// Device-to-device copy, read + written; cuBLASLt fp8 and cuBLAS bf16 on 8192^3 of random data. Driver
// 580.159, CUDA 13.0; the H200 on 2026-11-20, the H100 on 2026-11-26.
constexpr Rates known_rates[] = {{"NVIDIA H200", 4.268e6, 1458e6, 798e6},
                                 {"NVIDIA H100 80GB HBM3", 3.027e6, 1442e6, 782e6}};

struct Line {
  std::string op;
  BenchShape shape;
  BenchRow row;
  double floor_us = 0;  // 0: unknown device

  int64_t m() const { return shape.rows > 0 ? shape.rows : row.m; }
  int64_t k() const { return shape.rows > 0 ? row.m : shape.k; }  // gemm_grouped_k: k varies
};

struct ContextCloser {
  void operator()(dgrt_context* context) const { dgrt_context_destroy(context); }
};

Result<std::vector<BenchShapes>> load_shapes(const BenchOptions& options) {
  std::vector<BenchShapes> result;
  if (!options.shapes.empty()) {
    std::ifstream file(options.shapes, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    if (!file) return error(DGRT_IO_ERROR, "shapes={}: {}", options.shapes, std::strerror(errno));
    DGRT_ASSIGN(BenchShapes shapes, parse_bench_shapes(text));
    result.push_back(std::move(shapes));
  } else {
    for (const std::string& op : options.ops) {
      DGRT_ASSIGN(BenchShapes shapes, builtin_bench_shapes(op));
      result.push_back(std::move(shapes));
    }
  }
  for (BenchShapes& shapes : result) {
    if (!options.m.empty()) shapes.m = options.m;
    if (!options.quick) continue;
    const std::string model = shapes.shapes.front().model;  // the first model stands for all
    std::erase_if(shapes.shapes, [&](const BenchShape& shape) { return shape.model != model; });
  }
  return result;
}

double floor_us(const Rates* rates, const BenchCost& cost, double empty_us) {
  if (rates == nullptr) return 0;
  const double flops = cost.flops_dtype == DGRT_E4M3 ? rates->fp8_flops : rates->bf16_flops;
  return std::max(cost.bytes / rates->bytes, cost.flops / flops) + empty_us;
}

// "-" for what an op, or this device, does not have.
std::string cell(double value, int decimals) {
  return value > 0 ? fmt::format("{:.{}f}", value, decimals) : "-";
}

void print_header() {
  fmt::print("{:<28} {:>6} {:>5} {:>6} {:>6} {:>9} {:>15} {:>9} {:>7} {:>6} {:>7} {:>6}  {}\n",
             "op", "groups", "m", "n", "k", "us", "p10-p90", "graph us", "TFLOPS", "GB/s", "floor",
             "share", "kernel");
}

void print_line(const Line& line) {
  const BenchRow& row = line.row;
  fmt::print("{:<28} {:>6} {:>5} {:>6} {:>6} ", line.op,
             cell(static_cast<double>(line.shape.num_groups), 0), line.m(),
             cell(static_cast<double>(line.shape.n), 0), line.k());
  if (!row.is_right()) {
    fmt::print("WRONG RESULT of {}: {}\n", row.kernel, row.check.wrong);
  } else {
    const double us = row.cold.median_us;
    fmt::print("{:>9.2f} {:>15} {:>9.2f} {:>7} {:>6.0f} {:>7} {:>6}  {}\n", us,
               fmt::format("{:.2f}-{:.2f}", row.cold.p10_us, row.cold.p90_us), row.graph.median_us,
               cell(row.cost.flops / us / 1e6, 0), row.cost.bytes / us / 1e3,
               cell(line.floor_us, 2), cell(line.floor_us / us, 2), row.kernel);
  }
  std::fflush(stdout);
}

OrderedJson to_json(const lab::Timing& timing) {
  return {{"us", timing.median_us},
          {"p10", timing.p10_us},
          {"p90", timing.p90_us},
          {"min", timing.min_us},
          {"repeats", timing.repeats}};
}

// Fields that an op, or this device, does not have are left out: num_groups, n, tflops, floor_us, floor_share.
OrderedJson to_json(const Line& line) {
  const BenchRow& row = line.row;
  OrderedJson json = {
      {"op", line.op}, {"model", line.shape.model}, {"layer", line.shape.layer}, {"m", line.m()}};
  if (line.shape.num_groups > 0) json["num_groups"] = line.shape.num_groups;
  if (line.shape.n > 0) json["n"] = line.shape.n;
  json["k"] = line.k();
  json["kernel"] = row.kernel;
  json["check"] = {{"ok", row.is_right()}, {"elements", row.check.elements}};
  for (const auto& [name, value] : row.check.errors) json["check"][name] = value;
  if (!row.is_right()) {
    json["check"]["wrong"] = row.check.wrong;
    return json;
  }
  const double us = row.cold.median_us;
  json["cold"] = to_json(row.cold);
  json["graph"] = to_json(row.graph);
  if (row.cost.flops > 0) json["tflops"] = row.cost.flops / us / 1e6;
  json["gb_per_s"] = row.cost.bytes / us / 1e3;
  if (line.floor_us > 0) {
    json["floor_us"] = line.floor_us;
    json["floor_share"] = line.floor_us / us;
  }
  return json;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{:04}-{:02}-{:02}", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday);
}

Status write_json(const BenchOptions& options, const lab::Device& device, const lab::Timing& empty,
                  const std::vector<Line>& lines) {
  const lab::DeviceInfo& info = device.info();
  OrderedJson json = {
      {"kind", "dgrt_bench"},
      {"schema", 1},
      {"device", info.name},
      {"sms", info.sm_count},
      {"clocks", "as found"},
      {"cuda_driver",
       fmt::format("{}.{}", info.driver_version / 1000, info.driver_version % 1000 / 10)},
      {"compiler", info.compiler},
      {"dgrt", fmt::format("{}.{}.{}", DGRT_VERSION_MAJOR, DGRT_VERSION_MINOR, DGRT_VERSION_PATCH)},
      {"date", today()},
      {"empty_us", to_json(empty)},
      {"rows", OrderedJson::array()}};
  if (!options.commit.empty()) json["commit"] = options.commit;
  for (const Line& line : lines) json["rows"].push_back(to_json(line));
  std::ofstream file(options.json, std::ios::binary);
  file << json.dump(1) << '\n';
  file.close();
  if (!file) return error(DGRT_IO_ERROR, "json={}: {}", options.json, std::strerror(errno));
  return ok();
}

// Runs every shape; `lines` holds what was measured, also after a failure.
Status run_shapes(const BenchHost& host, const std::vector<BenchShapes>& all, uint32_t repeats,
                  const lab::Timing& empty, std::vector<Line>* lines) {
  const auto rates =
      std::find_if(std::begin(known_rates), std::end(known_rates),
                   [&](const Rates& r) { return host.device.info().name == r.device; });
  const Rates* device_rates = rates == std::end(known_rates) ? nullptr : rates;
  print_header();
  for (const BenchShapes& shapes : all) {
    for (const BenchShape& shape : shapes.shapes) {
      DGRT_ASSIGN(const std::unique_ptr<OpBench> bench,
                  std::visit([&](const auto& desc) { return make_bench(host, desc); },
                             complete_desc(shapes, shape)));
      for (const int64_t m : shapes.m) {
        Line line;
        line.op = shapes.stem;
        line.shape = shape;
        DGRT_ASSIGN(line.row, bench->run(m, repeats));
        line.floor_us = floor_us(device_rates, line.row.cost, empty.median_us);
        print_line(line);
        lines->push_back(std::move(line));
      }
    }
  }
  return ok();
}

Result<std::vector<Line>> run(const BenchOptions& options) {
  DGRT_ASSIGN(const std::vector<BenchShapes> shapes, load_shapes(options));
  Result<std::unique_ptr<lab::Device>> opened = lab::Device::open(options.device);
  if (!opened.is_ok())
    return error(opened.status().code(), "bench needs a GPU: {}", opened.status().message());
  const std::unique_ptr<lab::Device> device = std::move(opened).value();
  DGRT_ASSIGN(const std::unique_ptr<lab::Timer> timer, lab::Timer::make(*device));
  DGRT_ASSIGN(const lab::Timing empty, timer->time_empty());

  dgrt_context_options context_options = DGRT_CONTEXT_OPTIONS;
  context_options.device = options.device;
  if (!options.cache_dir.empty()) context_options.cache_dir = options.cache_dir.c_str();
  dgrt_context* raw = nullptr;
  if (const dgrt_status status = dgrt_context_create(&context_options, &raw); status != DGRT_OK)
    return Status(status, dgrt_last_error());
  const std::unique_ptr<dgrt_context, ContextCloser> context(raw);

  fmt::print("{}, {} SMs, empty kernel {:.2f} us\n", device->info().name, device->info().sm_count,
             empty.median_us);
  std::vector<Line> lines;
  const uint32_t repeats = options.quick ? 12 : lab::Timer::default_repeats;
  const Status finished = run_shapes({*device, *timer, raw}, shapes, repeats, empty, &lines);
  if (!options.json.empty()) DGRT_TRY(write_json(options, *device, empty, lines));
  DGRT_TRY(finished);
  return lines;
}

int run_bench(const BenchOptions& options) {
  const Result<std::vector<Line>> lines = run(options);
  if (!lines.is_ok()) return report(lines.status(), false);
  const auto wrong = std::count_if(lines.value().begin(), lines.value().end(),
                                   [](const Line& line) { return !line.row.is_right(); });
  if (wrong > 0)
    fmt::print(stderr, "dgrt: {} of {} results are wrong\n", wrong, lines.value().size());
  return wrong > 0 ? 1 : 0;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("bench", "Check and time kernels on this machine's GPU");
  command->footer("Example: dgrt bench --op gemm_fp8 --m 1,64,4096 --json bench.json");
  const auto options = std::make_shared<BenchOptions>();
  command
      ->add_option("--op", options->ops,
                   "Which shapes: names of files in bench/shapes, without .json")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--shapes", options->shapes,
                      "A file laid out like bench/shapes/gemm_fp8.json, instead of --op");
  command->add_option("--m", options->m, "Rows, e.g. 1,64,4096 (default: those of the shapes)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}));
  command->add_flag("--quick", options->quick, "The first model's layers alone, fewer repeats");
  command->add_option("--json", options->json, "Write everything measured to this file");
  command->add_option("--commit", options->commit, "Recorded in the JSON");
  command->add_option("--device", options->device, "CUDA device ordinal")->capture_default_str();
  add_cache_dir_option(*command, options->cache_dir);
  command->callback([options, &exit_code] { exit_code = run_bench(*options); });
}

}  // namespace dgrt
