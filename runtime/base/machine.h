// What this process may use of the machine: processors and memory, as containers limit them.
#pragma once
#include <cstdint>
#include <string>

namespace dgrt {

struct MachineLimits {
  uint32_t num_cpus = 1;      // affinity mask and cgroup quota, rounded up
  uint64_t memory_bytes = 0;  // free for new processes: of the system and of the cgroup
};

// `root` stands before every path that is read; tests bring their own files. What cannot be read
// does not limit; where nothing can, memory_bytes is UINT64_MAX.
MachineLimits machine_limits(const std::string& root = "");

}  // namespace dgrt
