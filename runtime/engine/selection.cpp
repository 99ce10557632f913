#include "runtime/engine/selection.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

namespace dgrt {
namespace {

constexpr IntRange any_value{0, std::numeric_limits<int64_t>::max()};

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

// All cells of an op, whatever the desc's bounds are, each with its own best config.
class Grid {
 public:
  Grid(const OpImpl& op, const dgrt_desc* desc, const Target& target)
      : op_(op), desc_(desc), target_(target) {}

  Status decide(const Table& table);
  void limit_kernels();

  size_t num_cells() const { return picks_.size(); }
  Point cell_end(size_t cell_idx) const;
  size_t cell_of(const Point& point) const;

  std::vector<SelectorVar> vars_;
  std::vector<Pick> picks_;      // per cell, row-major
  std::vector<Winner> winners_;  // distinct configs
  std::vector<std::string> warnings_;

 private:
  void find_boxes(const Table& table);
  void refine_breaks();
  Status decide_cell(const Point& point, Pick* pick);
  bool apply_rule(const TableRule& rule, const Point& point, const std::vector<Config>& candidates,
                  std::optional<Candidate>* best);
  Candidate best_of(const std::vector<Config>& candidates, const Point& point, const Config* fixed,
                    bool* found) const;
  uint32_t add_winner(Config config);
  void warn(std::string text);
  uint32_t number_kernels();
  std::vector<bool> choose_kernels(uint32_t num_kernels, const std::vector<int64_t>& costs) const;

