// dgrt version: which library this command was built from.
#include <memory>
#include <nlohmann/json.hpp>

#include "dgrt/dgrt.h"
#include "tools/command.h"

namespace dgrt {

void add_version(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("version", "Print the version");
  command->footer("Example: dgrt version --json");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One line of JSON");
  command->callback([json, &exit_code] {
    const uint32_t v = dgrt_version();
    const std::string text = fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
    if (*json)
      print_json({{"version", text}});
    else
      fmt::print("dgrt {}\n", text);
    exit_code = 0;
  });
}

}  // namespace dgrt
