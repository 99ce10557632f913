// libnvrtc for the emulator: the front half of the real one. What it returns as a cubin is PTX (image.h); the
// assembler, which takes most of the time, does not run. It has a build id of its own, so that no cache mixes its
// images with others.
#include <dlfcn.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/compile/nvrtc_library.h"
#include "tests/emulator/image.h"

namespace dgrt::emulator {
namespace {

constexpr NvrtcResult internal_error{11};  // NVRTC_ERROR_INTERNAL_ERROR
constexpr const char* own_name = "libnvrtc.so.13";

struct Real {
  std::shared_ptr<const NvrtcLibrary> library;  // null: there is none
  NvrtcResult (*get_ptx_size)(NvrtcProgram program, size_t* bytes) = nullptr;
  NvrtcResult (*get_ptx)(NvrtcProgram program, char* ptx) = nullptr;
};

Real open_real() {
  std::vector<std::string> names = nvrtc_candidates();
  std::erase(names, own_name);  // which is this library
  const Result<std::shared_ptr<const NvrtcLibrary>> library = open_nvrtc_library(names);
  if (!library.is_ok()) return {};
  void* handle = dlopen(library.value()->path.c_str(), RTLD_NOW | RTLD_LOCAL);
  Real real;
  real.get_ptx_size = reinterpret_cast<decltype(real.get_ptx_size)>(dlsym(handle, "nvrtcGetPTXSize"));
  real.get_ptx = reinterpret_cast<decltype(real.get_ptx)>(dlsym(handle, "nvrtcGetPTX"));
  if (real.get_ptx_size != nullptr && real.get_ptx != nullptr) real.library = library.value();
  return real;
}

const Real& real() {
  static const Real opened = open_real();
  return opened;
}

// "--gpu-architecture=sm_90a" for a virtual architecture, which is compiled to PTX and no further; nor does the
// assembler report then.
std::vector<std::string> virtual_options(int num_options, const char* const* options) {
  constexpr std::string_view real_arch = "--gpu-architecture=sm_", virtual_arch = "--gpu-architecture=compute_";
  std::vector<std::string> changed;
  for (const std::string_view option : std::vector<std::string_view>(options, options + num_options)) {
    if (option.starts_with(real_arch))
      changed.push_back(fmt::format("{}{}", virtual_arch, option.substr(real_arch.size())));
    else if (!option.starts_with("--ptxas-options="))
      changed.emplace_back(option);
  }
  return changed;
}

}  // namespace

#define DGRT_EXPORT extern "C" __attribute__((visibility("default")))

// Called first, and the only one that is called if it fails.
DGRT_EXPORT NvrtcResult nvrtcVersion(int* major, int* minor) {
  return real().library == nullptr ? internal_error : real().library->nvrtcVersion(major, minor);
}

DGRT_EXPORT const char* nvrtcGetErrorString(NvrtcResult result) {
  return real().library->nvrtcGetErrorString(result);
}

DGRT_EXPORT NvrtcResult nvrtcCreateProgram(NvrtcProgram* program, const char* source, const char* name,
                                           int num_headers, const char* const* headers,
                                           const char* const* include_names) {
  return real().library->nvrtcCreateProgram(program, source, name, num_headers, headers, include_names);
}

DGRT_EXPORT NvrtcResult nvrtcDestroyProgram(NvrtcProgram* program) {
  return real().library->nvrtcDestroyProgram(program);
}

DGRT_EXPORT NvrtcResult nvrtcCompileProgram(NvrtcProgram program, int num_options, const char* const* options) {
  const std::vector<std::string> changed = virtual_options(num_options, options);
  std::vector<const char*> pointers;
  for (const std::string& option : changed) pointers.push_back(option.c_str());
  return real().library->nvrtcCompileProgram(program, static_cast<int>(pointers.size()), pointers.data());
}

DGRT_EXPORT NvrtcResult nvrtcGetCUBINSize(NvrtcProgram program, size_t* bytes) {
  const NvrtcResult result = real().get_ptx_size(program, bytes);
  *bytes += sizeof(ImageHeader);
  return result;
}

DGRT_EXPORT NvrtcResult nvrtcGetCUBIN(NvrtcProgram program, char* cubin) {
  ImageHeader header;
  size_t bytes = 0;  // of the text and a zero
  if (const NvrtcResult result = real().get_ptx_size(program, &bytes); result != NvrtcResult::success) return result;
  header.ptx_bytes = bytes - 1;
  std::memcpy(cubin, &header, sizeof(header));
  return real().get_ptx(program, cubin + sizeof(header));
}

DGRT_EXPORT NvrtcResult nvrtcGetProgramLogSize(NvrtcProgram program, size_t* bytes) {
  return real().library->nvrtcGetProgramLogSize(program, bytes);
}

DGRT_EXPORT NvrtcResult nvrtcGetProgramLog(NvrtcProgram program, char* log) {
  return real().library->nvrtcGetProgramLog(program, log);
}

}  // namespace dgrt::emulator
