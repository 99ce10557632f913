// Real file systems that are full, write-protected or without inodes left, as the kernel makes them:
// an engine gets its kernels all the same, is told once, and goes on as usual when there is room
// again. Each in a child with a mount of its own.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/child_process.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_compiler.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using test::base;

constexpr int cannot_mount = 77;  // exit code of a child

bool write_text(const char* path, const std::string& text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  const bool is_written = fd >= 0 && ::write(fd, text.data(), text.size()) == ssize_t(text.size());
  if (fd >= 0) ::close(fd);
  return is_written;
}

// Mounts of this process's own, for which it need not be root where user namespaces are allowed.
bool enter_namespace() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (uid != 0) {
    if (::unshare(CLONE_NEWUSER) != 0 || !write_text("/proc/self/setgroups", "deny") ||
        !write_text("/proc/self/uid_map", fmt::format("{} {} 1", uid, uid)) ||
        !write_text("/proc/self/gid_map", fmt::format("{} {} 1", gid, gid)))
      return false;
  }
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

struct Disk {
  explicit Disk(test::EngineFixture& of) : fixture(of) {
    fixture.options.log_level = DGRT_LOG_WARN;
    fixture.parts.compiler = test::FakeCompiler::make();
  }
  bool mount(unsigned long flags, const char* options) {
    return ::mkdir(fixture.cache_dir.c_str(), 0700) == 0 &&
           ::mount("tmpfs", fixture.cache_dir.c_str(), "tmpfs", flags, options) == 0;
  }
  // Makes a plan of four kernels; whether it is as it should be.
  bool makes_plan(uint64_t num_compiles) {
    fixture.warnings.clear();
    const auto context = Context::create(fixture.options, fixture.parts);
    test::FakeDesc desc;
    desc.num_blocks = 4;
    if (!context.is_ok() || !Plan::create(*context.value(), base(desc)).is_ok()) return false;
    stats = context.value()->kernels().stats();
    return stats.compiles == num_compiles && stats.quarantined == 0;
  }
  size_t num_stored() { return fixture.entry_files().size(); }
  bool is_warned(const std::string& word) const {
    return fixture.warnings.size() == 1 && fixture.warnings[0].find(word) != std::string::npos;
  }
  test::EngineFixture& fixture;
  dgrt_stats stats{};
};

// Not a byte left, then room again.
int run_full(Disk& disk) {
  if (!disk.mount(0, "size=64k,mode=0700")) return cannot_mount;
  const std::string filler = disk.fixture.cache_dir + "/filler";
  std::ofstream(filler) << std::string(1 << 20, 'x');
  if (!disk.makes_plan(4) || disk.stats.publish_failures != 4 || disk.num_stored() != 0) return 1;
  if (!disk.is_warned("ENOSPC")) return 2;
  for (const auto& file : stdfs::recursive_directory_iterator(disk.fixture.cache_dir))
    if (file.path().filename().string().starts_with("tmp-")) return 3;
  stdfs::remove(filler);
  if (!disk.makes_plan(4) || disk.num_stored() != 4) return 4;
  return disk.makes_plan(0) ? 0 : 5;
}

// Room, but for a few files only: a lock, an entry and their directories.
int run_without_inodes(Disk& disk) {
  if (!disk.mount(0, "nr_inodes=8,mode=0700")) return cannot_mount;
  if (!disk.makes_plan(4) || disk.stats.publish_failures == 0) return 1;
  const size_t num_stored = disk.num_stored();
  if (num_stored + disk.stats.publish_failures != 4) return 2;
  return disk.makes_plan(4 - num_stored) ? 0 : 3;
}

int run_write_protected(Disk& disk) {
  if (!disk.mount(0, "mode=0700")) return cannot_mount;
  if (!disk.makes_plan(4) || disk.num_stored() != 4) return 1;
  stdfs::remove(disk.fixture.entry_files()[0]);
  if (::mount("none", disk.fixture.cache_dir.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) !=
      0)
    return cannot_mount;
  if (!disk.makes_plan(1) || disk.stats.disk_hits != 3) return 2;
  return disk.stats.publish_failures == 1 && disk.num_stored() == 3 ? 0 : 3;
}

void check(int (*run)(Disk&)) {
  test::EngineFixture fixture;
  test::FakeCompiler::log_path.clear();
  test::FakeCompiler::delay = {};
  const pid_t child = test::spawn([&] {
    Disk disk(fixture);
    return enter_namespace() ? run(disk) : cannot_mount;
  });
  REQUIRE(child > 0);
  const int status = test::wait_for(child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == cannot_mount) {
    WARN("SKIPPED: this machine lets the test mount nothing");
    return;
  }
  INFO("wait status " << status << ", exit code " << WEXITSTATUS(status));
  CHECK(test::exited_well(status));
}

TEST_CASE("a full disk costs the cache, not the kernels", "[process]") { check(run_full); }

TEST_CASE("a disk without inodes costs the cache, not the kernels", "[process]") {
  check(run_without_inodes);
}

TEST_CASE("a disk that became write-protected is read", "[process]") { check(run_write_protected); }

}  // namespace
}  // namespace dgrt
