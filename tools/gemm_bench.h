// One (n, k) of `dgrt bench`: makes random operands, checks dgrt's result, then times it. Goes
// through the C API alone, as an engine does.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "dgrt/gemm.h"
#include "tools/lib/lab_device.h"
#include "tools/lib/lab_gemm_check.h"
#include "tools/lib/lab_timer.h"

namespace dgrt {

struct GemmRow {
  int64_t m = 0;
  std::string kernel;           // entry name
  lab::GemmError check;         // over sampled tiles
  bool is_right = false;        // below gemm_limits(), guards intact
  lab::Timing cold, graph;      // not timed when the result is wrong
  double flops = 0, bytes = 0;  // each input read once, each output written once
};

class GemmBench {
 public:
  // Requires: desc is complete; its max_m is the largest m that run() will see. Everything passed
  // by reference outlives the object.
  static Result<std::unique_ptr<GemmBench>> make(const lab::Device& device, lab::Timer& timer,
                                                 dgrt_context* context, const dgrt_gemm_desc& desc);
  ~GemmBench();
  GemmBench(const GemmBench&) = delete;
  GemmBench& operator=(const GemmBench&) = delete;

  Result<GemmRow> run(int64_t m, uint32_t repeats);

 private:
  GemmBench(const lab::Device& device, lab::Timer& timer, const dgrt_gemm_desc& desc)
      : device_(device), timer_(timer), desc_(desc) {}
  Status allocate();
  Status make_plan(dgrt_context* context);
  dgrt_gemm_args args(int64_t m) const;
  Status launch(const dgrt_gemm_args& args, CUstream stream) const;
  Status check(const dgrt_gemm_args& args, GemmRow* row) const;

  const lab::Device& device_;
  lab::Timer& timer_;
  dgrt_gemm_desc desc_;
  dgrt_plan* plan_ = nullptr;
  lab::DeviceBuffer a_, b_, a_scale_, b_scale_, d_, workspace_;
};

}  // namespace dgrt
