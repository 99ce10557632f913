// libcuda for the emulator: the table of entry points; devices and contexts.
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tests/emulator/driver_entries.h"

namespace dgrt::emulator {
namespace {

struct Entry {
  const char* name;
  void* function;
};

constexpr size_t max_devices = 8;
std::array<CUctx_st, max_devices> contexts;
thread_local std::vector<CUcontext> current;  // the last one is

int count_devices() {
  const char* text = getenv("DGRT_EMULATOR_DEVICES");
  return text == nullptr ? 1 : std::clamp(atoi(text), 0, static_cast<int>(max_devices));
}

bool exists(CUdevice device) { return device >= 0 && device < count_devices(); }

#define DGRT_ERRORS(X)                                                                    \
  X(CUDA_SUCCESS, "no error")                                                             \
  X(CUDA_ERROR_INVALID_VALUE, "invalid argument")                                         \
  X(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                            \
  X(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                           \
  X(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                  \
  X(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                           \
  X(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                 \
  X(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for the device")          \
  X(CUDA_ERROR_INVALID_PTX, "the emulator does not know this PTX: see stderr")            \
  X(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                 \
  X(CUDA_ERROR_NOT_FOUND, "named symbol not found")                                       \
  X(CUDA_ERROR_NOT_READY, "device not ready")                                             \
  X(CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                  \
  X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")        \
  X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when a stream captures") \
  X(CUDA_ERROR_INVALID_CLUSTER_SIZE, "cluster misconfiguration")

struct ErrorText {
  CUresult error;
  const char *name, *text;
};

constexpr ErrorText error_texts[] = {
#define DGRT_ERROR(error, text) {error, #error, text},
    DGRT_ERRORS(DGRT_ERROR)
#undef DGRT_ERROR
    {launch_failed, "CUDA_ERROR_LAUNCH_FAILED", "a kernel failed on the emulator: see stderr"},
    {capture_invalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "something unsafe disturbed the capture"},
};

CUresult find_text(CUresult error, const char* ErrorText::*field, const char** text) {
  *text = nullptr;
  for (const ErrorText& known : error_texts)
    if (known.error == error) *text = known.*field;
  return *text == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

}  // namespace

std::lock_guard<std::mutex> lock() {
  static std::mutex mutex;
  return std::lock_guard(mutex);
}

CUcontext context_of(CUstream stream) {
  if (stream != nullptr) return stream->context;
  return current.empty() ? nullptr : current.back();
}

// ---- Errors ----

CUresult cuGetErrorName(CUresult error, const char** text) { return find_text(error, &ErrorText::name, text); }
CUresult cuGetErrorString(CUresult error, const char** text) { return find_text(error, &ErrorText::text, text); }

// ---- Devices ----

CUresult cuInit(unsigned) { return count_devices() > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE; }

CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return exists(ordinal) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetCount(int* count) {
  *count = count_devices();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
      *value = 1'980'000;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = num_sms;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
      *value = 2'619'000;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
      *value = 5120;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
      *value = 50 << 20;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = 9;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = 0;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = max_shared_bytes;
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetName(char* name, int name_bytes, CUdevice device) {
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  snprintf(name, static_cast<size_t>(name_bytes), "Emulated GPU");
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  *uuid = {"Emulated GPU"};
  uuid->bytes[sizeof(uuid->bytes) - 1] = static_cast<char>(device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t* bytes, CUdevice device) {
  *bytes = memory_bytes;
  return exists(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

// ---- Contexts ----

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  const auto guard = lock();
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  CUctx_st& primary = contexts[static_cast<size_t>(device)];
  if (primary.num_owners++ == 0) primary.device = device, primary.failure = CUDA_SUCCESS;
  *context = &primary;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  const auto guard = lock();
  if (!exists(device)) return CUDA_ERROR_INVALID_DEVICE;
  CUctx_st& primary = contexts[static_cast<size_t>(device)];
  if (primary.num_owners == 0) return CUDA_ERROR_INVALID_CONTEXT;
  --primary.num_owners;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext* context) {
  if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  if (!current.empty()) current.pop_back();
  if (context != nullptr) current.push_back(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = context_of(nullptr);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  const CUcontext context = context_of(nullptr);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  *device = context->device;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  const auto guard = lock();
  const CUcontext context = context_of(nullptr);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->failure != CUDA_SUCCESS) return context->failure;
  return check_outside_captures();
}

// The status says how the search ended: 0 found, 1 no such symbol (CUdriverProcAddressQueryResult).
extern "C" __attribute__((visibility("default"))) CUresult cuGetProcAddress_v2(const char* symbol, void** function,
                                                                               int, uint64_t, int* status) {
#define DGRT_ENTRY(name, version, parameters) {#name, reinterpret_cast<void*>(&emulator::name)},
  static constexpr auto same = [](const char* a, const char* b) { return std::strcmp(a, b) == 0; };
  static const Entry entries[] = {DGRT_DRIVER_FUNCTIONS(DGRT_ENTRY) DGRT_DRIVER_OPTIONAL_FUNCTIONS(DGRT_ENTRY)};
#undef DGRT_ENTRY
  const auto* found = std::find_if(std::begin(entries), std::end(entries),
                                   [symbol](const Entry& entry) { return same(entry.name, symbol); });
  *function = found == std::end(entries) ? nullptr : found->function;
  if (status != nullptr) *status = *function == nullptr ? 1 : 0;
  return *function == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

}  // namespace dgrt::emulator
