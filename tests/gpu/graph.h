// CUDA graphs of launches, for tests.
#pragma once
#include <string>

#include "runtime/driver/driver.h"
#include "tests/gpu/gpu_test.h"

namespace dgrt::test {

// Owner of a captured graph.
struct Graph {
  explicit Graph(const Driver& driver) : cu(driver) {}
  ~Graph() {
    if (exec) (void)cu.cuGraphExecDestroy(exec);
    if (graph) (void)cu.cuGraphDestroy(graph);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  const Driver& cu;
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
};

// Captures what body() launches on `stream`, and makes it ready to launch.
template <class Body>
Status capture(Graph* graph, CUstream stream, const Body& body) {
  const Driver& cu = graph->cu;
  DGRT_CU(cu, cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  const Status status = body();
  const CUresult ended = cu.cuStreamEndCapture(stream, &graph->graph);  // also after a failure
  DGRT_TRY(status);
  DGRT_TRY(cu_status(cu, ended, "cuStreamEndCapture"));
  DGRT_CU(cu, cuGraphInstantiateWithFlags(&graph->exec, graph->graph, 0));
  return ok();
}

// Captures run->launch() and replays it on the inputs of `rounds` seeds, which run->fill(seed) makes: three times each,
// which must give the same bytes. What the last run->check() says.
template <class Run>
Result<std::string> replay(const Gpu& gpu, int rounds, Run* run) {
  DGRT_TRY(gpu.lab->synchronize());
  Graph graph(gpu.lab->driver());
  const CUstream stream = gpu.lab->stream();
  DGRT_TRY(capture(&graph, stream, [&] { return run->launch(); }));
  std::string kernel;
  for (int round = 0; round < rounds; ++round) {
    DGRT_TRY(run->fill(round + 9));
    DGRT_TRY(run->poison());
    DGRT_TRY(gpu.lab->synchronize());
    for (int repeat = 0; repeat < 3; ++repeat) DGRT_CU(gpu.lab->driver(), cuGraphLaunch(graph.exec, stream));
    DGRT_ASSIGN(kernel, run->check());
  }
  return kernel;
}

}  // namespace dgrt::test
