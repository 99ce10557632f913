// Several processes that start on one cold cache at once: each kernel is compiled by exactly one of
// them.
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "runtime/engine/prepare.h"
#include "tests/support/engine_fixture.h"

namespace dgrt {
namespace {

struct Report {
  uint64_t compiles, disk_hits, shared_waits;
  int32_t status;
};

// In a child: waits for `start` to close, prepares, and tells.
void run_child(test::EngineFixture& fixture, const test::FakeDesc& desc, int start, int out) {
  char ignored = 0;
  (void)!read(start, &ignored, 1);
  fixture.options.log_fn = nullptr;
  fixture.options.log_level = DGRT_LOG_OFF;
  fixture.options.num_jobs = 2;
  const auto context = fixture.open();
  const dgrt_desc* const descs[] = {test::base(desc)};
  const Status status = prepare(*context, descs, 1, nullptr, nullptr);
  const dgrt_stats stats = context->kernels().stats();
  const Report report{stats.compiles, stats.disk_hits, stats.shared_waits, status.code()};
  (void)!write(out, &report, sizeof(report));
}

TEST_CASE("cold processes compile each kernel exactly once between them", "[process]") {
  constexpr int num_processes = 4;
  test::EngineFixture fixture;
  test::FakeDesc desc;
  desc.num_blocks = 8;
  int start[2], reports[2];
  REQUIRE(pipe(start) == 0);
  REQUIRE(pipe(reports) == 0);
  std::vector<pid_t> children;
  for (int i = 0; i < num_processes; ++i) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      close(start[1]);
      run_child(fixture, desc, start[0], reports[1]);
      _exit(0);
    }
    children.push_back(child);
  }
  close(start[0]);
  close(start[1]);
  close(reports[1]);
  Report sum{}, report{};
  int num_reports = 0;
  while (read(reports[0], &report, sizeof(report)) == ssize_t{sizeof(report)}) {
    ++num_reports;
    sum.compiles += report.compiles;
    sum.disk_hits += report.disk_hits;
    sum.shared_waits += report.shared_waits;
    CHECK(report.status == DGRT_OK);
  }
  close(reports[0]);
  for (const pid_t child : children) {
    int exit_status = -1;
    CHECK(waitpid(child, &exit_status, 0) == child);
    CHECK(exit_status == 0);
  }
  CHECK(num_reports == num_processes);
  CHECK(sum.compiles == 8);
  CHECK(sum.compiles + sum.disk_hits + sum.shared_waits == 8 * num_processes);
  CHECK(fixture.entry_files().size() == 8);
}

}  // namespace
}  // namespace dgrt
