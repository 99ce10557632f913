// Selection: which config an op uses for which sizes. A pure function of (op, target, desc, table):
// no clock, no device, no environment, integer arithmetic and a total order on ties, so that every
// rank, `dgrt prewarm` and plan creation agree.
//
// The op's selector variables span a grid of cells (SelectorVar::breaks, refined by the ranges of
// table rules). Each cell is decided at its upper end: by the first table rule that matches, else
// by the cost model. Over the whole grid at most max_plan_kernels kernels survive, those that lose
// least; a cell that has to give way takes another of its own candidates. Only then the grid is cut
// to the desc's bounds, so the choice for a point never depends on them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "heuristics/table.h"
#include "runtime/ops/op.h"

namespace dgrt {

constexpr size_t max_plan_kernels = 16;

struct Choice {
  Config config;
  std::string rule;     // "model", or "gemm_fp8.json rule 3: why"
  int64_t cost_ps = 0;  // modelled, at the end of the last cell that uses it
};

// One selector variable of a selection.
struct Axis {
  std::string name;
  int64_t max = 0;  // bound of the desc, inclusive
  std::vector<int64_t>
      breaks;  // ascending, the last one >= max; cell i holds (breaks[i-1], breaks[i]]
};

struct Selection {
  std::vector<Axis> axes;             // 0 to max_selector_vars of them
  std::vector<uint16_t> cells;        // index into choices; row-major, the last axis varies fastest
  std::vector<Choice> choices;        // distinct configs, in order of first use
  std::vector<std::string> warnings;  // table rules that could not be used

  // Index into choices. Requires: 0 <= point[i] <= axes[i].max. No allocation.
  uint32_t lookup(const Point& point) const;

  // Both ends of a cell in every axis. What is monotonic in each variable is greatest at one of them.
  // Requires: cell < cells.size().
  std::vector<Point> corners(size_t cell) const;
};

// Requires: desc passed check_desc. UNSUPPORTED: no legal config for a cell.
Result<Selection> select(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                         const Table& table);

// One config for every point, whatever model and table say: what `dgrt tune` measures. INVALID_ARGUMENT:
// it is not legal. Requires: desc passed check_desc.
Result<Selection> select_only(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                              const Config& config);

// Why a point gets what it gets.
struct Candidate {
  Config config;
  int64_t cost_ps = 0;
};
struct Explanation {
  Point decided_at{};                 // upper end of the point's cell
  std::vector<Candidate> candidates;  // at decided_at, best first
  Candidate winner;
  std::string reason;  // one sentence
};

// Requires: desc passed check_desc, 0 <= point[i] (points past the desc's bounds are allowed).
Result<Explanation> explain(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                            const Table& table, const Point& point);

}  // namespace dgrt
