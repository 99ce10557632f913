// dgrt tune: measures an op's candidates on this machine's GPU, says how far the model's pick and the
// table's are from the fastest, and writes rows for the tables where a challenger wins. Nothing that
// serves requests tunes.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>

#include "tools/bench_session.h"
#include "tools/command.h"
#include "tools/tune_table.h"
#include "tools/tuner.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct TuneOptions {
  BenchOptions bench;
  size_t top = 24;
  std::string write;
  bool report = false;
};

// One shape of an op, measured.
struct Tuned {
  std::string stem;
  BenchShape shape;
  std::vector<std::string> vars;  // the op's selector variables
  std::vector<TunedPoint> points;
  std::vector<TuneVerdict> verdicts;  // of the points where the library's picks are right
};

bool is_attention(const Tuned& tuned) { return tuned.shape.attn.num_q_heads > 0; }

// "m = 64", "batch = 32, max_q_len = 4", "32 groups of about 64 rows", as a table says it.
std::string where(const Tuned& tuned, const TunedPoint& point) {
  const BenchShape& shape = tuned.shape;
  if (tuned.vars.size() > 1) {
    std::string text;
    for (size_t i = 0; i < tuned.vars.size(); ++i)
      text += fmt::format("{}{} = {}", i == 0 ? "" : ", ", tuned.vars[i], point.at[i]);
    return text;
  }
  if (shape.rows > 0) return fmt::format("k = {} of {} groups", point.m, shape.num_groups);
  if (shape.num_groups == 0) return fmt::format("m = {}", point.m);
  return fmt::format("{} groups of about {} rows", shape.num_groups, point.m);
}

// Also for callers that expect m rows and not some more, as the bench does.
Point lowest_point(const Tuned& tuned, const TunedPoint& point) {
  Point low = point.at;
  if (tuned.vars.front() == "expected_m") low[0] = std::min(point.m, low[0]);
  return low;
}

// Of a list of sizes, the last. Shapes of attention are measured each at its own number of sequences.
bool is_largest(const Tuned& tuned, const TunedPoint& point) {
  return !is_attention(tuned) &&
         std::all_of(tuned.points.begin(), tuned.points.end(),
                     [&](const TunedPoint& other) { return other.at[0] <= point.at[0]; });
}

Result<std::vector<std::string>> variables_of(const BenchSession& session, const OpBench& bench) {
  const Context& context = *reinterpret_cast<const Context*>(session.host().context);
  DGRT_ASSIGN(const DescCopy desc, DescCopy::make(bench.desc(), context.ops()));
  std::vector<std::string> names;
  for (const SelectorVar& var : desc.op().selector(desc.get())) names.push_back(var.name);
  return names;
}

Result<TuneVerdict> verdict_of(const BenchSession& session, const OpBench& bench,
                               const Tuned& tuned, const TunedPoint& point) {
  const Context& context = *reinterpret_cast<const Context*>(session.host().context);
  DGRT_ASSIGN(const DescCopy desc, DescCopy::make(bench.desc(), context.ops()));
  const OpImpl& op = desc.op();
  TuneVerdict verdict;
  verdict.family = arch_family(context.target().arch);
  verdict.sm_count = context.target().sm_count;
  DGRT_ASSIGN(verdict.ranges,
              row_ranges(op, desc.get(), context.target(), lowest_point(tuned, point), point.at,
                         is_largest(tuned, point)));
  verdict.fields = row_fields(op, desc.get());
  std::vector<double> us;
  for (size_t i = 0; i < point.num_finalists; ++i) us.push_back(point.us(i));
  const size_t chosen = choose_config(us, point.model_pick, point.table_pick);
  if (chosen == point.model_pick) return verdict;
  verdict.use = point.contenders[chosen].config;
  verdict.why =
      fmt::format("fastest of {} at {}, {:.0f} % before the model's pick", point.contenders.size(),
                  where(tuned, point), (us[point.model_pick] / us[chosen] - 1) * 100);
  verdict.measured = fmt::format("{}, CUDA {}, {}: {:.1f} us", session.device().info().name,
                                 session.cuda_version(), today(), us[chosen]);
  return verdict;
}

// How far the library's choices are from the fastest contender, over many points.
struct Quality {
  double log_sum = 0, worst = 0;
  size_t num_points = 0;
  void add(double loss) {
    log_sum += std::log1p(loss);
    worst = std::max(worst, loss);
    ++num_points;
  }
  double mean() const { return num_points == 0 ? 0 : std::expm1(log_sum / num_points); }
};
struct Qualities {
  Quality model, table;
};

Qualities qualities_of(const std::vector<Tuned>& all, const std::string& stem) {
  Qualities result;
  for (const Tuned& tuned : all) {
    if (tuned.stem != stem) continue;
    for (const TunedPoint& point : tuned.points) {
      if (!point.is_decided()) continue;
      result.model.add(point.loss(point.model_pick));
      result.table.add(point.loss(point.table_pick));
    }
  }
  return result;
}

