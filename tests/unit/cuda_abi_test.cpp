// Our declarations of the driver's interface against the toolkit's, at compile time, where there is
// a toolkit.
#include <cstddef>
#include <type_traits>

#include "runtime/driver/driver.h"
#include "tests/support/catch.h"

#if __has_include(<cuda.h>)
#include <cuda.h>  // last: it renames functions by macros

#define DGRT_SAME_VALUE(name) \
  static_assert(static_cast<uint32_t>(dgrt::name) == static_cast<uint32_t>(::name))
#define DGRT_SAME_SIZE(name) static_assert(sizeof(dgrt::name) == sizeof(::name))
#define DGRT_SAME_TYPE(name) static_assert(std::is_same_v<dgrt::name, ::name>)
#define DGRT_SAME_FIELD(name, field)                                     \
  static_assert(offsetof(dgrt::name, field) == offsetof(::name, field)); \
  static_assert(sizeof(dgrt::name::field) == sizeof(::name::field))

DGRT_SAME_TYPE(CUdevice);
DGRT_SAME_TYPE(CUdeviceptr);
DGRT_SAME_TYPE(CUcontext);
DGRT_SAME_TYPE(CUevent);
DGRT_SAME_TYPE(CUfunction);
DGRT_SAME_TYPE(CUgraph);
DGRT_SAME_TYPE(CUgraphExec);
DGRT_SAME_TYPE(CUkernel);
DGRT_SAME_TYPE(CUlibrary);
DGRT_SAME_SIZE(CUresult);
DGRT_SAME_SIZE(CUdevice_attribute);
DGRT_SAME_SIZE(CUfunction_attribute);
DGRT_SAME_SIZE(CUstreamCaptureMode);
DGRT_SAME_SIZE(CUstreamCaptureStatus);
DGRT_SAME_SIZE(CUlaunchAttributeID);
DGRT_SAME_SIZE(CUjit_option);
DGRT_SAME_SIZE(CUlibraryOption);
DGRT_SAME_SIZE(CUtensorMapDataType);
DGRT_SAME_SIZE(CUtensorMapInterleave);
DGRT_SAME_SIZE(CUtensorMapSwizzle);
DGRT_SAME_SIZE(CUtensorMapL2promotion);
DGRT_SAME_SIZE(CUtensorMapFloatOOBfill);
DGRT_SAME_SIZE(CUuuid);
DGRT_SAME_SIZE(CUtensorMap);
DGRT_SAME_SIZE(CUlaunchAttributeValue);
static_assert(alignof(dgrt::CUlaunchAttributeValue) == alignof(::CUlaunchAttributeValue));
DGRT_SAME_SIZE(CUlaunchAttribute);
DGRT_SAME_FIELD(CUlaunchAttribute, id);
DGRT_SAME_FIELD(CUlaunchAttribute, value);
DGRT_SAME_SIZE(CUlaunchConfig);
DGRT_SAME_FIELD(CUlaunchConfig, gridDimX);
DGRT_SAME_FIELD(CUlaunchConfig, gridDimY);
DGRT_SAME_FIELD(CUlaunchConfig, gridDimZ);
DGRT_SAME_FIELD(CUlaunchConfig, blockDimX);
DGRT_SAME_FIELD(CUlaunchConfig, blockDimY);
DGRT_SAME_FIELD(CUlaunchConfig, blockDimZ);
DGRT_SAME_FIELD(CUlaunchConfig, sharedMemBytes);
DGRT_SAME_FIELD(CUlaunchConfig, hStream);
DGRT_SAME_FIELD(CUlaunchConfig, attrs);
DGRT_SAME_FIELD(CUlaunchConfig, numAttrs);
DGRT_SAME_VALUE(CUDA_SUCCESS);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_VALUE);
DGRT_SAME_VALUE(CUDA_ERROR_OUT_OF_MEMORY);
DGRT_SAME_VALUE(CUDA_ERROR_NOT_INITIALIZED);
DGRT_SAME_VALUE(CUDA_ERROR_STUB_LIBRARY);
DGRT_SAME_VALUE(CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER);
DGRT_SAME_VALUE(CUDA_ERROR_NO_DEVICE);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_DEVICE);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_IMAGE);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_CONTEXT);
DGRT_SAME_VALUE(CUDA_ERROR_NO_BINARY_FOR_GPU);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_PTX);
DGRT_SAME_VALUE(CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_SOURCE);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_HANDLE);
DGRT_SAME_VALUE(CUDA_ERROR_NOT_FOUND);
DGRT_SAME_VALUE(CUDA_ERROR_NOT_READY);
DGRT_SAME_VALUE(CUDA_ERROR_ILLEGAL_ADDRESS);
DGRT_SAME_VALUE(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
DGRT_SAME_VALUE(CUDA_ERROR_NOT_SUPPORTED);
DGRT_SAME_VALUE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
DGRT_SAME_VALUE(CUDA_ERROR_INVALID_CLUSTER_SIZE);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
DGRT_SAME_VALUE(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
DGRT_SAME_VALUE(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
DGRT_SAME_VALUE(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
DGRT_SAME_VALUE(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
DGRT_SAME_VALUE(CU_FUNC_ATTRIBUTE_NUM_REGS);
DGRT_SAME_VALUE(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
DGRT_SAME_VALUE(CU_STREAM_CAPTURE_MODE_GLOBAL);
DGRT_SAME_VALUE(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
DGRT_SAME_VALUE(CU_STREAM_CAPTURE_MODE_RELAXED);
DGRT_SAME_VALUE(CU_STREAM_CAPTURE_STATUS_NONE);
DGRT_SAME_VALUE(CU_STREAM_CAPTURE_STATUS_ACTIVE);
DGRT_SAME_VALUE(CU_STREAM_CAPTURE_STATUS_INVALIDATED);
DGRT_SAME_VALUE(CU_STREAM_DEFAULT);
DGRT_SAME_VALUE(CU_STREAM_NON_BLOCKING);
DGRT_SAME_VALUE(CU_EVENT_DEFAULT);
DGRT_SAME_VALUE(CU_EVENT_DISABLE_TIMING);
DGRT_SAME_VALUE(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
DGRT_SAME_VALUE(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
DGRT_SAME_VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT8);
DGRT_SAME_VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
DGRT_SAME_VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
DGRT_SAME_VALUE(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
DGRT_SAME_VALUE(CU_TENSOR_MAP_INTERLEAVE_NONE);
DGRT_SAME_VALUE(CU_TENSOR_MAP_SWIZZLE_NONE);
DGRT_SAME_VALUE(CU_TENSOR_MAP_SWIZZLE_32B);
DGRT_SAME_VALUE(CU_TENSOR_MAP_SWIZZLE_64B);
DGRT_SAME_VALUE(CU_TENSOR_MAP_SWIZZLE_128B);
DGRT_SAME_VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
DGRT_SAME_VALUE(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);

namespace dgrt {
namespace {

// Do two parameters travel alike: both pointers (or handles), or both numbers of one size?
template <class Ours, class Theirs>
constexpr bool is_alike = std::is_pointer_v<Ours> == std::is_pointer_v<Theirs> &&
                          sizeof(Ours) == sizeof(Theirs);

template <class Ours, class Theirs>
struct SameShape : std::false_type {};
template <class... Ours, class... Theirs>
requires(sizeof...(Ours) ==
         sizeof...(Theirs)) struct SameShape<CUresult (*)(Ours...), ::CUresult (*)(Theirs...)>
    : std::bool_constant<(is_alike<Ours, Theirs> && ...)> {
};

// cuda.h's macros turn `name` into the variant that its declaration describes.
#define DGRT_SAME_SHAPE(name, version, parameters) \
  static_assert(SameShape<CUresult(*) parameters, decltype(&::name)>::value);
DGRT_DRIVER_FUNCTIONS(DGRT_SAME_SHAPE)
#if CUDA_VERSION >= 12040
DGRT_DRIVER_OPTIONAL_FUNCTIONS(DGRT_SAME_SHAPE)
#endif

TEST_CASE("cuda abi: our declarations are those of cuda.h", "[unit]") {
  INFO("compared with CUDA " << CUDA_VERSION << " at compile time");
  CHECK(sizeof(CUtensorMap) == sizeof(::CUtensorMap));
}

}  // namespace
}  // namespace dgrt
#else
TEST_CASE("cuda abi: our declarations are those of cuda.h", "[unit]") {
  WARN("no cuda.h on this machine: not compared");
}
#endif
