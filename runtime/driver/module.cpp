#include "runtime/driver/module.h"

#include <utility>

namespace dgrt {
namespace {

// Without an opt-in per kernel a block may use this much dynamic shared memory (CUDA programming
// guide, compute capability tables).
constexpr uint32_t default_smem_bytes = 48 * 1024;

bool is_refusal(CUresult result) {
  switch (result) {
    case CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER:
    case CUDA_ERROR_INVALID_IMAGE:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_INVALID_SOURCE:
      return true;
    default:
      return false;
  }
}

// Loading is lazy by default, so any of the calls below may be the one that meets the image.
Status load_status(const Device& device, const KernelImage& image, CUresult result,
                   const char* what) {
  if (result == CUDA_SUCCESS) return ok();
  const Status status = cu_status(device.driver(), result, what);
  if (!is_refusal(result))
    return {status.code(), fmt::format("loading {}: {}", image.entry, status.message())};
  return error(DGRT_DRIVER_TOO_OLD,
               "the driver (CUDA {}) refuses {}, made by {}, on device {} ({}): {}",
               cuda_version_string(device.driver().version), image.entry, image.compiler,
               device.ordinal(), device.arch(), status.message());
}

// Catches an image that does not belong to this library's host code before a launch reads past
// Params.
Status check_params(const Device& device, const KernelImage& image, CUkernel kernel) {
  const Driver& cu = device.driver();
  if (cu.cuKernelGetParamInfo == nullptr) return ok();
  size_t offset = 0, bytes = 0;
  DGRT_TRY(load_status(device, image, cu.cuKernelGetParamInfo(kernel, 0, &offset, &bytes),
                       "cuKernelGetParamInfo"));
  // The offset counts from a base that is not itself aligned to 64 bytes: a struct of tensor maps starts
  // at 48 (seen with driver 580).
  if (bytes != image.params_bytes)
    return error(DGRT_INTERNAL, "{} takes {} bytes of parameters, the host has {}", image.entry, bytes,
                 image.params_bytes);
  return ok();
}

}  // namespace

Result<LoadedKernel> LoadedKernel::load(std::shared_ptr<const Device> device,
                                        const KernelImage& image) {
  const Device& on = *device;
  const Driver& cu = on.driver();
  const ScopedRelaxedCapture relaxed(cu);
  DGRT_TRY(relaxed.status());
  const ScopedContext current(on);
  DGRT_TRY(current.status());

  LoadedKernel kernel;
  kernel.device_ = std::move(device);
  DGRT_TRY(load_status(on, image,
                       cu.cuLibraryLoadData(&kernel.library_, image.cubin.data(), nullptr, nullptr,
                                            0, nullptr, nullptr, 0),
                       "cuLibraryLoadData"));
  DGRT_TRY(load_status(on, image,
                       cu.cuLibraryGetKernel(&kernel.kernel_, kernel.library_, image.entry.c_str()),
                       "cuLibraryGetKernel"));
  DGRT_TRY(check_params(on, image, kernel.kernel_));
  if (image.smem_bytes > default_smem_bytes) {
    DGRT_TRY(load_status(
        on, image,
        cu.cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                static_cast<int>(image.smem_bytes), kernel.kernel_, on.handle()),
        "cuKernelSetAttribute"));
  }
  // The function of the current context; launches use the kernel handle, whose function in that
  // context is then this loaded one.
  CUfunction function = nullptr;
  DGRT_TRY(load_status(on, image, cu.cuKernelGetFunction(&function, kernel.kernel_),
                       "cuKernelGetFunction"));
  if (cu.cuFuncLoad != nullptr)
    DGRT_TRY(load_status(on, image, cu.cuFuncLoad(function), "cuFuncLoad"));
  int num_registers = 0;
  DGRT_TRY(load_status(on, image,
                       cu.cuKernelGetAttribute(&num_registers, CU_FUNC_ATTRIBUTE_NUM_REGS,
                                               kernel.kernel_, on.handle()),
                       "cuKernelGetAttribute"));
  kernel.num_registers_ = static_cast<uint32_t>(num_registers);
  return kernel;
}

LoadedKernel::LoadedKernel(LoadedKernel&& other) noexcept
    : device_(std::move(other.device_)),
      library_(std::exchange(other.library_, nullptr)),
      kernel_(std::exchange(other.kernel_, nullptr)),
      num_registers_(other.num_registers_) {}

LoadedKernel& LoadedKernel::operator=(LoadedKernel&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(library_, other.library_);
  std::swap(kernel_, other.kernel_);
  std::swap(num_registers_, other.num_registers_);
  return *this;
}

LoadedKernel::~LoadedKernel() {
  if (library_ == nullptr) return;
  const ScopedRelaxedCapture relaxed(device_->driver());
  // Fails only while the process ends and the driver is gone already.
  (void)device_->driver().cuLibraryUnload(library_);
}

}  // namespace dgrt
