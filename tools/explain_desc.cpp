#include "tools/explain_desc.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "heuristics/table.h"
#include "runtime/base/env.h"
#include "runtime/compile/key.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/selection.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr size_t max_candidates_shown = 10;

struct Answer {
  std::string stem;
  std::vector<std::string> vars;  // the selector variables: "m"
  Explanation explanation;
  std::string entry, key, table_digest;
  uint32_t smem_bytes = 0;
};

// `point`: the op's selector variables.
Result<Answer> explain_desc(const dgrt_desc* desc, const Point& point,
                            const ExplainTarget& options) {
  DGRT_ASSIGN(const Env env, read_env());
  DGRT_ASSIGN(const DescCopy copy, DescCopy::make(desc, all_ops()));
  const OpImpl& op = copy.op();
  const Target target{options.target.arch, options.target.sms};
  DGRT_TRY(check_target(target));
  const Sources sources(env.kernels_dir);
  std::vector<std::string> warnings;
  const Table table = load_table(op, sources, env.heuristics_path, &warnings);
  for (const std::string& warning : warnings) fmt::print(stderr, "dgrt: {}\n", warning);
  Answer answer;
  answer.stem = op.stem;
  for (const SelectorVar& var : op.selector(copy.get())) answer.vars.push_back(var.name);
  answer.table_digest = table.digest_hex();
  DGRT_ASSIGN(answer.explanation, explain(op, copy.get(), target, table, point));
  const Config& winner = answer.explanation.winner.config;
  const Instance instance = op.instance(copy.get(), target, winner);
  DGRT_ASSIGN(const Key key, kernel_key(instance, sources));
  answer.entry = instance.entry;
  answer.key = key.hex();
  answer.smem_bytes = op.smem_bytes(copy.get(), winner);
  return answer;
}

OrderedJson to_json(const Candidate& candidate) {
  OrderedJson config;
  for (const auto& [name, value] : candidate.config.fields()) config[name] = value;
  return {{"config", config}, {"cost_us", static_cast<double>(candidate.cost_ps) * 1e-6}};
}

OrderedJson to_json(const Answer& answer) {
  const Explanation& e = answer.explanation;
  OrderedJson json = {{"op", answer.stem}};
  for (size_t i = 0; i < answer.vars.size(); ++i)
    json["decided_at_" + answer.vars[i]] = e.decided_at[i];
  json["kernel"] = answer.entry;
  json["key"] = answer.key;
  json["reason"] = e.reason;
  json["winner"] = to_json(e.winner);
  json["smem_bytes"] = answer.smem_bytes;
  json["table_digest"] = answer.table_digest;
  json["num_candidates"] = e.candidates.size();
  json["candidates"] = OrderedJson::array();
  for (size_t i = 0; i < std::min(e.candidates.size(), max_candidates_shown); ++i)
    json["candidates"].push_back(to_json(e.candidates[i]));
  return json;
}

void print(const Answer& answer) {
  const Explanation& e = answer.explanation;
  std::string place;
  for (size_t i = 0; i < answer.vars.size(); ++i)
    place += fmt::format("{}{} = {}", i == 0 ? "" : ", ", answer.vars[i], e.decided_at[i]);
  fmt::print("{}: the best of {} candidates by the model, decided at {}\n", answer.stem,
             e.candidates.size(), place);
  for (size_t i = 0; i < std::min(e.candidates.size(), max_candidates_shown); ++i) {
    const Candidate& c = e.candidates[i];
    const bool won = c.config == e.winner.config;
    fmt::print("{} {:10.2f} us  {}\n", won ? "*" : " ", static_cast<double>(c.cost_ps) * 1e-6,
               c.config.to_string());
  }
  fmt::print("winner  {}, modelled {:.2f} us\n", e.winner.config.to_string(),
             static_cast<double>(e.winner.cost_ps) * 1e-6);
  fmt::print("reason  {}\nkernel  {} ({} B shared memory)\nkey     {}\n", e.reason, answer.entry,
             answer.smem_bytes, answer.key);
}

}  // namespace

int run_desc(const dgrt_desc* desc, const Point& point, const ExplainTarget& options) {
  const Result<Answer> answer = explain_desc(desc, point, options);
  if (!answer.is_ok()) return report(answer.status(), options.json);
  if (options.json)
    print_json(to_json(answer.value()));
  else
    print(answer.value());
  return 0;
}

void add_explain_options(CLI::App& command, ExplainTarget& options) {
  add_target_options(command, options.target);
  command.add_flag("--json", options.json, "One line of JSON");
}

}  // namespace dgrt
