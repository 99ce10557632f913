// What decode over a paged cache must give bit for bit, whatever the op: repeats, and replays of a graph. Run:
// DecodeRun, MlaRun, or, of repeats, SparseRun.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tests/gpu/graph.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()

namespace dgrt::test {

template <class Outputs>
Status check_equal(const Gpu& gpu, const Outputs& want, const Outputs& got) {
  DGRT_TRY(gpu.lab->synchronize());
  DGRT_ASSIGN(const int64_t o, lab::first_difference(*gpu.lab, want.o.data(), got.o.data(), want.o.bytes()));
  DGRT_ASSIGN(const int64_t lse,
              lab::first_difference(*gpu.lab, want.lse.data(), got.lse.data(), want.lse.bytes()));
  if (o < 0 && lse < 0) return ok();
  return error(DGRT_INTERNAL, "byte {} of o, {} of lse differs (-1: none)", o, lse);
}

// Rounds of three launches, back to back.
template <class Run, class Case>
void run_launch_repeats(Gpu& gpu, const Case& test, int rounds) {
  run_case("repeats: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(Run run, Run::make(gpu, test));
    DGRT_ASSIGN(const typename Run::Outputs want, run.outputs());
    DGRT_ASSIGN(const typename Run::Outputs got, run.outputs());
    DGRT_TRY(run.launch(want));
    for (int round = 0; round < rounds; ++round) {
      for (const lab::DeviceBuffer* buffer : {&got.o, &got.lse}) DGRT_TRY(buffer->poison());
      for (int i = 0; i < 3; ++i) DGRT_TRY(run.launch(got));
      DGRT_TRY(check_equal(gpu, want, got));
    }
    return run.check(want);
  });
}

// replays: keys of every sequence.
template <class Run, class Case>
void run_launch_replays(Gpu& gpu, const Case& test, const std::vector<std::vector<int32_t>>& replays) {
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const Run run, Run::make(gpu, test));
    DGRT_ASSIGN(const typename Run::Outputs out, run.outputs());
    Graph graph(gpu.lab->driver());
    const CUstream stream = gpu.lab->stream();
    DGRT_TRY(capture(&graph, stream, [&] { return run.launch(out); }));
    std::string details;
    for (const std::vector<int32_t>& lens : replays) {
      DGRT_TRY(run.set_kv_lens(lens));
      for (const lab::DeviceBuffer* buffer : {&out.o, &out.lse}) DGRT_TRY(buffer->poison());
      DGRT_CU(gpu.lab->driver(), cuGraphLaunch(graph.exec, stream));
      DGRT_ASSIGN(const std::string detail, run.check(out));
      details += (details.empty() ? "" : "; ") + detail;
    }
    return details;
  });
}

}  // namespace dgrt::test
