// The `dgrt` command: reads the command line and runs one subcommand. Exit codes: 0 when nothing
// failed, 1 when something did, and CLI11's (100 and up) for a command line that makes no sense.
#include <cstdio>
#include <exception>

#include "tools/command.h"

int main(int argc, char** argv) {
  CLI::App app("libdgrt: GPU kernels for LLM serving, compiled ahead of the first request");
  app.require_subcommand(1);
  app.footer("Example: dgrt prewarm --config config.json --engine sglang --arch sm_90a --sms 132");
  int exit_code = 1;
  dgrt::add_prewarm(app, exit_code);
  dgrt::add_cache(app, exit_code);
  dgrt::add_bundle(app, exit_code);
  dgrt::add_explain(app, exit_code);
  dgrt::add_bench(app, exit_code);
  dgrt::add_tune(app, exit_code);
  dgrt::add_doctor(app, exit_code);
  dgrt::add_version(app, exit_code);
  dgrt::add_worker(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  } catch (const std::exception& e) {  // of a library, out of memory
    std::fprintf(stderr, "dgrt: %s\n", e.what());
    return 1;
  }
  return exit_code;
}
