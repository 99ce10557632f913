#include "runtime/driver/device.h"

namespace dgrt {

Result<std::shared_ptr<const Device>> Device::open(std::shared_ptr<const Driver> driver,
                                                   int ordinal) {
  const Driver& cu = *driver;
  int count = 0;
  DGRT_CU(cu, cuDeviceGetCount(&count));
  if (ordinal < 0 || ordinal >= count)
    return error(DGRT_NO_DEVICE, "device={}: this process sees {} CUDA devices", ordinal, count);

  std::shared_ptr<Device> device(new Device(std::move(driver)));
  device->ordinal_ = ordinal;
  DGRT_CU(cu, cuDeviceGet(&device->handle_, ordinal));
  char name[256] = "";
  DGRT_CU(cu, cuDeviceGetName(name, sizeof(name), device->handle_));
  device->name_ = name;

  int major = 0, minor = 0, sm_count = 0;
  DGRT_CU(cu, cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                                   device->handle_));
  DGRT_CU(cu, cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                                   device->handle_));
  DGRT_CU(cu, cuDeviceGetAttribute(&sm_count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                   device->handle_));
  if (major < 9)
    return error(DGRT_UNSUPPORTED,
                 "device {} ({}) has compute capability {}.{}: dgrt needs 9.0 or newer", ordinal,
                 name, major, minor);
  // "a": kernels use instructions that exist on this very architecture only (WGMMA, tcgen05).
  device->arch_ = fmt::format("sm_{}{}a", major, minor);
  device->sm_count_ = static_cast<uint32_t>(sm_count);

  // Last: from here on the destructor releases it.
  CUcontext context = nullptr;
  DGRT_CU(cu, cuDevicePrimaryCtxRetain(&context, device->handle_));
  device->context_ = context;
  return std::shared_ptr<const Device>(std::move(device));
}

Device::~Device() {
  // Fails only while the process ends and the driver is gone already.
  if (context_ != nullptr) (void)driver_->cuDevicePrimaryCtxRelease(handle_);
}

ScopedContext::ScopedContext(const Device& device)
    : driver_(device.driver()),
      status_(cu_status(driver_, driver_.cuCtxPushCurrent(device.context()), "cuCtxPushCurrent")) {}

ScopedContext::~ScopedContext() {
  CUcontext popped = nullptr;
  if (status_.is_ok()) (void)driver_.cuCtxPopCurrent(&popped);
}

ScopedRelaxedCapture::ScopedRelaxedCapture(const Driver& driver) : driver_(driver) {
  status_ = cu_status(driver_, driver_.cuThreadExchangeStreamCaptureMode(&previous_),
                      "cuThreadExchangeStreamCaptureMode");
}

ScopedRelaxedCapture::~ScopedRelaxedCapture() {
  if (status_.is_ok()) (void)driver_.cuThreadExchangeStreamCaptureMode(&previous_);
}

}  // namespace dgrt
