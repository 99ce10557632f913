// What `dgrt bench` and `dgrt tune` share: their options, the shapes that these name, and what is
// opened on the device.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/bench_shapes.h"
#include "tools/op_bench.h"

namespace dgrt {

struct BenchOptions {
  std::vector<std::string> ops;  // the caller's default
  std::vector<std::string> nk;
  int64_t num_groups = 0;
  std::vector<int64_t> m;
  std::string shapes, json, cache_dir, commit;
  int device = 0;
  bool quick = false;

  uint32_t repeats() const { return quick ? 12 : lab::Timer::default_repeats; }
};
void add_bench_options(CLI::App& command, BenchOptions& options);

// Of every op, as the options have it.
Result<std::vector<BenchShapes>> load_shapes(const BenchOptions& options);

// A device with its laboratory and a context of dgrt. Closed in reverse order.
class BenchSession {
 public:
  // NO_DEVICE: "<command> needs a GPU: ...".
  static Result<std::unique_ptr<BenchSession>> open(const BenchOptions& options,
                                                    const char* command);

  BenchHost host() const { return {*device_, *timer_, context_.get()}; }
  const lab::Device& device() const { return *device_; }
  const lab::Timing& empty() const { return empty_; }  // an empty kernel
  std::string cuda_version() const;                    // of the driver: "13.0"

  // What every record of a measurement begins with.
  nlohmann::ordered_json head(const char* kind, const BenchOptions& options) const;

 private:
  struct Closer {
    void operator()(dgrt_context* context) const { dgrt_context_destroy(context); }
  };
  BenchSession() = default;

  std::unique_ptr<lab::Device> device_;
  std::unique_ptr<lab::Timer> timer_;
  lab::Timing empty_;
  std::unique_ptr<dgrt_context, Closer> context_;
};

// The bench of any op. Requires: `desc` is complete.
Result<std::unique_ptr<OpBench>> make_any_bench(const BenchHost& host, const BenchDesc& desc);

nlohmann::ordered_json timing_json(const lab::Timing& timing);
// UTC: "2026-11-26".
std::string today();
// IO_ERROR names option and path.
Status write_text(const char* option, const std::string& path, const std::string& text);

}  // namespace dgrt
