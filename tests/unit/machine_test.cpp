// How many processors and how much memory may be used, as the system and its containers say.
#include "runtime/base/machine.h"

#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

struct FakeRoot {
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = dir.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  MachineLimits limits() { return machine_limits(dir.path()); }
  test::TempDir dir;
};

TEST_CASE("machine: without any file, the processors alone are known", "[unit]") {
  FakeRoot root;
  CHECK(root.limits().num_cpus >= 1);
  CHECK(root.limits().memory_bytes == UINT64_MAX);
  CHECK(machine_limits().memory_bytes < UINT64_MAX);  // this machine has a /proc
}

TEST_CASE("machine: the tightest of system and cgroups counts", "[unit]") {
  FakeRoot root;
  root.write("/proc/meminfo", "MemTotal:       24000 kB\nMemAvailable:   10000 kB\n");
  CHECK(root.limits().memory_bytes == 10000 * 1024);
  root.write("/proc/self/cgroup", "0::/a/b\n");
  root.write("/sys/fs/cgroup/a/memory.max", "4096000\n");
  root.write("/sys/fs/cgroup/a/memory.current", "3000000\n");
  root.write("/sys/fs/cgroup/a/memory.stat", "anon 1000\ninactive_file 1000000\n");
  root.write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  CHECK(root.limits().memory_bytes == 2096000);  // page cache is as good as free
  root.write("/sys/fs/cgroup/a/b/cpu.max", "100000 100000\n");
  CHECK(root.limits().num_cpus == 1);
}

TEST_CASE("machine: odd files limit nothing", "[unit]") {
  FakeRoot root;
  const uint32_t cpus = root.limits().num_cpus;
  root.write("/proc/meminfo", "MemAvailable:");
  root.write("/proc/self/cgroup", "4:memory:/x\n0::/");
  root.write("/sys/fs/cgroup/cpu.max", "max 100000");
  root.write("/sys/fs/cgroup/memory.max", "");
  CHECK(root.limits().memory_bytes == UINT64_MAX);
  CHECK(root.limits().num_cpus == cpus);
  root.write("/sys/fs/cgroup/cpu.max", "50000 0");
  CHECK(root.limits().num_cpus == cpus);
}

}  // namespace
}  // namespace dgrt