std::vector<std::string> stems_of(const std::vector<Tuned>& all) {
  std::vector<std::string> stems;
  for (const Tuned& tuned : all)
    if (std::find(stems.begin(), stems.end(), tuned.stem) == stems.end())
      stems.push_back(tuned.stem);
  return stems;
}

std::string sizes_of(const BenchShape& shape) {
  if (shape.attn.num_q_heads > 0) return fmt::format(" {}: {}", shape.model, shape.layer);
  std::string text;
  if (shape.num_groups > 0) text += fmt::format(" groups {}", shape.num_groups);
  if (shape.rows > 0) text += fmt::format(" m {}", shape.rows);
  text += fmt::format(" n {}", shape.n);
  return shape.rows > 0 ? text : text + fmt::format(" k {}", shape.k);
}

std::string marks(const TunedPoint& point, size_t contender) {
  std::string text = contender == 0 ? "*" : " ";
  text += contender == point.model_pick ? "m" : " ";
  return text + (contender == point.table_pick ? "t" : " ");
}

void print_contender(const TunedPoint& point, size_t i) {
  const Contender& contender = point.contenders[i];
  const double modelled_us = static_cast<double>(contender.cost_ps) * 1e-6;
  if (contender.is_right())
    fmt::print(" {} {:>9.2f} {:>9.2f} {:>15}  {}\n", marks(point, i), modelled_us, point.us(i),
               fmt::format("{:.2f}-{:.2f}", contender.timing.p10_us, contender.timing.p90_us),
               contender.config.to_string());
  else
    fmt::print(" {} {:>9.2f}  WRONG RESULT of {}: {}\n", marks(point, i), modelled_us,
               contender.config.to_string(), contender.check.wrong);
}

void print_tuned(const Tuned& tuned, bool report) {
  for (const TunedPoint& point : tuned.points) {
    fmt::print("{}{} {} {}: ", tuned.stem, sizes_of(tuned.shape), tuned.shape.rows > 0 ? "k" : "m",
               point.m);
    if (point.is_decided())
      fmt::print(
          "model {:.2f} us, {:.1f} % behind; table {:.2f} us, {:.1f} % behind; fastest of {} "
          "{:.2f} us, {}\n",
          point.us(point.model_pick), point.loss(point.model_pick) * 100,
          point.us(point.table_pick), point.loss(point.table_pick) * 100, point.contenders.size(),
          point.us(0), point.contenders[0].config.to_string());
    else
      fmt::print("the library's pick is WRONG\n");
    if (!report) {
      fmt::print("     modelled  measured         p10-p90\n");
      for (size_t i = 0; i < point.num_finalists; ++i) print_contender(point, i);
    }
    for (size_t i = point.num_finalists; i < point.contenders.size(); ++i)
      if (!point.contenders[i].is_right()) print_contender(point, i);
  }
  std::fflush(stdout);
}

void print_summary(const std::vector<Tuned>& all, size_t top) {
  for (const std::string& stem : stems_of(all)) {
    const Qualities q = qualities_of(all, stem);
    fmt::print(
        "{}: {} points; behind the fastest of {}: model {:.1f} % in the geometric mean, {:.1f} % "
        "at worst; with the table {:.1f} %, {:.1f} %\n",
        stem, q.model.num_points,
        top == 0 ? "all candidates" : fmt::format("the model's first {}", top),
        q.model.mean() * 100, q.model.worst * 100, q.table.mean() * 100, q.table.worst * 100);
  }
}

OrderedJson config_json(const Config& config) {
  OrderedJson json;
  for (const auto& [name, value] : config.fields()) json[name] = value;
  return json;
}

OrderedJson to_json(const Tuned& tuned, const TunedPoint& point) {
  const BenchShape& shape = tuned.shape;
  OrderedJson json = {{"op", tuned.stem}, {"model", shape.model}, {"layer", shape.layer}};
  if (shape.num_groups > 0) json["num_groups"] = shape.num_groups;
  json["m"] = shape.rows > 0 ? shape.rows : point.m;
  json["n"] = shape.n;
  json["k"] = shape.rows > 0 ? point.m : shape.k;
  for (size_t i = 0; i < tuned.vars.size(); ++i) json["at"][tuned.vars[i]] = point.at[i];
  json["num_candidates"] = point.num_candidates;
  json["model_pick"] = point.model_pick;
  json["table_pick"] = point.table_pick;
  if (point.is_decided()) {
    json["model_loss"] = point.loss(point.model_pick);
    json["table_loss"] = point.loss(point.table_pick);
  }
  json["contenders"] = OrderedJson::array();
  for (const Contender& contender : point.contenders) {
    OrderedJson row = {{"config", config_json(contender.config)},
                       {"modelled_us", static_cast<double>(contender.cost_ps) * 1e-6}};
    if (contender.is_right())
      row["cold"] = timing_json(contender.timing);
    else
      row["wrong"] = contender.check.wrong;
    json["contenders"].push_back(std::move(row));
  }
  return json;
}

