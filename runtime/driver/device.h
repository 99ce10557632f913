// Device: one GPU, with its primary CUDA context retained, and what kernels are chosen by.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "runtime/driver/driver.h"

namespace dgrt {

// Immutable and thread safe. Owns one reference to the primary context.
class Device {
 public:
  // NO_DEVICE: no such ordinal. UNSUPPORTED: compute capability below 9.0.
  static Result<std::shared_ptr<const Device>> open(std::shared_ptr<const Driver> driver,
                                                    int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return *driver_; }
  CUdevice handle() const { return handle_; }
  CUcontext context() const { return context_; }
  int ordinal() const { return ordinal_; }
  const std::string& arch() const { return arch_; }  // "sm_90a"
  uint32_t sm_count() const { return sm_count_; }
  const std::string& name() const { return name_; }  // "NVIDIA H200"

 private:
  explicit Device(std::shared_ptr<const Driver> driver) : driver_(std::move(driver)) {}

  std::shared_ptr<const Driver> driver_;
  CUdevice handle_ = 0;
  CUcontext context_ = nullptr;
  int ordinal_ = 0;
  std::string arch_;
  uint32_t sm_count_ = 0;
  std::string name_;
};

// Makes a device's primary context current on this thread for the scope's length.
class ScopedContext {
 public:
  explicit ScopedContext(const Device& device);
  ~ScopedContext();
  ScopedContext(const ScopedContext&) = delete;
  ScopedContext& operator=(const ScopedContext&) = delete;
  // Not OK: the context could not be made current, nothing will be undone.
  const Status& status() const { return status_; }

 private:
  const Driver& driver_;
  Status status_;
};

// Lets this thread load modules and allocate while another thread captures a graph in the driver's
// default mode, which otherwise forbids such calls in the whole process.
class ScopedRelaxedCapture {
 public:
  explicit ScopedRelaxedCapture(const Driver& driver);
  ~ScopedRelaxedCapture();
  ScopedRelaxedCapture(const ScopedRelaxedCapture&) = delete;
  ScopedRelaxedCapture& operator=(const ScopedRelaxedCapture&) = delete;
  const Status& status() const { return status_; }

 private:
  const Driver& driver_;
  CUstreamCaptureMode previous_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  Status status_;
};

}  // namespace dgrt
