#include "runtime/driver/launch.h"

namespace dgrt {

Status launch(const Driver& driver, const KernelLaunch& call, CUstream stream) {
  CUlaunchAttribute attributes[2];
  CUlaunchConfig config{};
  config.gridDimX = call.grid[0];
  config.gridDimY = call.grid[1];
  config.gridDimZ = call.grid[2];
  config.blockDimX = call.num_threads;
  config.blockDimY = 1;
  config.blockDimZ = 1;
  config.sharedMemBytes = call.smem_bytes;
  config.hStream = stream;
  config.attrs = attributes;
  if (call.cluster[0] != 1 || call.cluster[1] != 1 || call.cluster[2] != 1) {
    CUlaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim = {call.cluster[0], call.cluster[1], call.cluster[2]};
  }
  if (call.pdl) {
    CUlaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
  }
  void* params[] = {const_cast<void*>(call.params)};
  // The driver takes a kernel in place of a function and resolves it in the stream's own context.
  const auto function = reinterpret_cast<CUfunction>(call.kernel);
  const CUresult result = driver.cuLaunchKernelEx(&config, function, params, nullptr);
  if (result == CUDA_SUCCESS) [[likely]]
    return ok();
  const Status status = cu_status(driver, result, "cuLaunchKernelEx");
  return error(DGRT_DRIVER_ERROR,
               "{}: grid {}x{}x{}, cluster {}x{}x{}, {} threads, {} bytes of "
               "shared memory{}",
               status.message(), call.grid[0], call.grid[1], call.grid[2], call.cluster[0],
               call.cluster[1], call.cluster[2], call.num_threads, call.smem_bytes,
               call.pdl ? ", dependent launch" : "");
}

}  // namespace dgrt
