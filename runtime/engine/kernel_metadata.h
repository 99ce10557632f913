// The metadata of a cache entry: what a person or a tool wants to know about a compiled kernel
// without parsing its cubin. Deterministic JSON: equal kernels have equal metadata, byte for byte.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/status.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/nvrtc.h"

namespace dgrt {

std::string make_metadata(const Instance& instance, uint32_t smem_bytes, const Compiled& compiled);

// What the engine itself reads back.
struct KernelFacts {
  std::string entry;
  uint32_t num_registers = 0;
  uint32_t spill_bytes = 0;  // stores and loads, per thread
};

// INVALID_ARGUMENT: not metadata of ours.
Result<KernelFacts> read_metadata(std::string_view json);

}  // namespace dgrt
