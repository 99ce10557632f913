// The key of a compiled kernel: everything that changes the binary, except the compiler, and
// nothing else. Never in a key: paths on disk, times, driver, device, problem sizes, the table that
// chose the config.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/sources.h"

namespace dgrt {

// Raised when the encoding of keys changes, or when compile() starts to treat equal inputs
// differently.
inline constexpr uint64_t key_version = 2;

// Options of the compile, in order, without those that cannot change the binary.
std::vector<std::string> compile_options(const Instance& instance);

// BLAKE2b-256 over a length-prefixed encoding of: key version, source text, digest of the header's
// include closure (paths relative to kernels/ and bytes), arch, options.
Result<Key> kernel_key(const Instance& instance, const Sources& sources);

}  // namespace dgrt
