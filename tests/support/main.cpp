// The test program's entry, written so that it serves both generations of Catch2.
#define CATCH_CONFIG_RUNNER
#include "tests/support/catch.h"
#include "tests/support/fake_worker.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == dgrt::test::fake_worker_word)
    return dgrt::test::run_fake_worker({argv + 2, argv + argc});
  return Catch::Session().run(argc, argv);
}
