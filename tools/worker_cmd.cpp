// dgrt worker: compiles for another process of dgrt, which starts it and speaks to its descriptor 0
// (runtime/compile/compile_message.h). Of no use by hand, so the help does not list it.
#include "runtime/compile/compile_server.h"
#include "tools/command.h"

namespace dgrt {
namespace {

struct WorkerOptions {
  int parent = 0;
  std::string nvrtc;
};

}  // namespace

void add_worker(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("worker", "Compile for another process")->group("");
  const auto options = std::make_shared<WorkerOptions>();
  command->add_option("--parent", options->parent, "Process that it serves and dies with")
      ->required();
  command->add_option("--nvrtc", options->nvrtc, "libnvrtc to compile with")->required();
  command->callback([options, &exit_code] {
    const Status status = run_compile_worker(options->parent, options->nvrtc);
    exit_code = status.is_ok() ? 0 : report(status, false);
  });
}

}  // namespace dgrt
