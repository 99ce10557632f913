// The checks of `dgrt doctor`. Each appends what it found and never fails itself.
#pragma once
#include <string>
#include <vector>

namespace dgrt {

struct Finding {
  // limited: prewarm works, something else does not. bad: prewarm does not work.
  enum class Level { good, limited, bad };
  Level level = Level::good;
  std::string check;   // "compiler"
  std::string detail;  // what is so
  std::string remedy;  // what to do; empty if nothing
};

// libnvrtc: found, new enough, and able to compile one of our kernels.
void check_compiler(std::vector<Finding>& findings);
// The cache directory: exists or can be made, ours, writable, on what file system, how full.
// `option` empty: the library's default.
void check_cache_dir(const std::string& option, std::vector<Finding>& findings);
// libcuda and each device.
void check_driver(std::vector<Finding>& findings);
// The architectures that this build has kernels for, and the tables that choose among them.
void check_kernels(std::vector<Finding>& findings);

}  // namespace dgrt
