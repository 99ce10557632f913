// The driver layer against entry points of our own, and our declarations against cuda.h. What needs
// a real driver is tested in the gpu layer.
#include "runtime/driver/driver.h"

#include <cstring>
#include <string>
#include <vector>

#include "runtime/driver/device.h"
#include "runtime/driver/launch.h"
#include "runtime/driver/module.h"
#include "runtime/driver/tensor_map.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

// What the fake driver answers and what it was asked. Entry points have no user data, hence one
// global.
struct Fake {
  int num_devices = 2, major = 9, minor = 0;
  size_t kernel_params_bytes = 64;
  CUresult load_result = CUDA_SUCCESS, get_function_result = CUDA_SUCCESS;
  CUresult launch_result = CUDA_SUCCESS, encode_result = CUDA_SUCCESS;

  int retained = 0, contexts_pushed = 0, libraries = 0, functions_loaded = 0;
  CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  bool was_relaxed = false, had_context = false;
  int max_smem_bytes = -1;

  CUlaunchConfig config{};
  std::vector<CUlaunchAttribute> attributes;
  CUfunction launched = nullptr;
  const void* params = nullptr;

  CUtensorMapDataType map_type{};
  std::vector<uint64_t> dims, strides_bytes;
  std::vector<uint32_t> box;
  CUtensorMapSwizzle swizzle{};
  CUtensorMapL2promotion promotion{};
  CUtensorMapFloatOOBfill fill{};
};
Fake fake;

template <class Handle>
Handle handle(uintptr_t number) {
  return reinterpret_cast<Handle>(number);
}

void add_errors(Driver* driver) {
  driver->cuGetErrorName = [](CUresult error, const char** text) {
    *text =
        error == CUDA_ERROR_NO_BINARY_FOR_GPU ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : "CUDA_ERROR_OTHER";
    return CUDA_SUCCESS;
  };
  driver->cuGetErrorString = [](CUresult, const char** text) {
    *text = "as the driver words it";
    return CUDA_SUCCESS;
  };
}

void add_device(Driver* driver) {
  driver->cuDeviceGetCount = [](int* count) { return *count = fake.num_devices, CUDA_SUCCESS; };
  driver->cuDeviceGet = [](CUdevice* device, int i) { return *device = i + 10, CUDA_SUCCESS; };
  driver->cuDeviceGetName = [](char* name, int bytes, CUdevice) {
    strncpy(name, "NVIDIA Fake", static_cast<size_t>(bytes));
    return CUDA_SUCCESS;
  };
  driver->cuDeviceGetAttribute = [](int* value, CUdevice_attribute attribute, CUdevice) {
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? fake.major
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? fake.minor
                                                                         : 132;
    return CUDA_SUCCESS;
  };
  driver->cuDevicePrimaryCtxRetain = [](CUcontext* context, CUdevice device) {
    ++fake.retained;
    *context = handle<CUcontext>(static_cast<uintptr_t>(device));
    return CUDA_SUCCESS;
  };
  driver->cuDevicePrimaryCtxRelease = [](CUdevice) { return --fake.retained, CUDA_SUCCESS; };
  driver->cuCtxPushCurrent = [](CUcontext) { return ++fake.contexts_pushed, CUDA_SUCCESS; };
  driver->cuCtxPopCurrent = [](CUcontext*) { return --fake.contexts_pushed, CUDA_SUCCESS; };
  driver->cuThreadExchangeStreamCaptureMode = [](CUstreamCaptureMode* mode) {
    std::swap(*mode, fake.capture_mode);
    return CUDA_SUCCESS;
  };
}

