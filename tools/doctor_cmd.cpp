// dgrt doctor: what works on this machine, what does not, and what to do about it. Every check runs
// whatever the others found, with any part of the system missing. The exit code answers one
// question: would `dgrt prewarm` work here?
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/command.h"
#include "tools/doctor_checks.h"

namespace dgrt {
namespace {

const char* level_name(Finding::Level level) {
  switch (level) {
    case Finding::Level::good:
      return "ok";
    case Finding::Level::limited:
      return "limited";
    case Finding::Level::bad:
      return "FAIL";
  }
  return "";
}

int run_doctor(const std::string& cache_dir, bool json) {
  std::vector<Finding> findings;
  check_compiler(findings);
  check_cache_dir(cache_dir, findings);
  check_driver(findings);
  check_kernels(findings);
  bool prewarm_works = true;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    prewarm_works = prewarm_works && finding.level != Finding::Level::bad;
    if (json) {
      list.push_back({{"check", finding.check},
                      {"level", level_name(finding.level)},
                      {"detail", finding.detail},
                      {"remedy", finding.remedy}});
      continue;
    }
    fmt::print("{:8} {:10} {}\n", level_name(finding.level), finding.check, finding.detail);
    if (!finding.remedy.empty()) fmt::print("{:20}-> {}\n", "", finding.remedy);
  }
  if (json)
    print_json({{"prewarm_works", prewarm_works}, {"findings", list}});
  else
    fmt::print("prewarm {} here\n", prewarm_works ? "works" : "does NOT work");
  return prewarm_works ? 0 : 1;
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("doctor", "Say what works on this machine, and what to do about the rest");
  command->footer("Example: dgrt doctor --cache-dir /models/dgrt");
  const auto cache_dir = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  add_cache_dir_option(*command, *cache_dir);
  command->add_flag("--json", *json, "One line of JSON");
  command->callback([=, &exit_code] { exit_code = run_doctor(*cache_dir, *json); });
}

}  // namespace dgrt
