// Driver: libcuda, opened at run time, so that everything that needs no GPU works on a machine
// without one. Every entry point comes from cuGetProcAddress for a stated CUDA version: a plain
// dlsym of some names returns legacy variants with 32-bit sizes.
//
// A default-constructed Driver has null entry points; tests fill in their own.
#pragma once
#include <memory>

#include "runtime/base/status.h"
#include "runtime/driver/cuda_abi.h"

namespace dgrt {

// X(name, CUDA version whose variant of the name is meant, parameters). All return CUresult.
#define DGRT_DRIVER_FUNCTIONS(X)                                                                   \
  X(cuInit, 2000, (unsigned flags))                                                                \
  X(cuDriverGetVersion, 2020, (int* version))                                                      \
  X(cuGetErrorName, 6000, (CUresult error, const char** text))                                     \
  X(cuGetErrorString, 6000, (CUresult error, const char** text))                                   \
  X(cuDeviceGet, 2000, (CUdevice * device, int ordinal))                                           \
  X(cuDeviceGetCount, 2000, (int* count))                                                          \
  X(cuDeviceGetAttribute, 2000, (int* value, CUdevice_attribute attribute, CUdevice device))       \
  X(cuDeviceGetName, 2000, (char* name, int name_bytes, CUdevice device))                          \
  X(cuDeviceGetUuid, 11040, (CUuuid * uuid, CUdevice device))                                      \
  X(cuDeviceTotalMem, 3020, (size_t * bytes, CUdevice device))                                     \
  X(cuDevicePrimaryCtxRetain, 7000, (CUcontext * context, CUdevice device))                        \
  X(cuDevicePrimaryCtxRelease, 11000, (CUdevice device))                                           \
  X(cuCtxPushCurrent, 4000, (CUcontext context))                                                   \
  X(cuCtxPopCurrent, 4000, (CUcontext * context))                                                  \
  X(cuCtxSetCurrent, 4000, (CUcontext context))                                                    \
  X(cuCtxGetCurrent, 4000, (CUcontext * context))                                                  \
  X(cuCtxGetDevice, 2000, (CUdevice * device))                                                     \
  X(cuCtxSynchronize, 2000, ())                                                                    \
  X(cuStreamCreate, 2000, (CUstream * stream, unsigned flags))                                     \
  X(cuStreamDestroy, 4000, (CUstream stream))                                                      \
  X(cuStreamSynchronize, 2000, (CUstream stream))                                                  \
  X(cuStreamGetCtx, 9020, (CUstream stream, CUcontext * context))                                  \
  X(cuStreamBeginCapture, 10010, (CUstream stream, CUstreamCaptureMode mode))                      \
  X(cuStreamEndCapture, 10000, (CUstream stream, CUgraph * graph))                                 \
  X(cuStreamIsCapturing, 10000, (CUstream stream, CUstreamCaptureStatus * status))                 \
  X(cuThreadExchangeStreamCaptureMode, 10010, (CUstreamCaptureMode * mode))                        \
  X(cuGraphInstantiateWithFlags, 11040,                                                            \
    (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                                 \
  X(cuGraphLaunch, 10000, (CUgraphExec exec, CUstream stream))                                     \
  X(cuGraphExecDestroy, 10000, (CUgraphExec exec))                                                 \
  X(cuGraphDestroy, 10000, (CUgraph graph))                                                        \
  X(cuEventCreate, 2000, (CUevent * event, unsigned flags))                                        \
  X(cuEventRecord, 2000, (CUevent event, CUstream stream))                                         \
  X(cuEventSynchronize, 2000, (CUevent event))                                                     \
  X(cuEventElapsedTime, 2000, (float* ms, CUevent start, CUevent end))                             \
  X(cuEventDestroy, 4000, (CUevent event))                                                         \
  X(cuMemAlloc, 3020, (CUdeviceptr * pointer, size_t bytes))                                       \
  X(cuMemFree, 3020, (CUdeviceptr pointer))                                                        \
  X(cuMemcpyHtoDAsync, 3020, (CUdeviceptr to, const void* from, size_t bytes, CUstream stream))    \
  X(cuMemcpyDtoHAsync, 3020, (void* to, CUdeviceptr from, size_t bytes, CUstream stream))          \
  X(cuMemcpyDtoDAsync, 3020, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))    \
  X(cuMemsetD8Async, 3020, (CUdeviceptr to, unsigned char value, size_t elems, CUstream stream))   \
  X(cuMemsetD32Async, 3020, (CUdeviceptr to, unsigned value, size_t elems, CUstream stream))       \
  X(cuLibraryLoadData, 12000,                                                                      \
    (CUlibrary * library, const void* code, CUjit_option* jit_options, void** jit_values,          \
     unsigned num_jit_options, CUlibraryOption* options, void** values, unsigned num_options))     \
  X(cuLibraryUnload, 12000, (CUlibrary library))                                                   \
  X(cuLibraryGetKernel, 12000, (CUkernel * kernel, CUlibrary library, const char* name))           \
  X(cuKernelGetFunction, 12000, (CUfunction * function, CUkernel kernel))                          \
  X(cuKernelGetAttribute, 12000,                                                                   \
    (int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device))                \
  X(cuKernelSetAttribute, 12000,                                                                   \
    (CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device))                 \
  X(cuLaunchKernelEx, 11060,                                                                       \
    (const CUlaunchConfig* config, CUfunction function, void** params, void** extra))              \
  X(cuOccupancyMaxActiveClusters, 11070,                                                           \
    (int* clusters, CUfunction function, const CUlaunchConfig* config))                            \
  X(cuTensorMapEncodeTiled, 12000,                                                                 \
    (CUtensorMap * map, CUtensorMapDataType type, uint32_t rank, void* base, const uint64_t* dims, \
     const uint64_t* strides_bytes, const uint32_t* box, const uint32_t* element_strides,          \
     CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,                                 \
     CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill))

// Entry points that drivers before CUDA 12.4 lack: null there.
#define DGRT_DRIVER_OPTIONAL_FUNCTIONS(X)                                            \
  X(cuKernelGetParamInfo, 12040,                                                     \
    (CUkernel kernel, size_t param_idx, size_t * offset_bytes, size_t * size_bytes)) \
  X(cuFuncLoad, 12040, (CUfunction function))

// Immutable after load() and thread safe. libcuda stays mapped until the process ends.
class Driver {
 public:
  // NO_DEVICE: libcuda is missing or refuses to start (no GPU, say); the message says which.
  // DRIVER_TOO_OLD: older than CUDA 12.0, the first with context-independent kernels.
  static Result<std::shared_ptr<const Driver>> load();

#define DGRT_DECLARE(name, version, parameters) CUresult(*name) parameters = nullptr;
  DGRT_DRIVER_FUNCTIONS(DGRT_DECLARE)
  DGRT_DRIVER_OPTIONAL_FUNCTIONS(DGRT_DECLARE)
#undef DGRT_DECLARE

  int version = 0;  // 1000 * major + 10 * minor of the newest CUDA that the driver serves
};

// DRIVER_ERROR "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (out of memory)". `what` is cut at its first
// '('.
Status cu_status(const Driver& driver, CUresult result, const char* what);

// "13.0" of 13000.
std::string cuda_version_string(int version);

}  // namespace dgrt

// DGRT_CU(driver, cuMemAlloc(&pointer, bytes)): returns from the calling function unless it
// succeeds.
#define DGRT_CU(driver, call) DGRT_TRY(::dgrt::cu_status((driver), (driver).call, #call))
