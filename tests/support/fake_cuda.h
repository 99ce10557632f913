// A CUDA driver made of functions that only take notes: two devices of compute capability 9.0,
// streams and contexts that are numbers. For tests of the launch path on machines without a GPU.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/driver/driver.h"

namespace dgrt::test {

// One at a time; the notes are global because entry points are plain functions.
struct FakeCuda {
  // What the fake does.
  inline static CUresult load_result = CUDA_SUCCESS;  // of cuLibraryLoadData
  inline static CUresult launch_result = CUDA_SUCCESS;
  inline static size_t params_bytes = 0;  // what every kernel says it takes
  inline static uintptr_t current = 0;    // this thread's context; 0: none
  // What it saw.
  inline static int num_launches = 0;
  inline static CUlaunchConfig last_config{};
  inline static std::vector<unsigned char> last_params;
  inline static int num_loaded = 0;  // libraries now

  // Contexts: 100 + device is a device's primary one, 200 + device another one on it. The stream of
  // a context is 1000 + context.
  static CUcontext context_of(uintptr_t number) { return reinterpret_cast<CUcontext>(number); }
  static CUstream stream_of(uintptr_t context) {
    return reinterpret_cast<CUstream>(1000 + context);
  }

  static std::shared_ptr<const Driver> make() {
    load_result = launch_result = CUDA_SUCCESS;
    params_bytes = 0;
    current = 0;
    num_launches = num_loaded = 0;
    auto driver = std::make_shared<Driver>();
    driver->version = 13000;
    set_device_functions(driver.get());
    set_context_functions(driver.get());
    set_kernel_functions(driver.get());
    return driver;
  }

 private:
  static void set_device_functions(Driver* cu) {
    cu->cuGetErrorName = [](CUresult, const char** text) {
      return *text = "FAKE_ERROR", CUDA_SUCCESS;
    };
    cu->cuGetErrorString = [](CUresult, const char** text) { return *text = "fake", CUDA_SUCCESS; };
    cu->cuDeviceGetCount = [](int* count) { return *count = 2, CUDA_SUCCESS; };
    cu->cuDeviceGet = [](CUdevice* device, int ordinal) { return *device = ordinal, CUDA_SUCCESS; };
    cu->cuDeviceGetName = [](char* name, int bytes, CUdevice) {
      return std::strncpy(name, "Fake GPU", static_cast<size_t>(bytes)), CUDA_SUCCESS;
    };
    cu->cuDeviceGetAttribute = [](int* value, CUdevice_attribute attribute, CUdevice) {
      *value = attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT       ? 132
               : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9
                                                                           : 0;
      return CUDA_SUCCESS;
    };
    cu->cuDevicePrimaryCtxRetain = [](CUcontext* context, CUdevice device) {
      return *context = context_of(100 + static_cast<uintptr_t>(device)), CUDA_SUCCESS;
    };
    cu->cuDevicePrimaryCtxRelease = [](CUdevice) { return CUDA_SUCCESS; };
  }

  static void set_context_functions(Driver* cu) {
    cu->cuCtxPushCurrent = [](CUcontext context) {
      return stack().push_back(current), current = reinterpret_cast<uintptr_t>(context),
                                         CUDA_SUCCESS;
    };
    cu->cuCtxPopCurrent = [](CUcontext* context) {
      *context = context_of(current);
      current = stack().back();
      stack().pop_back();
      return CUDA_SUCCESS;
    };
    cu->cuCtxGetCurrent = [](CUcontext* context) {
      return *context = context_of(current), CUDA_SUCCESS;
    };
    cu->cuCtxGetDevice = [](CUdevice* device) {
      return *device = static_cast<CUdevice>(current % 100), CUDA_SUCCESS;
    };
    cu->cuStreamGetCtx = [](CUstream stream, CUcontext* context) {
      return *context = context_of(reinterpret_cast<uintptr_t>(stream) - 1000), CUDA_SUCCESS;
    };
    cu->cuThreadExchangeStreamCaptureMode = [](CUstreamCaptureMode*) { return CUDA_SUCCESS; };
  }

  static void set_kernel_functions(Driver* cu) {
    cu->cuLibraryLoadData = [](CUlibrary* library, const void*, CUjit_option*, void**, unsigned,
                               CUlibraryOption*, void**, unsigned) {
      if (load_result != CUDA_SUCCESS) return load_result;
      return *library = reinterpret_cast<CUlibrary>(uintptr_t{7}), ++num_loaded, CUDA_SUCCESS;
    };
    cu->cuLibraryUnload = [](CUlibrary) { return --num_loaded, CUDA_SUCCESS; };
    cu->cuLibraryGetKernel = [](CUkernel* kernel, CUlibrary, const char*) {
      return *kernel = reinterpret_cast<CUkernel>(uintptr_t{8}), CUDA_SUCCESS;
    };
    cu->cuKernelGetFunction = [](CUfunction* function, CUkernel) {
      return *function = reinterpret_cast<CUfunction>(uintptr_t{9}), CUDA_SUCCESS;
    };
    cu->cuKernelGetAttribute = [](int* value, CUfunction_attribute, CUkernel, CUdevice) {
      return *value = 40, CUDA_SUCCESS;
    };
    cu->cuKernelSetAttribute = [](CUfunction_attribute, int, CUkernel, CUdevice) {
      return CUDA_SUCCESS;
    };
    cu->cuKernelGetParamInfo = [](CUkernel, size_t param_idx, size_t* offset, size_t* bytes) {
      if (param_idx != 0) return CUDA_ERROR_INVALID_VALUE;
      return *offset = 0, *bytes = params_bytes, CUDA_SUCCESS;
    };
    cu->cuTensorMapEncodeTiled =
        [](CUtensorMap* map, CUtensorMapDataType, uint32_t, void*, const uint64_t*, const uint64_t*,
           const uint32_t*, const uint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
           CUtensorMapL2promotion, CUtensorMapFloatOOBfill) { return *map = {}, CUDA_SUCCESS; };
    cu->cuFuncLoad = [](CUfunction) { return CUDA_SUCCESS; };
    cu->cuLaunchKernelEx = [](const CUlaunchConfig* config, CUfunction, void** params, void**) {
      const auto* bytes = static_cast<const unsigned char*>(params[0]);
      last_config = *config;
      last_params.assign(bytes, bytes + params_bytes);
      return ++num_launches, launch_result;
    };
  }

  static std::vector<uintptr_t>& stack() {
    thread_local std::vector<uintptr_t> contexts;
    return contexts;
  }
};

}  // namespace dgrt::test
