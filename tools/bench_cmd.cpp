// dgrt bench: checks and times dgrt's kernels on this machine's GPU, on the layers of known models.
// It leaves the device's clocks as they are. Beside each time stands its share of the floor, the
// shortest time that the device's measured rates allow; for devices whose rates nobody measured
// there is none.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/bench_session.h"
#include "tools/command.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

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

// Fields that an op, or this device, does not have are left out: num_groups, n, tflops, floor_us, floor_share.
OrderedJson to_json(const Line& line) {
  const BenchRow& row = line.row;
  OrderedJson json = {
      {"op", line.op}, {"model", line.shape.model}, {"layer", line.shape.layer}, {"m", line.m()}};
  if (line.shape.num_groups > 0) json["num_groups"] = line.shape.num_groups;
  if (line.shape.n > 0) json["n"] = line.shape.n;
  json["k"] = line.k();
  if (const AttnSizes& attn = line.shape.attn; attn.num_q_heads > 0)
    json["attn"] = {{"batch", attn.tokens == 0 ? attn.batch : attn.tokens / row.m},
                    {"num_q_heads", attn.num_q_heads},
                    {"num_kv_heads", attn.num_kv_heads},
                    {"head_dim_qk", attn.head_dim_qk},
                    {"head_dim_v", attn.head_dim_v},
                    {"prefix", attn.prefix},
                    {"window_left", attn.window_left},
                    {"full", attn.full}};
  if (line.shape.attn.page_size > 0) json["attn"]["page_size"] = line.shape.attn.page_size;
  if (line.shape.attn.mask != 0) json["attn"]["mask"] = line.shape.attn.mask;
  if (line.shape.attn.num_q_heads > 0 && line.shape.fp8_cache) json["attn"]["dtype_kv"] = "e4m3";
  if (const IndexerSizes& indexer = line.shape.indexer; indexer.next_n > 0)
    json["indexer"] = {{"keys", indexer.keys},
                       {"clean", indexer.clean},
                       {"next_n", indexer.next_n},
                       {"page_size", indexer.page_size}};
  else if (indexer.keys > 0)
    json["indexer"] = {{"keys", indexer.keys}, {"clean", indexer.clean}, {"split", indexer.split}};
  json["kernel"] = row.kernel;
  json["check"] = {{"ok", row.is_right()}, {"elements", row.check.elements}};
  for (const auto& [name, value] : row.check.errors) json["check"][name] = value;
  if (!row.is_right()) {
    json["check"]["wrong"] = row.check.wrong;
    return json;
  }
  const double us = row.cold.median_us;
  json["cold"] = timing_json(row.cold);
  json["graph"] = timing_json(row.graph);
  if (row.cost.flops > 0) json["tflops"] = row.cost.flops / us / 1e6;
  json["gb_per_s"] = row.cost.bytes / us / 1e3;
  if (line.floor_us > 0) {
    json["floor_us"] = line.floor_us;
    json["floor_share"] = line.floor_us / us;
  }
  return json;
}

Status write_json(const BenchOptions& options, const BenchSession& session,
                  const std::vector<Line>& lines) {
  OrderedJson json = session.head("dgrt_bench", options);
  json["rows"] = OrderedJson::array();
  for (const Line& line : lines) json["rows"].push_back(to_json(line));
  return write_text("json", options.json, json.dump(1) + '\n');
}

// Runs every shape; `lines` holds what was measured, also after a failure.
Status run_shapes(const BenchSession& session, const std::vector<BenchShapes>& all,
                  uint32_t repeats, std::vector<Line>* lines) {
  const auto rates =
      std::find_if(std::begin(known_rates), std::end(known_rates),
                   [&](const Rates& r) { return session.device().info().name == r.device; });
  const Rates* device_rates = rates == std::end(known_rates) ? nullptr : rates;
  print_header();
  for (const BenchShapes& shapes : all) {
    for (const BenchShape& shape : shapes.shapes) {
      DGRT_ASSIGN(const std::unique_ptr<OpBench> bench,
                  make_any_bench(session.host(), complete_desc(shapes, shape)));
      for (const int64_t m : shapes.rows_of(shape)) {
        Line line;
        line.op = shapes.stem;
        line.shape = shape;
        DGRT_ASSIGN(line.row, bench->run(m, repeats));
        line.floor_us = floor_us(device_rates, line.row.cost, session.empty().median_us);
        print_line(line);
        lines->push_back(std::move(line));
      }
    }
  }
  return ok();
}

Result<std::vector<Line>> run(const BenchOptions& options) {
  DGRT_ASSIGN(const std::vector<BenchShapes> shapes, load_shapes(options));
  DGRT_ASSIGN(const std::unique_ptr<BenchSession> session, BenchSession::open(options, "bench"));
  const lab::DeviceInfo& device = session->device().info();
  fmt::print("{}, {} SMs, empty kernel {:.2f} us\n", device.name, device.sm_count,
             session->empty().median_us);
  std::vector<Line> lines;
  const Status finished = run_shapes(*session, shapes, options.repeats(), &lines);
  if (!options.json.empty()) DGRT_TRY(write_json(options, *session, lines));
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
  options->ops = {"gemm_fp8",         "gemm_bf16",  "quant_fp8",          "scale_layout",
                  "scale_pack_ue8m0", "hc_prenorm", "hc_prenorm_weights", "attn_prefill",
                  "attn_decode",      "attn_extend", "attn_merge",        "kv_append",
                  "mla_decode",       "mla_sparse_decode", "mla_sparse_prefill", "topk_transform",
                  "mla_kv_append",    "kv_dequant_paged", "build_swa_token_ids",
                  "combine_topk_swa_indices", "mqa_logits", "paged_mqa_logits"};
  add_bench_options(*command, *options);
  command->callback([options, &exit_code] { exit_code = run_bench(*options); });
}

}  // namespace dgrt
