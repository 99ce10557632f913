// Kernels of a few lines of PTX on the emulator.
#pragma once
#include <cstring>
#include <memory>
#include <string>

#include "tests/emulator/emulated_machine.h"
#include "tests/emulator/tensor_box.h"
#include "tests/support/catch.h"

namespace dgrt::emulator {

// For what must be right, or go wrong sometimes, whatever happens first.
constexpr uint64_t num_seeds = 24;

// Memory that kernels may touch.
template <class T>
struct Global {
  explicit Global(size_t size) : data(reinterpret_cast<T*>(allocate(size * sizeof(T)))), size(size) {}
  ~Global() { release(reinterpret_cast<std::byte*>(data)); }
  Global(const Global&) = delete;
  Global& operator=(const Global&) = delete;
  T& operator[](size_t i) { return data[i]; }
  T* data;
  size_t size;
};

inline CUtensorMap matrix_map(CUtensorMapDataType type, void* base, uint64_t rows, uint64_t columns, uint64_t row_bytes,
                       uint32_t box_rows, uint32_t box_columns, CUtensorMapSwizzle swizzle) {
  const uint64_t dims[] = {columns, rows}, strides[] = {row_bytes};
  const uint32_t box[] = {box_columns, box_rows}, ones[] = {1, 1};
  CUtensorMap map;
  REQUIRE(encode_tensor_map(&map, type, 2, base, dims, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS);
  return map;
}

// Parameters: a tensor map, then two pointers. %r1 is the thread, %rd1 the map, %rd2 and %rd3 the pointers; shared
// memory begins at 0. `bounds` are of threads and registers.
struct TestKernel {
  explicit TestKernel(const std::string& body, const std::string& bounds = "")
      : module(parse_ptx(".version 8.0\n.target sm_90a\n.address_size 64\n"
                         ".extern .shared .align 1024 .b8 dynamic[];\n"
                         ".visible .entry test(.param .align 64 .b8 map[128], .param .u64 x, .param .u64 y) " +
                         bounds +
                         "\n{\n"
                         ".reg .pred %p<8>;\n.reg .b32 %r<64>;\n.reg .b64 %rd<32>;\n.reg .f32 %f<64>;\n"
                         "mov.b64 %rd9, map;\ncvta.param.u64 %rd1, %rd9;\nld.param.u64 %rd2, [x];\n"
                         "ld.param.u64 %rd3, [y];\nmov.u32 %r1, %tid.x;\n" +
                         body + "\nret;\n}\n")) {}

  void run(uint64_t seed, const CUtensorMap& map, const void* x, const void* y, uint32_t threads = 32,
           uint32_t ctas = 1) {
    Launch launch;
    launch.grid[0] = launch.cluster[0] = ctas;
    launch.block[0] = threads;
    launch.dynamic_shared_bytes = 65536;
    launch.seed = seed;
    launch.params.resize(sizeof map + 16);
    std::memcpy(launch.params.data(), &map, sizeof map);
    std::memcpy(launch.params.data() + sizeof map, &x, 8);
    std::memcpy(launch.params.data() + sizeof map + 8, &y, 8);
    emulator::run(module->kernels.at("test"), launch);
  }

  std::unique_ptr<Module> module;
};

// With volatile accesses of shared memory, of which races are not told: they show when things happen.
inline std::string unchecked(std::string body) {
  for (const std::string access : {"ld.", "st."})
    for (size_t at = 0; (at = body.find(access + "shared", at)) != body.npos;) body.insert(at + 3, "volatile.");
  return body;
}

inline std::string fault_of(TestKernel& kernel, const CUtensorMap& map, const void* x, const void* y, uint32_t threads = 32,
                     uint32_t ctas = 1) {
  try {
    kernel.run(1, map, x, y, threads, ctas);
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

}  // namespace dgrt::emulator
