// The device laboratory: what GPU tests and `dgrt bench` need besides dgrt itself: memory with
// guards, inputs, references, clocks. It stands on runtime/driver and runtime/compile; nothing in
// the library uses it.
//
// One Device per process is enough. It keeps the primary context of its device current in the
// thread that opened it; other threads call make_current(). Methods block until the device is done
// unless they take a stream. Not thread safe, except make_current().
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "dgrt/dgrt.h"
#include "runtime/base/status.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/compile/sources.h"
#include "runtime/driver/device.h"
#include "runtime/driver/module.h"

namespace dgrt::lab {

struct DeviceInfo {
  std::string name;  // "NVIDIA H200"
  uint32_t sm_count = 0;
  uint32_t driver_version = 0;  // 13000: CUDA 13.0
  std::string compiler;         // "nvrtc-13.0-..."; what the laboratory's own kernels were built by
};

// One of the laboratory's own kernels: tools/lib/<header>, namespace dgrt::lab::<name>. `kind` is
// its only constant.
struct LabKernel {
  const char* name;
  int kind;
  uint32_t num_threads;
  uint32_t params_bytes;
};

class Device {
 public:
  // NO_DEVICE: no driver or no GPU here. NO_COMPILER: no libnvrtc (the laboratory compiles its own
  // kernels at first use).
  static Result<std::unique_ptr<Device>> open(int ordinal = 0);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceInfo& info() const { return info_; }
  CUstream stream() const { return stream_; }  // non-blocking, owned
  const Driver& driver() const { return device_->driver(); }
  Status make_current() const;
  Status synchronize() const;  // the whole context; reports faults of earlier kernels

  // Thread safe; compiles at first use. Requires: params_bytes and `params` are the kernel's
  // Params.
  Status launch(const LabKernel& kernel, const void* params, uint32_t grid_x, uint32_t grid_y,
                CUstream stream) const;

 private:
  Device() = default;
  Result<CUkernel> get(const LabKernel& kernel) const;

  DeviceInfo info_;
  std::shared_ptr<const ::dgrt::Device> device_;
  std::shared_ptr<const Nvrtc> compiler_;
  Sources sources_;
  CUstream stream_ = nullptr;
  mutable std::mutex mutex_;
  mutable std::map<std::string, LoadedKernel> kernels_;  // guarded by mutex_; by entry name
};

// Device memory between two guards of known bytes; where there are none (info().name is the emulated GPU's), who touches
// a byte beside it fails at once, readers too. Fresh memory is poisoned with 0xff bytes (NaN in
// every float format), so that what a kernel reads without writing, or leaves unwritten, shows.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  static Result<DeviceBuffer> make(const Device& device, size_t bytes);  // 256-byte aligned data
  template <class T>
  static Result<DeviceBuffer> make_of(const Device& device, const std::vector<T>& values) {
    DGRT_ASSIGN(DeviceBuffer buffer, make(device, values.size() * sizeof(T)));
    DGRT_TRY(buffer.upload(values.data(), buffer.bytes()));
    return buffer;
  }
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

  Status poison() const;  // data only, 0xff
  // INTERNAL names the first damaged byte by its offset from data(). Waits for the device.
  Status check_guards() const;
  Status upload(const void* from, size_t bytes, size_t offset = 0) const;
  Status download(void* to, size_t bytes, size_t offset = 0) const;
  template <class T>
  Result<std::vector<T>> download_all() const {
    std::vector<T> values(bytes_ / sizeof(T));
    DGRT_TRY(download(values.data(), values.size() * sizeof(T)));
    return values;
  }

 private:
  const Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0, guard_bytes_ = 0;
};

// A stream of its own, for tests that need more than one.
class Stream {
 public:
  static Result<Stream> make(const Device& device);
  Stream() = default;
  ~Stream();
  Stream(Stream&& other) noexcept { *this = std::move(other); }
  Stream& operator=(Stream&& other) noexcept;
  CUstream get() const { return stream_; }
  Status synchronize() const;

 private:
  const Device* device_ = nullptr;
  CUstream stream_ = nullptr;
};

}  // namespace dgrt::lab
