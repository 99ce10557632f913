// LoadedKernel: a compiled kernel on a device, loaded so far that its first launch loads nothing:
// with the driver's lazy loading, that launch would otherwise wait for the GPU to drain while it
// holds the context's lock, and fail inside a graph capture.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/base/status.h"
#include "runtime/driver/device.h"

namespace dgrt {

struct KernelImage {
  std::span<const uint8_t> cubin;  // copied by the driver
  std::string entry;               // extern "C" name
  std::string compiler;            // CompilerId::name() of who made it; for messages
  uint32_t smem_bytes = 0;         // dynamic shared memory that launches use at most
  uint32_t params_bytes = 0;       // sizeof(Params) on the host
};

// Move-only; unloads the kernel when destroyed, so it must outlive launches and graphs that use it.
class LoadedKernel {
 public:
  // DRIVER_TOO_OLD: the driver refuses the image; the message names driver and compiler.
  // INTERNAL: the kernel's parameter is not params_bytes long. DRIVER_ERROR: any other failure.
  static Result<LoadedKernel> load(std::shared_ptr<const Device> device, const KernelImage& image);
  LoadedKernel(LoadedKernel&& other) noexcept;
  LoadedKernel& operator=(LoadedKernel&& other) noexcept;
  ~LoadedKernel();

  CUkernel handle() const { return kernel_; }
  uint32_t num_registers() const { return num_registers_; }  // per thread

 private:
  LoadedKernel() = default;

  std::shared_ptr<const Device> device_;
  CUlibrary library_ = nullptr;
  CUkernel kernel_ = nullptr;
  uint32_t num_registers_ = 0;
};

}  // namespace dgrt
