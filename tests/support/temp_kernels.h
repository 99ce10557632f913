// A directory of kernel files that lives as long as a test, for use as Sources' override.
#pragma once
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>

#include "runtime/compile/instance.h"

namespace dgrt {

class TempKernels {
 public:
  TempKernels(std::initializer_list<std::pair<const char*, const char*>> files) {
    std::string pattern = (std::filesystem::temp_directory_path() / "dgrt_kernels_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    for (const auto& [name, text] : files) write(name, text);
  }
  ~TempKernels() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempKernels(const TempKernels&) = delete;
  TempKernels& operator=(const TempKernels&) = delete;

  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A template of two files, and an instance of it: p.out[i] = Cfg::factor * i.
inline constexpr const char* toy_header =
    "#pragma once\n"
    "#include \"toy/scale.cuh\"\n"
    "namespace dgrt::toy {\n"
    "struct Params { int* out; long size; };\n"
    "template <class Cfg> __device__ void run(const Params& p) {\n"
    "  if (threadIdx.x < p.size) p.out[threadIdx.x] = scale<Cfg::factor>(threadIdx.x);\n"
    "}\n"
    "}\n";
inline constexpr const char* toy_scale =
    "#pragma once\n"
    "namespace dgrt::toy {\n"
    "template <int factor> __device__ int scale(int x) { return factor * x; }\n"
    "}\n";

inline Instance toy_instance() {
  return {.stem = "toy",
          .header = "toy/toy.cuh",
          .name_space = "dgrt::toy",
          .entry = "toy_f3",
          .arch = "sm_90a",
          .cfg = {{"factor", 3}},
          .num_threads = 128,
          .params_bytes = 16};
}

}  // namespace dgrt
