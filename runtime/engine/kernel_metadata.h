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

// What a key is made of, in a form that can be compared field by field: two kernels of one stem
// have the same key if and only if these are equal. As text, because it is for people.
struct KeyFields {
  std::string stem;
  std::string kernel;       // entry
  std::string config;       // "block_m=128 ..."
  std::string arch;         // "sm_90a"
  std::string options;      // of the compiler, separated by spaces
  std::string template_id;  // 64 hex digits: digest of the template's include closure
  uint64_t num_threads = 0, min_blocks = 0;  // launch bounds
  uint64_t key_version = 0;

  bool operator==(const KeyFields& other) const = default;
};

Result<KeyFields> key_fields(const Instance& instance, const Sources& sources);

std::string make_metadata(const Instance& instance, const KeyFields& fields, uint32_t smem_bytes,
                          const Compiled& compiled);

// What is missing stays empty: the entry is of another version of dgrt.
KeyFields read_key_fields(std::string_view json);

// What the engine itself reads back.
struct KernelFacts {
  std::string entry;
  uint32_t num_registers = 0;
  uint32_t spill_bytes = 0;  // stores and loads, per thread
};

// INVALID_ARGUMENT: not metadata of ours.
Result<KernelFacts> read_metadata(std::string_view json);

}  // namespace dgrt
