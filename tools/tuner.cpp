#include "tools/tuner.h"

#include <algorithm>

#include "runtime/engine/prepare.h"
#include "runtime/engine/selection.h"

namespace dgrt {
namespace {

// A first round with few repeats finds who may be the fastest; the final one decides among them.
constexpr uint32_t first_round_share = 4;
constexpr size_t max_finalists = 8;
constexpr double final_distance = 1.1;  // of the fastest time of the first round

// Long calls are repeated as often as fits into about 40 ms, so that prefill takes no longer than
// decode; 16 still tell 2 % apart.
uint32_t affordable(uint32_t repeats, double us) {
  constexpr double budget_us = 40'000;
  return std::min(repeats, std::max(16u, static_cast<uint32_t>(budget_us / std::max(us, 1.0))));
}

// Of the candidate's config in the list, where it is put if it is missing.
size_t place_of(const Candidate& candidate, std::vector<Contender>* contenders) {
  const auto it = std::find_if(contenders->begin(), contenders->end(),
                               [&](const Contender& c) { return c.config == candidate.config; });
  const size_t place = it - contenders->begin();
  if (it == contenders->end()) contenders->push_back({candidate.config, candidate.cost_ps, {}, {}});
  return place;
}

// Brings the contenders into `order`; those that are not in it stay behind, as they stand.
void reorder(const std::vector<size_t>& order, TunedPoint* point) {
  std::vector<size_t> all = order;
  for (size_t i = 0; i < point->contenders.size(); ++i)
    if (std::find(order.begin(), order.end(), i) == order.end()) all.push_back(i);
  std::vector<Contender> contenders;
  for (const size_t i : all) contenders.push_back(std::move(point->contenders[i]));
  point->contenders = std::move(contenders);
  for (size_t* pick : {&point->model_pick, &point->table_pick})
    *pick = std::find(all.begin(), all.end(), *pick) - all.begin();
}

struct Progress {
  ProgressBar* bar;
  const std::string* title;
};

void on_compiled(const dgrt_progress* progress, void* user) {
  const auto& [bar, title] = *static_cast<Progress*>(user);
  bar->update(progress->done, progress->total, 0, *title + " compiled " + progress->kernel);
}

}  // namespace

size_t TunedPoint::num_wrong() const {
  return std::count_if(contenders.begin(), contenders.end(),
                       [](const Contender& c) { return !c.is_right(); });
}

bool TunedPoint::is_decided() const {
  return contenders[model_pick].is_right() && contenders[table_pick].is_right();
}

Result<std::vector<TunedPoint>> Tuner::tune(OpBench& bench, const std::vector<int64_t>& ms,
                                            const std::string& title) const {
  ProgressBar bar;
  DGRT_ASSIGN(const DescCopy desc, DescCopy::make(bench.desc(), context().ops()));
  std::vector<TunedPoint> points;
  for (const int64_t m : ms) {
    DGRT_ASSIGN(TunedPoint point, begin(bench, desc, m));
    points.push_back(std::move(point));
  }
  DGRT_TRY(compile(desc, points, &bar, title));
  for (size_t i = 0; i < points.size(); ++i) {
    bar.update(static_cast<uint32_t>(i), static_cast<uint32_t>(points.size()), 0,
               fmt::format("{} m = {}", title, points[i].m));
    DGRT_TRY(measure(bench, &points[i]));
  }
  return points;
}

// The contenders of one m, in the model's order.
Result<TunedPoint> Tuner::begin(OpBench& bench, const DescCopy& desc, int64_t m) const {
  const OpImpl& op = desc.op();
  DGRT_ASSIGN(const dgrt_args* const args, bench.prepare(m));
  const Point at = op.point(args);
  DGRT_ASSIGN(const Explanation model, explain(op, desc.get(), context().target(), Table(), at));
  DGRT_ASSIGN(const Explanation library,
              explain(op, desc.get(), context().target(), context().table(op), at));
  TunedPoint point;
  point.m = m;
  point.at = at;
  point.num_candidates = model.candidates.size();
  const size_t most = options_.top == 0 ? point.num_candidates : options_.top;
  for (size_t i = 0; i < std::min(most, point.num_candidates); ++i)
    place_of(model.candidates[i], &point.contenders);
  point.model_pick = place_of(model.winner, &point.contenders);
  point.table_pick = place_of(library.winner, &point.contenders);
  return point;
}

Status Tuner::compile(const DescCopy& desc, const std::vector<TunedPoint>& points, ProgressBar* bar,
                      const std::string& title) const {
  std::vector<PlannedKernel> kernels;
  for (const TunedPoint& point : points) {
    for (const Contender& contender : point.contenders) {
      DGRT_ASSIGN(const Selection only,
                  select_only(desc.op(), desc.get(), context().target(), contender.config));
      DGRT_ASSIGN(PlannedKernels planned,
                  planned_kernels(desc, only, context().target(), context().sources()));
      PlannedKernel& kernel = planned.kernels.front();
      const bool is_new = std::none_of(kernels.begin(), kernels.end(),
                                       [&](const auto& other) { return other.key == kernel.key; });
      if (is_new) kernels.push_back(std::move(kernel));
    }
  }
  Progress progress{bar, &title};
  return prepare(context(), std::move(kernels), on_compiled, &progress);
}

Status Tuner::measure(OpBench& bench, TunedPoint* point) const {
  std::vector<Contender>& contenders = point->contenders;
  std::vector<BenchPlan> plans;
  std::vector<size_t> right;
  const dgrt_args* args = nullptr;
  for (Contender& contender : contenders) {
    DGRT_ASSIGN(BenchPlan plan, BenchPlan::make(host_, bench.desc(), &contender.config));
    DGRT_ASSIGN(args, bench.prepare(point->m));
    DGRT_ASSIGN(contender.check, bench.check_launch(plan, args));
    if (contender.is_right()) right.push_back(plans.size());
    plans.push_back(std::move(plan));
  }
  if (right.empty()) return ok();

  const auto time = [&](std::vector<size_t>& who, uint32_t repeats) -> Status {
    std::vector<lab::Operation> operations;
    for (const size_t i : who)
      operations.push_back([&, i](CUstream stream) { return plans[i].launch(args, stream); });
    DGRT_ASSIGN(const std::vector<lab::Timing> timings,
                host_.timer.time_interleaved(operations, repeats));
    for (size_t i = 0; i < who.size(); ++i) contenders[who[i]].timing = timings[i];
    std::sort(who.begin(), who.end(),
              [&](size_t a, size_t b) { return point->us(a) < point->us(b); });
    return ok();
  };
  const double modelled_us = static_cast<double>(contenders[right[0]].cost_ps) * 1e-6;
  const uint32_t repeats = affordable(options_.repeats, modelled_us);
  DGRT_TRY(time(right, std::max(1u, repeats / first_round_share)));
  const auto is_finalist = [&, fastest_us = point->us(right[0])](size_t place) {
    const size_t i = right[place];
    return i == point->model_pick || i == point->table_pick ||
           (place < max_finalists && point->us(i) <= fastest_us * final_distance);
  };
  std::vector<size_t> order, others;
  for (size_t place = 0; place < right.size(); ++place)
    (is_finalist(place) ? order : others).push_back(right[place]);
  point->num_finalists = order.size();
  DGRT_TRY(time(order, affordable(options_.repeats, point->us(order[0]))));
  order.insert(order.end(), others.begin(), others.end());
  reorder(order, point);
  return ok();
}

}  // namespace dgrt
