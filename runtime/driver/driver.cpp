#include "runtime/driver/driver.h"

#include <dlfcn.h>

#include <cstring>
#include <string_view>

namespace dgrt {
namespace {

// cuGetProcAddress of CUDA 12: the last parameter tells "no such symbol" from "version not served".
using GetProcAddress = CUresult (*)(const char* symbol, void** function, int cuda_version,
                                    uint64_t flags, int* status);

template <class Function>
bool find(GetProcAddress get, const char* name, int version, Function* function) {
  void* address = nullptr;
  int status = 0;
  if (get(name, &address, version, 0, &status) != CUDA_SUCCESS || address == nullptr) return false;
  *function = reinterpret_cast<Function>(address);
  return true;
}

// cuGetErrorName and cuGetErrorString work before cuInit.
std::string describe(const Driver& driver, CUresult result) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (driver.cuGetErrorName != nullptr) driver.cuGetErrorName(result, &name);
  if (driver.cuGetErrorString != nullptr) driver.cuGetErrorString(result, &text);
  const std::string label =
      name != nullptr ? name : fmt::format("CUDA error {}", static_cast<uint32_t>(result));
  return text != nullptr ? fmt::format("{} ({})", label, text) : label;
}

}  // namespace

Result<std::shared_ptr<const Driver>> Driver::load() {
  // Never closed: kernels, and other users of CUDA in the process, may live until its end.
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return error(DGRT_NO_DEVICE, "no CUDA driver: {}", why != nullptr ? why : "libcuda.so.1");
  }
  const auto get = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress_v2"));
  if (get == nullptr)
    return error(DGRT_DRIVER_TOO_OLD, "libcuda.so.1 is older than CUDA 12.0, which dgrt needs");

  auto driver = std::make_shared<Driver>();
#define DGRT_FIND(name, cuda_version, parameters)     \
  if (!find(get, #name, cuda_version, &driver->name)) \
    return error(DGRT_DRIVER_TOO_OLD,                 \
                 "libcuda.so.1 has no " #name         \
                 " of CUDA {}: dgrt needs "           \
                 "a driver of CUDA 12.0 or newer",    \
                 cuda_version_string(cuda_version));
  DGRT_DRIVER_FUNCTIONS(DGRT_FIND)
#undef DGRT_FIND
#define DGRT_FIND_OPTIONAL(name, cuda_version, parameters) \
  if (!find(get, #name, cuda_version, &driver->name)) driver->name = nullptr;
  DGRT_DRIVER_OPTIONAL_FUNCTIONS(DGRT_FIND_OPTIONAL)
#undef DGRT_FIND_OPTIONAL

  if (const CUresult result = driver->cuInit(0); result != CUDA_SUCCESS)
    return error(DGRT_NO_DEVICE, "no usable CUDA device: cuInit: {}", describe(*driver, result));
  DGRT_CU(*driver, cuDriverGetVersion(&driver->version));
  return std::shared_ptr<const Driver>(std::move(driver));
}

Status cu_status(const Driver& driver, CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return ok();
  const std::string_view call(what);
  return error(DGRT_DRIVER_ERROR, "{}: {}", call.substr(0, call.find('(')),
               describe(driver, result));
}

std::string cuda_version_string(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace dgrt
