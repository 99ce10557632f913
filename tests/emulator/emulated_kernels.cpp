// The emulator's driver: libraries of kernels, launches, tensor maps.
#include <stdlib.h>

#include <algorithm>
#include <cstring>

#include "tests/emulator/driver_entries.h"
#include "tests/emulator/image.h"
#include "tests/emulator/tensor_box.h"

namespace dgrt::emulator {
namespace {

constexpr uint32_t max_threads = 1024;
constexpr unsigned max_grid_yz = 65535;
constexpr std::string_view target = ".target sm_90a";

// Another one for every launch of a process: what is late then differs from launch to launch. DGRT_EMULATOR_SEED is
// the first.
uint64_t next_seed() {
  static uint64_t seed = [] {
    const char* text = getenv("DGRT_EMULATOR_SEED");
    return text == nullptr ? 0 : strtoull(text, nullptr, 10);
  }();
  return seed++;
}

uint32_t thread_limit(const Kernel& kernel) {
  return kernel.max_threads == 0 ? max_threads : std::min(kernel.max_threads, max_threads);
}

// Of the config's own values and the kernel's; fills in the cluster.
CUresult check_launch(const CUkern_st& kernel, const CUlaunchConfig& config, Launch* launch) {
  const Kernel& code = *kernel.code;
  launch->grid = {config.gridDimX, config.gridDimY, config.gridDimZ};
  launch->block = {config.blockDimX, config.blockDimY, config.blockDimZ};
  launch->dynamic_shared_bytes = config.sharedMemBytes;
  const uint64_t threads = uint64_t{launch->block[0]} * launch->block[1] * launch->block[2];
  if (threads == 0 || threads > thread_limit(code)) return CUDA_ERROR_INVALID_VALUE;
  if (config.gridDimX == 0 || config.gridDimX > INT32_MAX || config.gridDimY == 0 ||
      config.gridDimY > max_grid_yz || config.gridDimZ == 0 || config.gridDimZ > max_grid_yz)
    return CUDA_ERROR_INVALID_VALUE;
  if (config.sharedMemBytes > static_cast<unsigned>(kernel.max_dynamic_shared_bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (code.static_shared_bytes + config.sharedMemBytes > max_shared_bytes) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config.attrs[i];
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) continue;  // all launches wait
    if (attribute.id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) return CUDA_ERROR_NOT_SUPPORTED;
    const CUlaunchDim& shape = attribute.value.clusterDim;
    launch->cluster = {shape.x, shape.y, shape.z};
  }
  for (size_t i = 0; i < launch->grid.size(); ++i)
    if (launch->cluster[i] == 0 || launch->grid[i] % launch->cluster[i] != 0) return CUDA_ERROR_INVALID_VALUE;
  const uint64_t ctas = uint64_t{launch->cluster[0]} * launch->cluster[1] * launch->cluster[2];
  return ctas > max_portable_cluster ? CUDA_ERROR_INVALID_CLUSTER_SIZE : CUDA_SUCCESS;
}

std::vector<std::byte> copy_params(const Kernel& kernel, void** params) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < kernel.params.size(); ++i) {
    const Param& param = kernel.params[i];
    bytes.resize(param.offset + param.bytes);
    std::memcpy(bytes.data() + param.offset, params[i], param.bytes);
  }
  return bytes;
}

// The kernel itself stands for its function in any context, as the driver allows.
CUkernel kernel_of(CUfunction function) { return reinterpret_cast<CUkernel>(function); }

}  // namespace

CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option*, void**, unsigned, CUlibraryOption*,
                           void**, unsigned) {
  const auto guard = lock();
  if (const CUresult result = check_outside_captures(); result != CUDA_SUCCESS) return result;
  const std::optional<std::string_view> ptx = ptx_of(code);
  if (!ptx) return CUDA_ERROR_INVALID_IMAGE;
  if (ptx->find(target) == std::string_view::npos) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  try {
    const std::shared_ptr<const Module> module = parse_ptx(*ptx);
    auto loaded = std::make_unique<CUlib_st>();
    for (const auto& [name, kernel] : module->kernels) loaded->kernels[name] = {module, &kernel};
    *library = loaded.release();
    return CUDA_SUCCESS;
  } catch (const Fault& fault) {
    fprintf(stderr, "emulator: loading: %s\n", fault.what());
    return CUDA_ERROR_INVALID_PTX;
  }
}

CUresult cuLibraryUnload(CUlibrary library) {
  const auto guard = lock();
  if (const CUresult result = check_outside_captures(); result != CUDA_SUCCESS) return result;
  delete library;
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  const auto known = library->kernels.find(name);
  if (known == library->kernels.end()) return CUDA_ERROR_NOT_FOUND;
  *kernel = &known->second;
  return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  *function = reinterpret_cast<CUfunction>(kernel);
  return context_of(nullptr) == nullptr ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction) { return CUDA_SUCCESS; }

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t param_idx, size_t* offset_bytes, size_t* size_bytes) {
  const std::vector<Param>& params = kernel->code->params;
  if (param_idx >= params.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset_bytes = params[param_idx].offset, *size_bytes = params[param_idx].bytes;
  return CUDA_SUCCESS;
}

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice) {
  const auto guard = lock();
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = static_cast<int>(thread_limit(*kernel->code));
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = static_cast<int>(kernel->code->static_shared_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = 0;  // not known before a launch
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      *value = static_cast<int>(std::min(255u, kernel->code->registers));
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = kernel->max_dynamic_shared_bytes;
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice) {
  const auto guard = lock();
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
      static_cast<uint32_t>(value) + kernel->code->static_shared_bytes > max_shared_bytes)
    return CUDA_ERROR_INVALID_VALUE;
  kernel->max_dynamic_shared_bytes = value;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** params, void** extra) {
  const auto guard = lock();
  const CUkernel kernel = kernel_of(function);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (extra != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  Launch launch;
  if (const CUresult result = check_launch(*kernel, *config, &launch); result != CUDA_SUCCESS) return result;
  launch.params = copy_params(*kernel->code, params);
  return submit(config->hStream, [module = kernel->module, code = kernel->code, launch]() mutable {
    launch.seed = next_seed();
    try {
      run(*code, launch);
    } catch (const Fault& fault) {
      throw Fault(fmt::format("{}: {} (seed {})", code->name, fault.what(), launch.seed));
    }
  });
}

// With one block per SM.
CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction function, const CUlaunchConfig* config) {
  const auto guard = lock();
  Launch launch;
  if (const CUresult result = check_launch(*kernel_of(function), *config, &launch); result != CUDA_SUCCESS)
    return result;
  *clusters = static_cast<int>(num_sms / (launch.cluster[0] * launch.cluster[1] * launch.cluster[2]));
  return CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, uint32_t rank, void* base,
                                const uint64_t* dims, const uint64_t* strides_bytes, const uint32_t* box,
                                const uint32_t* element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  return encode_tensor_map(map, type, rank, base, dims, strides_bytes, box, element_strides, interleave, swizzle,
                           fill);
}

}  // namespace dgrt::emulator
