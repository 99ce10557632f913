#include "runtime/engine/selection_grid.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace dgrt {

size_t break_idx(const std::vector<int64_t>& breaks, int64_t value) {
  return std::lower_bound(breaks.begin(), breaks.end(), value) - breaks.begin();
}

bool is_better(int64_t cost, const Config& config, int64_t other_cost, const Config& other) {
  if (cost != other_cost) return cost < other_cost;
  return config.to_string() < other.to_string();
}

int64_t loss_ppm(int64_t cost, int64_t best) {
  const __int128 scaled = static_cast<__int128>(cost - best) * 1'000'000;
  const __int128 ppm = scaled / std::max<int64_t>(best, 1);
  return static_cast<int64_t>(std::clamp<__int128>(ppm, 0, int64_t{1} << 40));
}

namespace {

// Added to the cost of a config in a cell of which it is no candidate: 53 days.
constexpr int64_t stranger_ps = int64_t{1} << 62;

bool agrees(const Config& config, const Config& fixed) {
  return std::all_of(fixed.fields().begin(), fixed.fields().end(), [&](const Config::Field& field) {
    const int64_t* value = config.find(field.first);
    return value && *value == field.second;
  });
}

}  // namespace

void SelectionGrid::warn(std::string text) {
  if (std::find(warnings_.begin(), warnings_.end(), text) == warnings_.end())
    warnings_.push_back(std::move(text));
}

