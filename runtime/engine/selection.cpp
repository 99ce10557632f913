#include "runtime/engine/selection.h"

#include <algorithm>

#include "runtime/engine/selection_grid.h"

namespace dgrt {
namespace {

std::string rule_text(const Pick& pick) {
  return pick.rule ? fmt::format("{}: {}", pick.rule->name, pick.rule->why) : "model";
}

// Cuts the grid to the desc's bounds; the last cell of an axis keeps its end, where it was decided.
Status cut(const SelectionGrid& grid, Selection* selection) {
  for (const SelectorVar& var : grid.vars()) {
    const size_t last = break_idx(var.breaks, var.max);
    if (last == var.breaks.size())
      return error(DGRT_INTERNAL, "{}={}: above the last break {}", var.name, var.max,
                   var.breaks.back());
    selection->axes.push_back(
        {var.name, var.max, {var.breaks.begin(), var.breaks.begin() + last + 1}});
  }
  std::vector<int32_t> choice_of(grid.winners().size(), -1);
  for (size_t cell_idx = 0; cell_idx < grid.num_cells(); ++cell_idx) {
    const Point end = grid.cell_end(cell_idx);
    bool is_inside = true;
    for (size_t i = 0; i < selection->axes.size(); ++i)
      is_inside = is_inside && end[i] <= selection->axes[i].breaks.back();
    if (!is_inside) continue;
    const Pick& pick = grid.picks()[cell_idx];
    int32_t& choice_idx = choice_of[pick.config_idx];
    if (choice_idx < 0) {
      choice_idx = static_cast<int32_t>(selection->choices.size());
      selection->choices.push_back({grid.winners()[pick.config_idx].config, rule_text(pick), 0});
    }
    selection->choices[choice_idx].cost_ps = pick.cost_ps;
    selection->cells.push_back(static_cast<uint16_t>(choice_idx));
  }
  return ok();
}

// Joins neighbours along one axis wherever all cells of both slabs agree.
void merge_axis(Selection* selection, size_t axis_idx) {
  size_t inner = 1, outer = 1;
  for (size_t i = 0; i < selection->axes.size(); ++i) {
    if (i < axis_idx) outer *= selection->axes[i].breaks.size();
    if (i > axis_idx) inner *= selection->axes[i].breaks.size();
  }
  std::vector<int64_t>& breaks = selection->axes[axis_idx].breaks;
  const std::vector<uint16_t>& cells = selection->cells;
  std::vector<size_t> kept;  // slabs; a run of equal ones is represented by its last
  for (size_t slab = 0; slab < breaks.size(); ++slab) {
    bool is_equal = slab + 1 < breaks.size();
    for (size_t o = 0; o < outer && is_equal; ++o) {
      const auto here = cells.begin() + (o * breaks.size() + slab) * inner;
      is_equal = std::equal(here, here + inner, here + inner);
    }
    if (!is_equal) kept.push_back(slab);
  }
  std::vector<uint16_t> merged;
  for (size_t o = 0; o < outer; ++o) {
    for (const size_t slab : kept) {
      const auto from = cells.begin() + (o * breaks.size() + slab) * inner;
      merged.insert(merged.end(), from, from + inner);
    }
  }
  std::vector<int64_t> merged_breaks;
  for (const size_t slab : kept) merged_breaks.push_back(breaks[slab]);
  selection->cells = std::move(merged);
  breaks = std::move(merged_breaks);
}

}  // namespace

uint32_t Selection::lookup(const Point& point) const {
  size_t cell_idx = 0;
  for (size_t i = 0; i < axes.size(); ++i)
    cell_idx = cell_idx * axes[i].breaks.size() + break_idx(axes[i].breaks, point[i]);
  return cells[cell_idx];
}

std::vector<Point> Selection::corners(size_t cell) const {
  std::vector<Point> corners{Point{}};
  for (size_t i = axes.size(); i-- > 0;) {
    const Axis& axis = axes[i];
    const size_t at = cell % axis.breaks.size();
    cell /= axis.breaks.size();
    const int64_t low = at == 0 ? 0 : axis.breaks[at - 1] + 1, high = std::min(axis.max, axis.breaks[at]);
    const size_t count = corners.size();
    for (size_t j = 0; j < count; ++j) {
      corners[j][i] = high;
      if (low == high) continue;
      corners.push_back(corners[j]);
      corners.back()[i] = low;
    }
  }
  return corners;
}

Result<Selection> select(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                         const Table& table) {
  SelectionGrid grid(op, desc, target);
  DGRT_TRY(grid.decide(table));
  grid.limit_kernels();
  Selection selection;
  DGRT_TRY(cut(grid, &selection));
  for (size_t i = 0; i < selection.axes.size(); ++i) merge_axis(&selection, i);
  selection.warnings = grid.warnings();
  return selection;
}

Result<Selection> select_only(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                              const Config& config) {
  DGRT_TRY(op.check_config(desc, target, config));
  Selection selection;
  for (const SelectorVar& var : op.selector(desc))
    selection.axes.push_back({var.name, var.max, {var.breaks.back()}});
  selection.cells = {0};
  selection.choices.push_back({config, "the only one", 0});
  return selection;
}

Result<Explanation> explain(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                            const Table& table, const Point& point) {
  SelectionGrid grid(op, desc, target);
  DGRT_TRY(grid.decide(table));
  for (size_t i = 0; i < grid.vars().size(); ++i)
    if (point[i] < 0 || point[i] > grid.vars()[i].breaks.back())
      return invalid("{}={}: must be 0 to {}", grid.vars()[i].name, point[i],
                     grid.vars()[i].breaks.back());
  const size_t cell_idx = grid.cell_of(point);
  const Pick own = grid.picks()[cell_idx];
  grid.limit_kernels();
  const Pick& pick = grid.picks()[cell_idx];

  Explanation result;
  result.decided_at = grid.cell_end(cell_idx);
  for (Config& config : op.candidates(desc, target, result.decided_at)) {
    const int64_t cost = op.cost_ps(desc, target, result.decided_at, config);
    result.candidates.push_back({std::move(config), cost});
  }
  std::sort(result.candidates.begin(), result.candidates.end(),
            [](const Candidate& a, const Candidate& b) {
              return is_better(a.cost_ps, a.config, b.cost_ps, b.config);
            });
  result.winner = {grid.winners()[pick.config_idx].config, pick.cost_ps};
  if (pick.config_idx == own.config_idx)
    result.reason = rule_text(own);
  else
    result.reason =
        fmt::format("{} prefers {}; the plan keeps {} kernels and this one loses {:.2f} %",
                    rule_text(own), grid.winners()[own.config_idx].text, max_plan_kernels,
                    static_cast<double>(loss_ppm(pick.cost_ps, own.cost_ps)) * 1e-4);
  return result;
}

}  // namespace dgrt