  const OpImpl& op_;
  const dgrt_desc* desc_;
  const Target& target_;
  std::vector<Box> boxes_;
  std::map<std::string, uint32_t> winner_idx_;  // by config text
};

// Cheaper, or as cheap and first in alphabetical order.
bool is_better(int64_t cost, const Config& config, int64_t other_cost, const Config& other) {
  if (cost != other_cost) return cost < other_cost;
  return config.to_string() < other.to_string();
}

bool agrees(const Config& config, const Config& fixed) {
  return std::all_of(fixed.fields().begin(), fixed.fields().end(), [&](const Config::Field& field) {
    const int64_t* value = config.find(field.first);
    return value && *value == field.second;
  });
}

void Grid::warn(std::string text) {
  if (std::find(warnings_.begin(), warnings_.end(), text) == warnings_.end())
    warnings_.push_back(std::move(text));
}

void Grid::find_boxes(const Table& table) {
  const std::string family = arch_family(target_.arch);
  const Config shape = op_.shape(desc_);
  for (const TableRule& rule : table.rules()) {
    if (rule.family != family) continue;
    if (rule.sm_count && !rule.sm_count->contains(target_.sm_count)) continue;
    Box box;
    box.rule = &rule;
    bool holds = true;
    for (const auto& [name, range] : rule.when) {
      const auto var = std::find_if(vars_.begin(), vars_.end(),
                                    [&, n = &name](const SelectorVar& v) { return *n == v.name; });
      if (var != vars_.end()) {
        box.ranges[var - vars_.begin()] = range;
      } else if (const int64_t* value = shape.find(name)) {
        holds = holds && range.contains(*value);
      } else {
        warn(fmt::format("{} ignored: when.{}: {} has no such variable or field", rule.name, name,
                         op_.stem));
        holds = false;
      }
    }
    if (holds) boxes_.push_back(box);
  }
}

// Cells end where table rules begin and end, so that a rule holds for exactly the values it names.
void Grid::refine_breaks() {
  for (size_t i = 0; i < vars_.size(); ++i) {
    std::vector<int64_t>& breaks = vars_[i].breaks;
    const int64_t last = breaks.back();
    for (const Box& box : boxes_) {
      if (box.ranges[i] == any_value) continue;
      for (const int64_t end : {box.ranges[i].lo - 1, box.ranges[i].hi})
        if (end > 0 && end < last) breaks.push_back(end);
    }
    std::sort(breaks.begin(), breaks.end());
    breaks.erase(std::unique(breaks.begin(), breaks.end()), breaks.end());
  }
}

Point Grid::cell_end(size_t cell_idx) const {
  Point point{};
  for (size_t i = vars_.size(); i-- > 0;) {
    point[i] = vars_[i].breaks[cell_idx % vars_[i].breaks.size()];
    cell_idx /= vars_[i].breaks.size();
  }
  return point;
}

size_t break_idx(const std::vector<int64_t>& breaks, int64_t value) {
  return std::lower_bound(breaks.begin(), breaks.end(), value) - breaks.begin();
}

size_t Grid::cell_of(const Point& point) const {
  size_t cell_idx = 0;
  for (size_t i = 0; i < vars_.size(); ++i)
    cell_idx = cell_idx * vars_[i].breaks.size() + break_idx(vars_[i].breaks, point[i]);
  return cell_idx;
}

// The best candidate that agrees with `fixed` (null: any).
Candidate Grid::best_of(const std::vector<Config>& candidates, const Point& point,
                        const Config* fixed, bool* found) const {
  const Config* best = nullptr;
  int64_t best_cost = 0;
  for (const Config& config : candidates) {
    if (fixed && !agrees(config, *fixed)) continue;
    const int64_t cost = op_.cost_ps(desc_, target_, point, config);
    if (best && !is_better(cost, config, best_cost, *best)) continue;
    best = &config;
    best_cost = cost;
  }
  *found = best != nullptr;
  return best ? Candidate{*best, best_cost} : Candidate{};
}

// A rule that names every field stands for itself if it is legal; one that names some leaves the
// others to the model.
bool Grid::apply_rule(const TableRule& rule, const Point& point,
                      const std::vector<Config>& candidates, std::optional<Candidate>* best) {
  Config full = candidates.front();
  size_t num_named = 0;
  for (const auto& [name, value] : rule.use.fields()) {
    if (!full.find(name)) {
      warn(fmt::format("{} ignored: use.{}: {} has no such config field", rule.name, name,
                       op_.stem));
      return false;
    }
    full.set(name, value);
    ++num_named;
  }
  if (num_named == full.fields().size()) {
    if (const Status status = op_.check_config(desc_, target_, full); !status.is_ok()) {
      warn(fmt::format("{} ignored: {}", rule.name, status.message()));
      return false;
    }
    const int64_t cost = op_.cost_ps(desc_, target_, point, full);
    *best = Candidate{std::move(full), cost};
    return true;
  }
  bool found = false;
  Candidate candidate = best_of(candidates, point, &rule.use, &found);
  if (found)
    *best = std::move(candidate);
  else
    warn(fmt::format("{} ignored: no legal config has {}", rule.name, rule.use.to_string()));
  return found;
}

uint32_t Grid::add_winner(Config config) {
  std::string text = config.to_string();
  const auto [it, is_new] = winner_idx_.try_emplace(text, static_cast<uint32_t>(winners_.size()));
  if (is_new) winners_.push_back({std::move(config), std::move(text), 0});
  return it->second;
}

Status Grid::decide_cell(const Point& point, Pick* pick) {
  const std::vector<Config> candidates = op_.candidates(desc_, target_, point);
  if (candidates.empty())
    return error(DGRT_UNSUPPORTED, "{}: no legal config on {} with {} SMs", op_.stem, target_.arch,
                 target_.sm_count);
  std::optional<Candidate> best;
  for (const Box& box : boxes_) {
    if (!box.contains(point) || !apply_rule(*box.rule, point, candidates, &best)) continue;
    pick->rule = box.rule;
    break;
  }
  bool found = true;
  if (!best) best = best_of(candidates, point, nullptr, &found);
  pick->cost_ps = best->cost_ps;
  pick->config_idx = add_winner(std::move(best->config));
  return ok();
}

Status Grid::decide(const Table& table) {
  vars_ = op_.selector(desc_);
  if (vars_.size() > max_selector_vars)
    return error(DGRT_INTERNAL, "{}: {} selector variables", op_.stem, vars_.size());
  size_t num_cells = 1;
  for (const SelectorVar& var : vars_)
    if (var.breaks.empty() || !std::is_sorted(var.breaks.begin(), var.breaks.end()))
      return error(DGRT_INTERNAL, "{}: breaks of {} are empty or not sorted", op_.stem, var.name);
  find_boxes(table);
  refine_breaks();
  for (const SelectorVar& var : vars_) num_cells *= var.breaks.size();
  picks_.resize(num_cells);
  for (size_t cell_idx = 0; cell_idx < num_cells; ++cell_idx)
    DGRT_TRY(decide_cell(cell_end(cell_idx), &picks_[cell_idx]));
  return ok();
}

// Configs that differ only in run-time fields share a kernel.
uint32_t Grid::number_kernels() {
  std::vector<Instance> instances;
  for (Winner& winner : winners_) {
    Instance instance = op_.instance(desc_, target_, winner.config);
    const auto it = std::find(instances.begin(), instances.end(), instance);
    winner.kernel_idx = static_cast<uint32_t>(it - instances.begin());
    if (it == instances.end()) instances.push_back(std::move(instance));
  }
  return static_cast<uint32_t>(instances.size());
}

// Relative loss in parts per million.
int64_t loss_ppm(int64_t cost, int64_t best) {
  const __int128 scaled = static_cast<__int128>(cost - best) * 1'000'000;
  const __int128 ppm = scaled / std::max<int64_t>(best, 1);
  return static_cast<int64_t>(std::clamp<__int128>(ppm, 0, int64_t{1} << 40));
}

// Starts from all kernels and drops the one whose loss, summed over the cells, is least, until few
// enough are left. Kernels of table rules go last. Ties: the later one goes.
std::vector<bool> Grid::choose_kernels(uint32_t num_kernels,
                                       const std::vector<int64_t>& costs) const {
  const size_t num_winners = winners_.size();
  std::vector<bool> alive(num_kernels, true), from_table(num_kernels, false);
  for (const Pick& pick : picks_)
    if (pick.rule) from_table[winners_[pick.config_idx].kernel_idx] = true;
  for (uint32_t num_alive = num_kernels; num_alive > max_plan_kernels; --num_alive) {
    std::vector<int64_t> loss(num_kernels, 0);  // of dropping a kernel
    for (size_t cell_idx = 0; cell_idx < picks_.size(); ++cell_idx) {
      // The best and the best of another kernel. A table's pick is the best by definition.
      constexpr int64_t none = std::numeric_limits<int64_t>::max();
      int64_t best = none, second = none;
      uint32_t best_kernel = 0;
      const Pick& pick = picks_[cell_idx];
      for (size_t i = 0; i < num_winners; ++i) {
        const uint32_t kernel_idx = winners_[i].kernel_idx;
        if (!alive[kernel_idx]) continue;
        const bool is_pinned = pick.rule && pick.config_idx == i;
        const int64_t cost = is_pinned ? -1 : costs[cell_idx * num_winners + i];
        if (cost < best) {
          if (best != none && best_kernel != kernel_idx) second = std::min(second, best);
          best = cost;
          best_kernel = kernel_idx;
        } else if (kernel_idx != best_kernel) {
          second = std::min(second, cost);
        }
      }
      loss[best_kernel] += loss_ppm(second, best < 0 ? pick.cost_ps : best);
    }
    uint32_t drop = num_kernels;
    for (uint32_t i = 0; i < num_kernels; ++i) {
      if (!alive[i]) continue;
      if (drop == num_kernels ||
          std::pair(from_table[i], loss[i]) <= std::pair(from_table[drop], loss[drop]))
        drop = i;
    }
    alive[drop] = false;
  }
  return alive;
}

void Grid::limit_kernels() {
  const uint32_t num_kernels = number_kernels();
  if (num_kernels <= max_plan_kernels) return;
  const size_t num_winners = winners_.size();
  std::vector<int64_t> costs(picks_.size() * num_winners);
  for (size_t cell_idx = 0; cell_idx < picks_.size(); ++cell_idx)
    for (size_t i = 0; i < num_winners; ++i)
      costs[cell_idx * num_winners + i] =
          op_.cost_ps(desc_, target_, cell_end(cell_idx), winners_[i].config);
  const std::vector<bool> alive = choose_kernels(num_kernels, costs);
  for (size_t cell_idx = 0; cell_idx < picks_.size(); ++cell_idx) {
    Pick& pick = picks_[cell_idx];
    if (pick.rule && alive[winners_[pick.config_idx].kernel_idx]) continue;
    bool is_first = true;
    Pick best;
    for (size_t i = 0; i < num_winners; ++i) {
      if (!alive[winners_[i].kernel_idx]) continue;
      const int64_t cost = costs[cell_idx * num_winners + i];
      if (!is_first && (cost > best.cost_ps || (cost == best.cost_ps &&
                                                winners_[i].text > winners_[best.config_idx].text)))
        continue;
      best = {static_cast<uint32_t>(i), nullptr, cost};
      is_first = false;
    }
    pick = best;
  }
}

std::string rule_text(const Pick& pick) {
  return pick.rule ? fmt::format("{}: {}", pick.rule->name, pick.rule->why) : "model";
}

// Cuts the grid to the desc's bounds; the last cell of an axis keeps its end, where it was decided.
Status cut(const Grid& grid, Selection* selection) {
  for (const SelectorVar& var : grid.vars_) {
    const size_t last = break_idx(var.breaks, var.max);
    if (last == var.breaks.size())
      return error(DGRT_INTERNAL, "{}={}: above the last break {}", var.name, var.max,
                   var.breaks.back());
    selection->axes.push_back(
        {var.name, var.max, {var.breaks.begin(), var.breaks.begin() + last + 1}});
  }
  std::vector<int32_t> choice_of(grid.winners_.size(), -1);
  for (size_t cell_idx = 0; cell_idx < grid.num_cells(); ++cell_idx) {
    const Point end = grid.cell_end(cell_idx);
    bool is_inside = true;
    for (size_t i = 0; i < selection->axes.size(); ++i)
      is_inside = is_inside && end[i] <= selection->axes[i].breaks.back();
    if (!is_inside) continue;
    const Pick& pick = grid.picks_[cell_idx];
    int32_t& choice_idx = choice_of[pick.config_idx];
    if (choice_idx < 0) {
      choice_idx = static_cast<int32_t>(selection->choices.size());
      selection->choices.push_back({grid.winners_[pick.config_idx].config, rule_text(pick), 0});
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

Result<Selection> select(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                         const Table& table) {
  Grid grid(op, desc, target);
  DGRT_TRY(grid.decide(table));
  grid.limit_kernels();
  Selection selection;
  DGRT_TRY(cut(grid, &selection));
  for (size_t i = 0; i < selection.axes.size(); ++i) merge_axis(&selection, i);
  selection.warnings = std::move(grid.warnings_);
  return selection;
}

Result<Explanation> explain(const OpImpl& op, const dgrt_desc* desc, const Target& target,
                            const Table& table, const Point& point) {
  Grid grid(op, desc, target);
  DGRT_TRY(grid.decide(table));
  for (size_t i = 0; i < grid.vars_.size(); ++i)
    if (point[i] < 0 || point[i] > grid.vars_[i].breaks.back())
      return invalid("{}={}: must be 0 to {}", grid.vars_[i].name, point[i],
                     grid.vars_[i].breaks.back());
  const size_t cell_idx = grid.cell_of(point);
  const Pick own = grid.picks_[cell_idx];
  grid.limit_kernels();
  const Pick& pick = grid.picks_[cell_idx];

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
  result.winner = {grid.winners_[pick.config_idx].config, pick.cost_ps};
  if (pick.config_idx == own.config_idx)
    result.reason = rule_text(own);
  else
    result.reason =
        fmt::format("{} prefers {}; the plan keeps {} kernels and this one loses {:.2f} %",
                    rule_text(own), grid.winners_[own.config_idx].text, max_plan_kernels,
                    static_cast<double>(loss_ppm(pick.cost_ps, own.cost_ps)) * 1e-4);
  return result;
}

}  // namespace dgrt
