// Nvrtc: NVIDIA's run-time compiler, opened when a kernel has to be compiled and not before: a
// process whose kernels are all cached never maps the 109 MB library. Needs neither GPU nor driver.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/sources.h"

namespace dgrt {

struct NvrtcLibrary;

struct CompilePhases {  // milliseconds
  double front_ms = 0;  // parsing, templates
  double nvvm_ms = 0;   // optimiser, PTX
  double ptxas_ms = 0;  // machine code
};

struct Compiled {
  std::vector<uint8_t> cubin;
  std::string log;             // warnings and the assembler's resource report
  uint32_t num_registers = 0;  // per thread
  uint32_t stack_bytes = 0;    // per thread
  uint32_t spill_store_bytes = 0, spill_load_bytes = 0;  // per thread
  double total_ms = 0;
  std::optional<CompilePhases> phases;  // if asked for
  bool spills() const { return spill_store_bytes != 0 || spill_load_bytes != 0; }
};

// Immutable and thread safe. Threads hardly help: NVRTC's front end is serialised.
class Nvrtc {
 public:
  // Takes a libnvrtc that the process has already loaded, else the first of 12.8 or newer among:
  // the loader's path, $CUDA_HOME and $CUDA_PATH, /usr/local/cuda and /usr/local/cuda-*,
  // $VIRTUAL_ENV's pip packages. NO_COMPILER: says what was found and where to get one.
  static Result<std::shared_ptr<const Nvrtc>> load();

  // One whose entry points are given.
  static std::shared_ptr<const Nvrtc> with(std::shared_ptr<const NvrtcLibrary> library);

  const CompilerId& id() const;
  const std::string& path() const;  // of the library file

  // COMPILE_FAILED: the message holds options and log. Spills are not a failure here.
  Result<Compiled> compile(const Instance& instance, const Sources& sources,
                           bool with_phases = false) const;

 private:
  Nvrtc() = default;

  std::shared_ptr<const NvrtcLibrary> library_;
};

}  // namespace dgrt