void SelectionGrid::find_boxes(const Table& table) {
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
void SelectionGrid::refine_breaks() {
  for (size_t i = 0; i < vars_.size(); ++i) {
    std::vector<int64_t>& breaks = vars_[i].breaks;
    const int64_t last = breaks.back();
    for (const Box& box : boxes_) {
      if (box.ranges[i] == any_value) continue;
      for (const int64_t end : {std::max<int64_t>(box.ranges[i].lo, 1) - 1, box.ranges[i].hi})
        if (end > 0 && end < last) breaks.push_back(end);
    }
    std::sort(breaks.begin(), breaks.end());
    breaks.erase(std::unique(breaks.begin(), breaks.end()), breaks.end());
  }
}

Point SelectionGrid::cell_end(size_t cell_idx) const {
  Point point{};
  for (size_t i = vars_.size(); i-- > 0;) {
    point[i] = vars_[i].breaks[cell_idx % vars_[i].breaks.size()];
    cell_idx /= vars_[i].breaks.size();
  }
  return point;
}

size_t SelectionGrid::cell_of(const Point& point) const {
  size_t cell_idx = 0;
  for (size_t i = 0; i < vars_.size(); ++i)
    cell_idx = cell_idx * vars_[i].breaks.size() + break_idx(vars_[i].breaks, point[i]);
  return cell_idx;
}

// The best candidate that agrees with `fixed` (null: any).
Candidate SelectionGrid::best_of(const std::vector<Config>& candidates, const Point& point,
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
bool SelectionGrid::apply_rule(const TableRule& rule, const Point& point,
                               const std::vector<Config>& candidates,
                               std::optional<Candidate>* best) {
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

uint32_t SelectionGrid::add_winner(Config config) {
  std::string text = config.to_string();
  const auto [it, is_new] = winner_idx_.try_emplace(text, static_cast<uint32_t>(winners_.size()));
  if (is_new) winners_.push_back({std::move(config), std::move(text), 0});
  return it->second;
}

uint32_t SelectionGrid::list_candidates(const Point& point) {
  const Point same = op_.same_candidates(desc_, point);
  const auto it = std::find_if(lists_.begin(), lists_.end(),
                               [&](const CandidateList& list) { return list.point == same; });
  const auto list_idx = static_cast<uint32_t>(it - lists_.begin());
  if (it == lists_.end()) lists_.push_back({same, op_.candidates(desc_, target_, same)});
  return list_idx;
}

Status SelectionGrid::decide_cell(const Point& point, const std::vector<Config>& candidates,
                                  Pick* pick) {
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

Status SelectionGrid::decide(const Table& table) {
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
  for (size_t cell_idx = 0; cell_idx < num_cells; ++cell_idx) {
    const Point end = cell_end(cell_idx);
    list_of_cell_.push_back(list_candidates(end));
    DGRT_TRY(decide_cell(end, lists_[list_of_cell_.back()].configs, &picks_[cell_idx]));
  }
  return ok();
}

// Configs that differ only in run-time fields share a kernel.
uint32_t SelectionGrid::number_kernels() {
  std::vector<Instance> instances;
  for (Winner& winner : winners_) {
    Instance instance = op_.instance(desc_, target_, winner.config);
    const auto it = std::find(instances.begin(), instances.end(), instance);
    winner.kernel_idx = static_cast<uint32_t>(it - instances.begin());
    if (it == instances.end()) instances.push_back(std::move(instance));
  }
  return static_cast<uint32_t>(instances.size());
}

// What each winner costs in each cell, by cell. The model says little about configs that the op does
// not offer for a cell, so these cost more than any that it does.
std::vector<int64_t> SelectionGrid::winner_costs() const {
  const size_t num_winners = winners_.size();
  std::vector<bool> is_offered;  // by list and winner
  for (const CandidateList& list : lists_)
    for (const Winner& winner : winners_)
      is_offered.push_back(std::find(list.configs.begin(), list.configs.end(), winner.config) !=
                           list.configs.end());
  std::vector<int64_t> costs;
  costs.reserve(picks_.size() * num_winners);
  for (size_t cell_idx = 0; cell_idx < picks_.size(); ++cell_idx) {
    const Point end = cell_end(cell_idx);
    for (size_t i = 0; i < num_winners; ++i) {
      const int64_t cost = op_.cost_ps(desc_, target_, end, winners_[i].config);
      const bool is_stranger = !is_offered[list_of_cell_[cell_idx] * num_winners + i];
      costs.push_back(std::min(cost, stranger_ps - 1) + (is_stranger ? stranger_ps : 0));
    }
  }
  return costs;
}

// Starts from all kernels and drops the one whose loss, summed over the cells, is least, until few
// enough are left. Kernels of table rules go last, but before those that leave a cell without any of
// its candidates. Ties: the later one goes.
std::vector<bool> SelectionGrid::choose_kernels(uint32_t num_kernels,
                                                const std::vector<int64_t>& costs) const {
  const size_t num_winners = winners_.size();
  std::vector<bool> alive(num_kernels, true), from_table(num_kernels, false);
  for (const Pick& pick : picks_)
    if (pick.rule) from_table[winners_[pick.config_idx].kernel_idx] = true;
  for (uint32_t num_alive = num_kernels; num_alive > max_plan_kernels; --num_alive) {
    std::vector<int64_t> loss(num_kernels, 0);  // of dropping a kernel
    std::vector<bool> is_needed(num_kernels, false);
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
      if (best < stranger_ps && second >= stranger_ps) is_needed[best_kernel] = true;
      loss[best_kernel] += loss_ppm(second, best < 0 ? pick.cost_ps : best);
    }
    const auto rank = [&](uint32_t i) {
      return std::tuple<bool, bool, int64_t>(is_needed[i], from_table[i], loss[i]);
    };
    uint32_t drop = num_kernels;
    for (uint32_t i = 0; i < num_kernels; ++i)
      if (alive[i] && (drop == num_kernels || rank(i) <= rank(drop))) drop = i;
    alive[drop] = false;
  }
  return alive;
}

Pick SelectionGrid::best_alive(size_t cell_idx, const std::vector<int64_t>& costs,
                               const std::vector<bool>& alive) const {
  const Winner* best = nullptr;
  int64_t best_cost = 0;
  for (size_t i = 0; i < winners_.size(); ++i) {
    const Winner& winner = winners_[i];
    const int64_t cost = costs[cell_idx * winners_.size() + i];
    if (!alive[winner.kernel_idx]) continue;
    if (best && (cost > best_cost || (cost == best_cost && winner.text > best->text))) continue;
    best = &winner;
    best_cost = cost;
  }
  return {static_cast<uint32_t>(best - winners_.data()), nullptr, best_cost % stranger_ps};
}

void SelectionGrid::limit_kernels() {
  const uint32_t num_kernels = number_kernels();
  if (num_kernels <= max_plan_kernels) return;
  const std::vector<int64_t> costs = winner_costs();
  const std::vector<bool> alive = choose_kernels(num_kernels, costs);
  for (size_t cell_idx = 0; cell_idx < picks_.size(); ++cell_idx) {
    Pick& pick = picks_[cell_idx];
    if (pick.rule && alive[winners_[pick.config_idx].kernel_idx]) continue;
    pick = best_alive(cell_idx, costs, alive);
  }
}

}  // namespace dgrt
