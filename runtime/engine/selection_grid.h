// SelectionGrid: the first half of selection: every cell of an op's grid, whatever the desc's
// bounds are, with the config that it gets, and at most max_plan_kernels kernels over all of them.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "heuristics/table.h"
#include "runtime/engine/selection.h"
#include "runtime/ops/op.h"

namespace dgrt {

inline constexpr IntRange any_value{IntRange::least, IntRange::largest};

// A table rule that holds for this target and desc, as a box over the selector variables.
struct Box {
  const TableRule* rule = nullptr;
  std::array<IntRange, max_selector_vars> ranges{any_value, any_value, any_value};

  bool contains(const Point& point) const {
    for (size_t i = 0; i < max_selector_vars; ++i)
      if (!ranges[i].contains(point[i])) return false;
    return true;
  }
};

// What a cell was given.
struct Pick {
  uint32_t config_idx = 0;
  const TableRule* rule = nullptr;  // null: the model chose
  int64_t cost_ps = 0;
};

// A config that won some cell.
struct Winner {
  Config config;
  std::string text;
  uint32_t kernel_idx = 0;
};

// The candidates of some cells.
struct CandidateList {
  Point point;  // OpImpl::same_candidates of them all
  std::vector<Config> configs;
};

// One thread. The desc, target and table outlive it.
class SelectionGrid {
 public:
  SelectionGrid(const OpImpl& op, const dgrt_desc* desc, const Target& target)
      : op_(op), desc_(desc), target_(target) {}

  // UNSUPPORTED: a cell has no legal config. Called once, first.
  Status decide(const Table& table);
  // Keeps at most max_plan_kernels kernels. Called once, after decide().
  void limit_kernels();

  size_t num_cells() const { return picks_.size(); }
  Point cell_end(size_t cell_idx) const;
  size_t cell_of(const Point& point) const;

  const std::vector<SelectorVar>& vars() const { return vars_; }
  const std::vector<Pick>& picks() const { return picks_; }        // per cell, row-major
  const std::vector<Winner>& winners() const { return winners_; }  // distinct configs
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void find_boxes(const Table& table);
  void refine_breaks();
  uint32_t list_candidates(const Point& point);
  Status decide_cell(const Point& point, const std::vector<Config>& candidates, Pick* pick);
  bool apply_rule(const TableRule& rule, const Point& point, const std::vector<Config>& candidates,
                  std::optional<Candidate>* best);
  Candidate best_of(const std::vector<Config>& candidates, const Point& point, const Config* fixed,
                    bool* found) const;
  uint32_t add_winner(Config config);
  void warn(std::string text);
  uint32_t number_kernels();
  std::vector<int64_t> winner_costs() const;
  std::vector<bool> choose_kernels(uint32_t num_kernels, const std::vector<int64_t>& costs) const;
  Pick best_alive(size_t cell_idx, const std::vector<int64_t>& costs,
                  const std::vector<bool>& alive) const;

  const OpImpl& op_;
  const dgrt_desc* desc_;
  const Target& target_;
  std::vector<SelectorVar> vars_;
  std::vector<Box> boxes_;
  std::vector<CandidateList> lists_;
  std::vector<uint32_t> list_of_cell_;
  std::vector<Pick> picks_;
  std::vector<Winner> winners_;
  std::vector<std::string> warnings_;
  std::map<std::string, uint32_t> winner_idx_;  // by config text
};

// First break that is not below `value`: the cell of a value.
size_t break_idx(const std::vector<int64_t>& breaks, int64_t value);
// Cheaper, or as cheap and first in alphabetical order.
bool is_better(int64_t cost, const Config& config, int64_t other_cost, const Config& other);
// Relative loss in parts per million.
int64_t loss_ppm(int64_t cost, int64_t best);

}  // namespace dgrt
