#include "tools/lib/lab_device.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "runtime/driver/launch.h"

namespace dgrt::lab {
namespace {

constexpr unsigned char guard_byte = 0xa5, poison_byte = 0xff;
constexpr std::string_view emulated_gpu = "Emulated GPU";

CUdeviceptr address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

}  // namespace

// ---- Device ----

Result<std::unique_ptr<Device>> Device::open(int ordinal) {
  std::unique_ptr<Device> lab(new Device());
  DGRT_ASSIGN(std::shared_ptr<const Driver> driver, Driver::load());
  DGRT_ASSIGN(lab->device_, ::dgrt::Device::open(driver, ordinal));
  DGRT_ASSIGN(lab->compiler_, Nvrtc::load());
  DGRT_TRY(lab->make_current());
  DGRT_CU(*driver, cuStreamCreate(&lab->stream_, CU_STREAM_NON_BLOCKING));
  lab->info_ = {lab->device_->name(), lab->device_->sm_count(),
                static_cast<uint32_t>(driver->version), lab->compiler_->id().name()};
  return lab;
}

Device::~Device() {
  if (stream_) (void)driver().cuStreamDestroy(stream_);
}

Status Device::make_current() const {
  DGRT_CU(driver(), cuCtxSetCurrent(device_->context()));
  return ok();
}

Status Device::synchronize() const {
  DGRT_CU(driver(), cuCtxSynchronize());
  return ok();
}

Result<CUkernel> Device::get(const LabKernel& kernel) const {
  Instance instance;
  instance.stem = kernel.name;
  instance.header = fmt::format("tools/lib/lab_{}.cuh", kernel.name);
  instance.name_space = fmt::format("dgrt::lab::{}", kernel.name);
  instance.entry = fmt::format("lab_{}_{}", kernel.name, kernel.kind);
  instance.arch = device_->arch();
  instance.cfg = {{"kind", kernel.kind}};
  instance.num_threads = kernel.num_threads;
  instance.params_bytes = kernel.params_bytes;

  const std::lock_guard lock(mutex_);
  auto known = kernels_.find(instance.entry);
  if (known == kernels_.end()) {
    DGRT_ASSIGN(const Compiled compiled, compiler_->compile(instance, sources_));
    const KernelImage image{compiled.cubin, instance.entry, info_.compiler, 0, kernel.params_bytes};
    DGRT_ASSIGN(LoadedKernel loaded, LoadedKernel::load(device_, image));
    known = kernels_.emplace(instance.entry, std::move(loaded)).first;
  }
  return known->second.handle();
}

Status Device::launch(const LabKernel& kernel, const void* params, uint32_t grid_x, uint32_t grid_y,
                      CUstream stream) const {
  DGRT_ASSIGN(CUkernel handle, get(kernel));
  const uint32_t grid[3] = {grid_x, grid_y, 1}, cluster[3] = {1, 1, 1};
  KernelLaunch call;
  call.kernel = handle;
  call.grid = grid;
  call.cluster = cluster;
  call.num_threads = kernel.num_threads;
  call.params = params;
  return ::dgrt::launch(driver(), call, stream);
}

// ---- DeviceBuffer ----

Result<DeviceBuffer> DeviceBuffer::make(const Device& device, size_t bytes) {
  DeviceBuffer buffer;
  CUdeviceptr memory = 0;
  const size_t guard_bytes = device.info().name == emulated_gpu ? 0 : 4096;
  DGRT_CU(device.driver(), cuMemAlloc(&memory, std::max<size_t>(bytes + 2 * guard_bytes, 1)));
  buffer.device_ = &device;
  buffer.bytes_ = bytes;
  buffer.guard_bytes_ = guard_bytes;
  buffer.data_ = reinterpret_cast<std::byte*>(memory) + guard_bytes;
  const CUstream stream = device.stream();
  if (guard_bytes > 0) {
    DGRT_CU(device.driver(), cuMemsetD8Async(memory, guard_byte, guard_bytes, stream));
    DGRT_CU(device.driver(),
            cuMemsetD8Async(memory + guard_bytes + bytes, guard_byte, guard_bytes, stream));
  }
  DGRT_TRY(buffer.poison());
  DGRT_CU(device.driver(), cuStreamSynchronize(stream));
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_) (void)device_->driver().cuMemFree(address(data_ - guard_bytes_));
}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(guard_bytes_, other.guard_bytes_);
  return *this;
}

Status DeviceBuffer::poison() const {
  if (bytes_ == 0) return ok();
  DGRT_CU(device_->driver(),
          cuMemsetD8Async(address(data_), poison_byte, bytes_, device_->stream()));
  return ok();
}

Status DeviceBuffer::check_guards() const {
  DGRT_TRY(device_->synchronize());
  if (guard_bytes_ == 0) return ok();
  std::vector<unsigned char> guard(guard_bytes_);
  const Driver& cu = device_->driver();
  for (const int64_t start : {-static_cast<int64_t>(guard_bytes_), static_cast<int64_t>(bytes_)}) {
    DGRT_CU(cu, cuMemcpyDtoHAsync(guard.data(), address(data_ + start), guard_bytes_,
                                  device_->stream()));
    DGRT_CU(cu, cuStreamSynchronize(device_->stream()));
    for (size_t i = 0; i < guard_bytes_; ++i) {
      if (guard[i] == guard_byte) continue;
      return error(DGRT_INTERNAL, "byte {} of a buffer of {} bytes was overwritten with {:#04x}",
                   start + static_cast<int64_t>(i), bytes_, guard[i]);
    }
  }
  return ok();
}

Status DeviceBuffer::upload(const void* from, size_t bytes, size_t offset) const {
  if (offset + bytes > bytes_)
    return invalid("upload of {} bytes at {}: the buffer has {}", bytes, offset, bytes_);
  if (bytes == 0) return ok();
  DGRT_CU(device_->driver(),
          cuMemcpyHtoDAsync(address(data_ + offset), from, bytes, device_->stream()));
  DGRT_CU(device_->driver(), cuStreamSynchronize(device_->stream()));
  return ok();
}

Status DeviceBuffer::download(void* to, size_t bytes, size_t offset) const {
  if (offset + bytes > bytes_)
    return invalid("download of {} bytes at {}: the buffer has {}", bytes, offset, bytes_);
  DGRT_TRY(device_->synchronize());
  if (bytes == 0) return ok();
  DGRT_CU(device_->driver(),
          cuMemcpyDtoHAsync(to, address(data_ + offset), bytes, device_->stream()));
  DGRT_CU(device_->driver(), cuStreamSynchronize(device_->stream()));
  return ok();
}

// ---- Stream ----

Result<Stream> Stream::make(const Device& device) {
  Stream stream;
  DGRT_CU(device.driver(), cuStreamCreate(&stream.stream_, CU_STREAM_NON_BLOCKING));
  stream.device_ = &device;
  return stream;
}

Stream::~Stream() {
  if (device_) (void)device_->driver().cuStreamDestroy(stream_);
}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(stream_, other.stream_);
  return *this;
}

Status Stream::synchronize() const {
  DGRT_CU(device_->driver(), cuStreamSynchronize(stream_));
  return ok();
}

}  // namespace dgrt::lab