Status write_json(const TuneOptions& options, const BenchSession& session,
                  const std::vector<Tuned>& all) {
  OrderedJson json = session.head("dgrt_tune", options.bench);
  json["top"] = options.top;
  json["summary"] = OrderedJson::array();
  for (const std::string& stem : stems_of(all)) {
    const Qualities q = qualities_of(all, stem);
    json["summary"].push_back({{"op", stem},
                               {"points", q.model.num_points},
                               {"model_mean_loss", q.model.mean()},
                               {"model_worst_loss", q.model.worst},
                               {"table_mean_loss", q.table.mean()},
                               {"table_worst_loss", q.table.worst}});
  }
  json["points"] = OrderedJson::array();
  for (const Tuned& tuned : all)
    for (const TunedPoint& point : tuned.points) json["points"].push_back(to_json(tuned, point));
  return write_text("json", options.bench.json, json.dump(1) + '\n');
}

Status write_table(const std::string& dir, const Tuned& tuned) {
  const std::string path = fmt::format("{}/{}.json", dir, tuned.stem);
  std::ifstream file(path, std::ios::binary);  // one that is not there is empty
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  DGRT_ASSIGN(const MergedTable merged, merge_verdicts(tuned.stem, text, tuned.verdicts));
  DGRT_TRY(write_text("write", path, merged.text));
  fmt::print("{}: {} rows added, {} replaced, {} removed\n", path, merged.added, merged.replaced,
             merged.removed);
  return ok();
}

Result<Tuned> tune_shape(const TuneOptions& options, const BenchSession& session,
                         const BenchShapes& shapes, const BenchShape& shape) {
  DGRT_ASSIGN(const std::unique_ptr<OpBench> bench,
              make_any_bench(session.host(), complete_desc(shapes, shape)));
  const Tuner tuner(session.host(), {options.top, options.bench.repeats()});
  Tuned tuned{shapes.stem, shape, {}, {}, {}};
  DGRT_ASSIGN(tuned.vars, variables_of(session, *bench));
  DGRT_ASSIGN(tuned.points, tuner.tune(*bench, shapes.rows_of(shape), shapes.stem + sizes_of(shape)));
  for (const TunedPoint& point : tuned.points) {
    if (!point.is_decided()) continue;
    DGRT_ASSIGN(TuneVerdict verdict, verdict_of(session, *bench, tuned, point));
    tuned.verdicts.push_back(std::move(verdict));
  }
  return tuned;
}

// Shapes that cannot be tuned are reported and left out. What was measured is written after each, so that
// a run that is stopped has not been for nothing.
Result<int> run(const TuneOptions& options) {
  DGRT_ASSIGN(const std::vector<BenchShapes> all_shapes, load_shapes(options.bench));
  DGRT_ASSIGN(const std::unique_ptr<BenchSession> session,
              BenchSession::open(options.bench, "tune"));
  const lab::DeviceInfo& device = session->device().info();
  fmt::print("{}, {} SMs, empty kernel {:.2f} us\n", device.name, device.sm_count,
             session->empty().median_us);
  if (!options.report) fmt::print("* fastest, m the model's pick, t the pick with the table\n");
  std::vector<Tuned> all;
  int exit_code = 0;
  for (const BenchShapes& shapes : all_shapes) {
    for (const BenchShape& shape : shapes.shapes) {
      Result<Tuned> tuned = tune_shape(options, *session, shapes, shape);
      if (!tuned.is_ok()) {
        exit_code = report(tuned.status(), false);
        continue;
      }
      print_tuned(tuned.value(), options.report);
      for (const TunedPoint& point : tuned.value().points)
        if (point.num_wrong() > 0) exit_code = 1;
      all.push_back(std::move(tuned).value());
      if (!options.bench.json.empty()) DGRT_TRY(write_json(options, *session, all));
      if (!options.write.empty()) DGRT_TRY(write_table(options.write, all.back()));
    }
  }
  print_summary(all, options.top);
  return exit_code;
}

int run_tune(const TuneOptions& options) {
  const Result<int> exit_code = run(options);
  return exit_code.is_ok() ? exit_code.value() : report(exit_code.status(), false);
}

}  // namespace

void add_tune(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("tune", "Measure an op's candidates on this machine's GPU, for its table");
  command->footer("Example: dgrt tune --op gemm_fp8 --m 64,128 --write heuristics/tables");
  const auto options = std::make_shared<TuneOptions>();
  options->bench.ops = {"gemm_fp8", "gemm_bf16"};
  add_bench_options(*command, options->bench);
  command
      ->add_option("--top", options->top,
                   "Candidates that are measured, the best by the model (0: all)")
      ->capture_default_str();
  command->add_option("--write", options->write,
                      "Directory whose <op>.json gets the rows, laid out like heuristics/tables");
  command->add_flag("--report", options->report,
                    "One line for each m: how far the picks are from the fastest");
  command->callback([options, &exit_code] { exit_code = run_tune(*options); });
}

}  // namespace dgrt
