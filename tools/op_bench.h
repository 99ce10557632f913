// One op with one shape in `dgrt bench`: for each m the result is checked, then timed. What an op
// adds is its operands, its check and what the call costs. Goes through the C API alone, as an
// engine does.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dgrt/dgrt.h"
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

class OpBench {
 public:
  virtual ~OpBench();
  OpBench(const OpBench&) = delete;
  OpBench& operator=(const OpBench&) = delete;

  // A wrong result is a row as well; a status says that there is none.
  Result<BenchRow> run(int64_t m, uint32_t repeats);

 protected:
  explicit OpBench(const BenchHost& host) : host_(host) {}
  Status make_plan(const dgrt_desc* desc);
  const lab::Device& device() const { return host_.device; }

 private:
  // Inputs for m rows, outputs poisoned. The args live until the next call.
  virtual Result<const dgrt_args*> prepare(int64_t m) = 0;
  // What the launch with these args has left. INTERNAL: it is wrong.
  virtual Status check(BenchCheck* check) const = 0;
  virtual BenchCost cost(int64_t m) const = 0;

  Result<std::string> kernel_name(const dgrt_args* args) const;
  Status launch(const dgrt_args* args, CUstream stream) const;

  BenchHost host_;
  dgrt_plan* plan_ = nullptr;
  lab::DeviceBuffer workspace_;
};

// Requires: Bench is constructed from (host, desc); its init() makes the plan and what outlives a
// run().
template <class Bench, class Desc>
Result<std::unique_ptr<OpBench>> make_op_bench(const BenchHost& host, const Desc& desc) {
  auto bench = std::make_unique<Bench>(host, desc);
  DGRT_TRY(bench->init());
  return std::unique_ptr<OpBench>(std::move(bench));
}

}  // namespace dgrt
