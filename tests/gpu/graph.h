// CUDA graphs of launches, for tests.
#pragma once
#include "runtime/driver/driver.h"

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

}  // namespace dgrt::test