void add_library(Driver* driver) {
  driver->cuLibraryLoadData = [](CUlibrary* library, const void*, CUjit_option*, void**, unsigned,
                                 CUlibraryOption*, void**, unsigned) {
    if (fake.load_result != CUDA_SUCCESS) return fake.load_result;
    ++fake.libraries;
    fake.was_relaxed = fake.capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED;
    *library = handle<CUlibrary>(77);
    return CUDA_SUCCESS;
  };
  driver->cuLibraryUnload = [](CUlibrary) {
    fake.was_relaxed = fake.capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED;
    return --fake.libraries, CUDA_SUCCESS;
  };
  driver->cuLibraryGetKernel = [](CUkernel* kernel, CUlibrary, const char* name) {
    *kernel = handle<CUkernel>(88);
    return std::string(name) == "entry" ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  };
  driver->cuKernelGetParamInfo = [](CUkernel, size_t idx, size_t* offset, size_t* bytes) {
    REQUIRE(idx == 0);
    *offset = 48;  // as a real driver says of a 64-byte aligned struct
    *bytes = fake.kernel_params_bytes;
    return CUDA_SUCCESS;
  };
  driver->cuKernelSetAttribute = [](CUfunction_attribute attribute, int value, CUkernel, CUdevice) {
    REQUIRE(attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    return fake.max_smem_bytes = value, CUDA_SUCCESS;
  };
  driver->cuKernelGetAttribute = [](int* value, CUfunction_attribute, CUkernel, CUdevice) {
    return *value = 168, CUDA_SUCCESS;
  };
  driver->cuKernelGetFunction = [](CUfunction* function, CUkernel) {
    fake.had_context = fake.contexts_pushed > 0;
    *function = handle<CUfunction>(99);
    return fake.get_function_result;
  };
  driver->cuFuncLoad = [](CUfunction) { return ++fake.functions_loaded, CUDA_SUCCESS; };
}

void add_launch(Driver* driver) {
  driver->cuLaunchKernelEx = [](const CUlaunchConfig* config, CUfunction function, void** params,
                                void** extra) {
    REQUIRE(extra == nullptr);
    fake.config = *config;
    fake.attributes.assign(config->attrs, config->attrs + config->numAttrs);
    fake.launched = function;
    fake.params = params[0];
    return fake.launch_result;
  };
  driver->cuTensorMapEncodeTiled =
      [](CUtensorMap*, CUtensorMapDataType type, uint32_t rank, void*, const uint64_t* dims,
         const uint64_t* strides, const uint32_t* box, const uint32_t* element_strides,
         CUtensorMapInterleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
         CUtensorMapFloatOOBfill fill) {
        REQUIRE(rank == 2);
        REQUIRE((element_strides[0] == 1 && element_strides[1] == 1));
        fake.map_type = type;
        fake.dims.assign(dims, dims + 2);
        fake.strides_bytes.assign(strides, strides + 1);
        fake.box.assign(box, box + 2);
        fake.swizzle = swizzle;
        fake.promotion = promotion;
        fake.fill = fill;
        return fake.encode_result;
      };
}

// A fresh fake behind every entry point that the driver layer uses.
std::shared_ptr<Driver> fake_driver() {
  fake = Fake();
  auto driver = std::make_shared<Driver>();
  add_errors(driver.get());
  add_device(driver.get());
  add_library(driver.get());
  add_launch(driver.get());
  driver->version = 12040;
  return driver;
}

bool contains(const Status& status, const std::string& part) {
  return status.message().find(part) != std::string::npos;
}

TEST_CASE("driver: loads, or says that there is no device", "[unit]") {
  const auto driver = Driver::load();
  if (driver.is_ok()) {
    CHECK(driver.value()->version >= 12000);
#define DGRT_CHECK_FOUND(name, version, parameters) CHECK(driver.value()->name != nullptr);
    DGRT_DRIVER_FUNCTIONS(DGRT_CHECK_FOUND)
#undef DGRT_CHECK_FOUND
  } else {
    INFO(driver.status().message());
    CHECK(driver.status().code() == DGRT_NO_DEVICE);
    CHECK((contains(driver.status(), "libcuda.so.1") || contains(driver.status(), "cuInit")));
  }
}

TEST_CASE("driver: an error names call, code and meaning", "[unit]") {
  const auto driver = fake_driver();
  CHECK(cu_status(*driver, CUDA_SUCCESS, "cuInit(0)").is_ok());
  const Status status = cu_status(*driver, CUDA_ERROR_NO_BINARY_FOR_GPU, "cuMemAlloc(&p, 16)");
  CHECK(status.code() == DGRT_DRIVER_ERROR);
  CHECK(status.message() == "cuMemAlloc: CUDA_ERROR_NO_BINARY_FOR_GPU (as the driver words it)");
  CHECK(cu_status(Driver(), static_cast<CUresult>(719), "cuInit").message() ==
        "cuInit: CUDA error 719");
  const auto fails = [&]() -> Status {
    CUkernel kernel = nullptr;
    DGRT_CU(*driver, cuLibraryGetKernel(&kernel, nullptr, "none"));
    return ok();
  };
  CHECK(contains(fails(), "cuLibraryGetKernel: "));
}

TEST_CASE("driver: versions read like CUDA's", "[unit]") {
  CHECK(cuda_version_string(12040) == "12.4");
  CHECK(cuda_version_string(13000) == "13.0");
}

TEST_CASE("device: knows its arch and holds the primary context", "[unit]") {
  const auto driver = fake_driver();
  {
    const auto device = Device::open(driver, 1);
    REQUIRE(device.is_ok());
    CHECK(device.value()->arch() == "sm_90a");
    CHECK(device.value()->sm_count() == 132);
    CHECK(device.value()->name() == "NVIDIA Fake");
    CHECK(device.value()->handle() == 11);
    CHECK(device.value()->context() == handle<CUcontext>(11));
    CHECK(fake.retained == 1);
  }
  CHECK(fake.retained == 0);
  fake.major = 10;
  fake.minor = 3;
  CHECK(Device::open(driver, 0).value()->arch() == "sm_103a");
}

TEST_CASE("device: wrong ordinals and old GPUs are refused and retain nothing", "[unit]") {
  const auto driver = fake_driver();
  for (const int ordinal : {-1, 2, 99}) {
    const Status status = Device::open(driver, ordinal).status();
    CHECK(status.code() == DGRT_NO_DEVICE);
    CHECK(contains(status, fmt::format("device={}", ordinal)));
  }
  fake.major = 8;
  fake.minor = 9;
  const Status status = Device::open(driver, 0).status();
  CHECK(status.code() == DGRT_UNSUPPORTED);
  CHECK(contains(status, "8.9"));
  CHECK(fake.retained == 0);
}

// ---- Loading ----

const uint8_t image_bytes[64] = {};
KernelImage image_of(uint32_t smem_bytes) {
  return {.cubin = image_bytes,
          .entry = "entry",
          .compiler = "nvrtc-13.0-0123456789abcdef",
          .smem_bytes = smem_bytes,
          .params_bytes = 64};
}

// Nothing that a load took is left behind.
void check_balanced() {
  CHECK(fake.libraries == 0);
  CHECK(fake.contexts_pushed == 0);
  CHECK(fake.capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
}

TEST_CASE("module: a kernel is loaded to the end, in its device's context", "[unit]") {
  const auto device = Device::open(fake_driver(), 0).value();
  {
    auto loaded = LoadedKernel::load(device, image_of(200000));
    REQUIRE(loaded.is_ok());
    LoadedKernel kernel = std::move(loaded).value();
    CHECK(kernel.handle() == handle<CUkernel>(88));
    CHECK(kernel.num_registers() == 168);
    CHECK(fake.max_smem_bytes == 200000);
    CHECK(fake.functions_loaded == 1);
    CHECK(fake.was_relaxed);
    CHECK(fake.had_context);
    CHECK(fake.contexts_pushed == 0);
    CHECK(fake.libraries == 1);
    const LoadedKernel moved = std::move(kernel);
    CHECK(fake.libraries == 1);
    fake.was_relaxed = false;
  }
  CHECK(fake.was_relaxed);  // while it was unloaded, too
  check_balanced();
}

TEST_CASE("module: small shared memory needs no opt-in", "[unit]") {
  const auto device = Device::open(fake_driver(), 0).value();
  REQUIRE(LoadedKernel::load(device, image_of(48 * 1024)).is_ok());
  CHECK(fake.max_smem_bytes == -1);
}

TEST_CASE("module: a parameter of another size is a bug, caught before launch", "[unit]") {
  const auto device = Device::open(fake_driver(), 0).value();
  fake.kernel_params_bytes = 72;
  Status status = LoadedKernel::load(device, image_of(0)).status();
  CHECK(status.code() == DGRT_INTERNAL);
  CHECK(contains(status, "72"));
  CHECK(contains(status, "64"));
  check_balanced();
}

TEST_CASE("module: drivers before 12.4 load without the newer calls", "[unit]") {
  const auto driver = fake_driver();
  driver->cuKernelGetParamInfo = nullptr;
  driver->cuFuncLoad = nullptr;
  fake.kernel_params_bytes = 72;
  const auto device = Device::open(driver, 0).value();
  CHECK(LoadedKernel::load(device, image_of(0)).is_ok());
}

TEST_CASE("module: a refused image names driver and compiler", "[unit]") {
  const auto device = Device::open(fake_driver(), 0).value();
  for (const CUresult refusal : {CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_INVALID_IMAGE,
                                 CUDA_ERROR_UNSUPPORTED_PTX_VERSION}) {
    for (const bool is_lazy : {false, true}) {
      fake.load_result = is_lazy ? CUDA_SUCCESS : refusal;
      fake.get_function_result = is_lazy ? refusal : CUDA_SUCCESS;
      const Status status = LoadedKernel::load(device, image_of(0)).status();
      CHECK(status.code() == DGRT_DRIVER_TOO_OLD);
      CHECK(contains(status, "CUDA 12.4"));
      CHECK(contains(status, "nvrtc-13.0-0123456789abcdef"));
      CHECK(contains(status, "entry"));
    }
  }
  check_balanced();
}

TEST_CASE("module: other failures are driver errors and unload", "[unit]") {
  const auto device = Device::open(fake_driver(), 0).value();
  fake.get_function_result = CUDA_ERROR_OUT_OF_MEMORY;
  CHECK(LoadedKernel::load(device, image_of(0)).status().code() == DGRT_DRIVER_ERROR);
  fake.get_function_result = CUDA_SUCCESS;
  KernelImage image = image_of(0);
  image.entry = "absent";
  const Status status = LoadedKernel::load(device, image).status();
  CHECK(status.code() == DGRT_DRIVER_ERROR);
  CHECK(contains(status, "loading absent: cuLibraryGetKernel"));
  check_balanced();
}

// ---- Launching ----

TEST_CASE("launch: passes the numbers on, without attributes unless needed", "[unit]") {
  const auto driver = fake_driver();
  const uint32_t grid[] = {132, 2, 3}, cluster[] = {1, 1, 1};
  const int params = 0;
  KernelLaunch call{.kernel = handle<CUkernel>(88),
                    .grid = grid,
                    .cluster = cluster,
                    .num_threads = 384,
                    .smem_bytes = 200000,
                    .pdl = false,
                    .params = &params};
  REQUIRE(launch(*driver, call, handle<CUstream>(5)).is_ok());
  CHECK(fake.config.gridDimX == 132);
  CHECK(fake.config.gridDimY == 2);
  CHECK(fake.config.gridDimZ == 3);
  CHECK(fake.config.blockDimX == 384);
  CHECK(fake.config.blockDimY == 1);
  CHECK(fake.config.blockDimZ == 1);
  CHECK(fake.config.sharedMemBytes == 200000);
  CHECK(fake.config.hStream == handle<CUstream>(5));
  CHECK(fake.launched == handle<CUfunction>(88));
  CHECK(fake.params == &params);
  CHECK(fake.attributes.empty());

  call.pdl = true;
  REQUIRE(launch(*driver, call, nullptr).is_ok());
  REQUIRE(fake.attributes.size() == 1);
  CHECK(fake.attributes[0].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
  CHECK(fake.attributes[0].value.programmaticStreamSerializationAllowed == 1);

  const uint32_t pair[] = {2, 1, 1};
  call.cluster = pair;
  REQUIRE(launch(*driver, call, nullptr).is_ok());
  REQUIRE(fake.attributes.size() == 2);
  CHECK(fake.attributes[0].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
  CHECK(fake.attributes[0].value.clusterDim.x == 2);
  CHECK(fake.attributes[0].value.clusterDim.y == 1);

  fake.launch_result = CUDA_ERROR_INVALID_CLUSTER_SIZE;
  const Status status = launch(*driver, call, nullptr);
  CHECK(status.code() == DGRT_DRIVER_ERROR);
  CHECK(contains(status, "grid 132x2x3, cluster 2x1x1, 384 threads"));
}

TEST_CASE("tensor map: contiguous axis first, strides in bytes", "[unit]") {
  const auto driver = fake_driver();
  TensorMap map;
  TmaMatrix matrix{.dtype = DGRT_BF16,
                   .base = handle<const void*>(0x1000),
                   .rows = 7,
                   .cols = 5'000'000'000,
                   .row_stride = 6'000'000'000,
                   .box_rows = 128,
                   .box_cols = 64,
                   .swizzle = Swizzle::b128};
  REQUIRE(encode_tensor_map(*driver, matrix, &map).is_ok());
  CHECK(fake.map_type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
  CHECK(fake.dims == std::vector<uint64_t>{5'000'000'000, 7});
  CHECK(fake.strides_bytes == std::vector<uint64_t>{12'000'000'000});
  CHECK(fake.box == std::vector<uint32_t>{64, 128});
  CHECK(fake.swizzle == CU_TENSOR_MAP_SWIZZLE_128B);
  CHECK(fake.promotion == CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
  CHECK(fake.fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);

  matrix.dtype = DGRT_E4M3;
  REQUIRE(encode_tensor_map(*driver, matrix, &map).is_ok());
  CHECK(fake.map_type == CU_TENSOR_MAP_DATA_TYPE_UINT8);
  CHECK(fake.strides_bytes == std::vector<uint64_t>{6'000'000'000});
  matrix.dtype = DGRT_FP32;
  REQUIRE(encode_tensor_map(*driver, matrix, &map).is_ok());
  CHECK(fake.map_type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
  CHECK(fake.strides_bytes == std::vector<uint64_t>{24'000'000'000});

  fake.encode_result = CUDA_ERROR_INVALID_VALUE;
  const Status status = encode_tensor_map(*driver, matrix, &map);
  CHECK(status.code() == DGRT_DRIVER_ERROR);
  CHECK(contains(status, "rows=7, cols=5000000000, row_stride=6000000000"));
  matrix.dtype = 99;
  CHECK(encode_tensor_map(*driver, matrix, &map).code() == DGRT_INTERNAL);
}

}  // namespace
}  // namespace dgrt
