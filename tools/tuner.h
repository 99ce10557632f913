// The measuring half of `dgrt tune`: an op's candidates on one shape, compiled in parallel, each
// checked, then timed against each other. Knows nothing of tables' text and of printing.
#pragma once
#include <string>
#include <vector>

#include "runtime/engine/context.h"
#include "tools/op_bench.h"
#include "tools/progress.h"

namespace dgrt {

struct Contender {
  Config config;
  int64_t cost_ps = 0;  // modelled
  BenchCheck check;
  lab::Timing timing;  // not timed when the result is wrong
  bool is_right() const { return check.wrong.empty(); }
};

// One m of a shape.
struct TunedPoint {
  int64_t m = 0;              // the bench's
  Point at{};                 // the op's selector variables, in its calls
  size_t num_candidates = 0;  // that the op has here
  // Fastest first: the finalists, who were timed more often than the others; these; wrong ones.
  std::vector<Contender> contenders;
  size_t num_finalists = 0;
  size_t model_pick = 0, table_pick = 0;  // what the library takes without its table, and with it

  size_t num_wrong() const;
  // The library's picks are right, so that there is something to compare.
  bool is_decided() const;
  double us(size_t contender) const { return contenders[contender].timing.median_us; }
  // How much slower than the fastest, 0.05: 5 %. Requires: is_decided(); a finalist.
  double loss(size_t contender) const { return us(contender) / us(0) - 1; }
};

class Tuner {
 public:
  struct Options {
    size_t top = 0;  // contenders by the model, besides the library's picks; 0: all candidates
    uint32_t repeats = 0;  // of the final round at most
  };
  // Requires: host.context was made by dgrt_context_create, so that it is a Context.
  Tuner(const BenchHost& host, const Options& options) : host_(host), options_(options) {}

  // Draws its progress on a terminal, where `title` says what is being tuned.
  Result<std::vector<TunedPoint>> tune(OpBench& bench, const std::vector<int64_t>& ms,
                                       const std::string& title) const;

 private:
  Result<TunedPoint> begin(OpBench& bench, const DescCopy& desc, int64_t m) const;
  Status compile(const DescCopy& desc, const std::vector<TunedPoint>& points, ProgressBar* bar,
                 const std::string& title) const;
  Status measure(OpBench& bench, TunedPoint* point) const;
  Context& context() const { return *reinterpret_cast<Context*>(host_.context); }

  const BenchHost host_;
  const Options options_;
};

}  // namespace dgrt
