// Finding and opening libnvrtc, and telling one build of it from another.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"

namespace dgrt {

using NvrtcProgram = struct NvrtcProgramOpaque*;  // nvrtcProgram
enum class NvrtcResult : int { success = 0 };     // nvrtcResult; other values are only printed

// Entry points, named and typed as in nvrtc.h. The library stays mapped until the process ends.
struct NvrtcLibrary {
  NvrtcResult (*nvrtcVersion)(int* major, int* minor) = nullptr;
  const char* (*nvrtcGetErrorString)(NvrtcResult result) = nullptr;
  NvrtcResult (*nvrtcCreateProgram)(NvrtcProgram* program, const char* source, const char* name,
                                    int num_headers, const char* const* headers,
                                    const char* const* include_names) = nullptr;
  NvrtcResult (*nvrtcDestroyProgram)(NvrtcProgram* program) = nullptr;
  NvrtcResult (*nvrtcCompileProgram)(NvrtcProgram program, int num_options,
                                     const char* const* options) = nullptr;
  NvrtcResult (*nvrtcGetCUBINSize)(NvrtcProgram program, size_t* bytes) = nullptr;
  NvrtcResult (*nvrtcGetCUBIN)(NvrtcProgram program, char* cubin) = nullptr;
  NvrtcResult (*nvrtcGetProgramLogSize)(NvrtcProgram program, size_t* bytes) = nullptr;
  NvrtcResult (*nvrtcGetProgramLog)(NvrtcProgram program, char* log) = nullptr;
  // Null in a library that has none: then images keep variables that they do not need.
  NvrtcResult (*nvrtcGetPTXSize)(NvrtcProgram program, size_t* bytes) = nullptr;
  NvrtcResult (*nvrtcGetPTX)(NvrtcProgram program, char* ptx) = nullptr;

  CompilerId id;
  std::string path;
};

// Search order: see Nvrtc::load(). NO_COMPILER names what was found and refused.
Result<std::shared_ptr<const NvrtcLibrary>> load_nvrtc_library();

// The first of these files that is a usable libnvrtc; names without a slash are looked for as the
// loader does. NO_COMPILER as above; `refused`: what to say first of those seen before.
Result<std::shared_ptr<const NvrtcLibrary>> open_nvrtc_library(
    const std::vector<std::string>& names, std::string refused = {});

// Files that may be libnvrtc, in the order in which they are tried.
std::vector<std::string> nvrtc_candidates();

// The GNU build id of the loaded ELF image that holds `address`, cut or zero-padded to 20 bytes:
// read from memory, in microseconds. An image without one is identified by a BLAKE2b hash of its
// file's size and first 64 KB, which hold the ELF header and symbol hashes.
std::array<uint8_t, 20> image_identity(const void* address);

}  // namespace dgrt
