// One op with one shape in `dgrt bench` and `dgrt tune`: for each m the result is checked, then timed.
// What an op adds is its operands, its check and what the call costs. Plans are made and launched
// through the C API, as an engine does; only a plan of one forced config has to go past it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dgrt/dgrt.h"
#include "runtime/base/config.h"
#include "tools/lib/lab_device.h"
#include "tools/lib/lab_timer.h"

namespace dgrt {

// What every bench of a run shares; all of it outlives them.
struct BenchHost {
  const lab::Device& device;
  lab::Timer& timer;
  dgrt_context* context;
};

// The least that a call must do: each input read once, each output written once.
struct BenchCost {
  double bytes = 0, flops = 0;
  dgrt_dtype flops_dtype = 0;  // of the operands; only if flops > 0
};

struct BenchCheck {
  uint64_t elements = 0;                               // how many were compared
  std::vector<std::pair<const char*, double>> errors;  // by name; none for ops that are exact
  std::string wrong;                                   // what is; "" if nothing
};

struct BenchRow {
  int64_t m = 0;
  std::string kernel;  // entry name
  BenchCheck check;
  lab::Timing cold, graph;  // not timed when the result is wrong
  BenchCost cost;

  bool is_right() const { return check.wrong.empty(); }
};

// A plan with its workspace. Movable, owns both.
class BenchPlan {
 public:
  // `only`: the config of every call; null: what the library chooses.
  static Result<BenchPlan> make(const BenchHost& host, const dgrt_desc* desc,
                                const Config* only = nullptr);

  Status launch(const dgrt_args* args, CUstream stream) const;
  Result<std::string> kernel_name(const dgrt_args* args) const;

 private:
  struct Closer {
    void operator()(dgrt_plan* plan) const { dgrt_plan_destroy(plan); }
  };
  explicit BenchPlan(dgrt_plan* plan) : plan_(plan) {}

  std::unique_ptr<dgrt_plan, Closer> plan_;
  lab::DeviceBuffer workspace_;
};

class OpBench {
 public:
  virtual ~OpBench() = default;
  OpBench(const OpBench&) = delete;
  OpBench& operator=(const OpBench&) = delete;

  // Checks and times the library's choice. A wrong result is a row as well; a status says that there
  // is none.
  Result<BenchRow> run(int64_t m, uint32_t repeats);

  virtual const dgrt_desc* desc() const = 0;
  // Inputs for m rows, outputs poisoned. The args live until the next call.
  virtual Result<const dgrt_args*> prepare(int64_t m) = 0;
  // Launches once, and compares. Requires: `args` are of the last prepare(), and nobody has launched
  // with them.
  Result<BenchCheck> check_launch(const BenchPlan& plan, const dgrt_args* args) const;

 protected:
  explicit OpBench(const BenchHost& host) : host_(host) {}
  const lab::Device& device() const { return host_.device; }

 private:
  // What the launch with these args has left. INTERNAL: it is wrong.
  virtual Status check(BenchCheck* check) const = 0;
  virtual BenchCost cost(int64_t m) const = 0;

  BenchHost host_;
  std::optional<BenchPlan> plan_;  // of the library's choices; made by the first run()
};

// Requires: Bench is constructed from (host, desc); its init(), if it has one, makes what outlives a
// run().
template <class Bench, class Desc>
Result<std::unique_ptr<OpBench>> make_op_bench(const BenchHost& host, const Desc& desc) {
  auto bench = std::make_unique<Bench>(host, desc);
  if constexpr (requires { bench->init(); }) DGRT_TRY(bench->init());
  return std::unique_ptr<OpBench>(std::move(bench));
}

}  // namespace dgrt
