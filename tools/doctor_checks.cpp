#include "tools/doctor_checks.h"

#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cache/disk_cache.h"
#include "dgrt/gemm.h"
#include "runtime/base/env.h"
#include "runtime/compile/nvrtc.h"
#include "runtime/driver/device.h"
#include "runtime/engine/enumerate.h"
#include "tools/command.h"

namespace dgrt {
namespace {

using Level = Finding::Level;
using Findings = std::vector<Finding>;

constexpr const char* nvrtc_remedy =
    "install a CUDA toolkit of 12.8 or newer, or `pip install nvidia-cuda-nvrtc` into the virtual "
    "environment that is active";
// Any architecture that a newer GPU might ask for; those without kernels are named.
constexpr const char* known_archs[] = {"sm_90a", "sm_100a", "sm_103a", "sm_120a"};

// The kernels of the smallest op: enough to see whether compiling works.
Result<std::vector<PlannedKernel>> kernels_of_small_op(const std::string& arch) {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = 56;
  desc.max_m = 128;
  return enumerate(&desc.op, Target{arch, 132});
}

Status compile_one(const Nvrtc& nvrtc, std::string* what) {
  DGRT_ASSIGN(const Env env, read_env());
  DGRT_ASSIGN(const std::vector<PlannedKernel> kernels, kernels_of_small_op(known_archs[0]));
  if (kernels.empty()) return error(DGRT_INTERNAL, "no kernel to compile");
  const Sources sources(env.kernels_dir);
  DGRT_ASSIGN(const Compiled compiled, nvrtc.compile(kernels.front().instance, sources));
  *what = fmt::format("{} in {:.0f} ms", kernels.front().instance.entry, compiled.total_ms);
  return ok();
}

// statfs(2) lists these numbers.
std::string file_system_name(uint64_t type) {
  switch (type) {
    case 0xEF53:
      return "ext4";
    case 0x58465342:
      return "xfs";
    case 0x9123683E:
      return "btrfs";
    case 0x01021994:
      return "tmpfs";
    case 0x794C7630:
      return "overlayfs";
    case 0x2FC12FC1:
      return "zfs";
    case 0x6969:
      return "nfs";
    case 0x0BD00BD0:
      return "lustre";
    case 0x65735546:
      return "fuse";
    case 0xFF534D42:
      return "cifs";
    case 0x00C36400:
      return "ceph";
    default:
      return fmt::format("file system 0x{:x}", type);
  }
}

bool is_network_file_system(const std::string& name) {
  return name == "nfs" || name == "lustre" || name == "cifs" || name == "ceph" || name == "fuse";
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// A directory that is not there yet: can it be made? Looks only, and leaves nothing behind.
Finding check_absent_dir(const std::string& dir) {
  std::string parent = parent_of(dir);
  while (access(parent.c_str(), F_OK) != 0 && parent != "/" && parent != ".")
    parent = parent_of(parent);
  if (access(parent.c_str(), W_OK | X_OK) == 0)
    return {Level::good, "cache", fmt::format("{} does not exist yet; it will be made", dir), ""};
  return {Level::bad, "cache",
          fmt::format("{} does not exist, and {} is not writable", dir, parent),
          "give a directory of yours with --cache-dir or DGRT_CACHE_DIR"};
}

Finding check_present_dir(const std::string& dir, uid_t owner) {
  const char* remedy =
      "give a directory that you own and nobody else can write with --cache-dir or DGRT_CACHE_DIR";
  Result<std::unique_ptr<DiskCache>> cache = DiskCache::open(dir);
  if (!cache.is_ok()) return {Level::bad, "cache", cache.status().message(), remedy};
  // A lock is a small file in the directory.
  const auto lock = cache.value()->try_lock(Key{});
  if (!lock.is_ok()) return {Level::bad, "cache", lock.status().message(), remedy};
  const Result<std::vector<CacheFile>> files = cache.value()->list();
  if (!files.is_ok()) return {Level::bad, "cache", files.status().message(), remedy};
  const auto num_bad = std::count_if(files.value().begin(), files.value().end(),
                                     [](const CacheFile& f) { return !f.status.is_ok(); });
  struct statfs info {};
  const std::string fs = statfs(dir.c_str(), &info) == 0
                             ? file_system_name(static_cast<uint32_t>(info.f_type))
                             : errno_text(errno);
  Finding finding{Level::good, "cache",
                  fmt::format("{} on {}, owner {}, writable, {} kernels", dir, fs, owner,
                              static_cast<ptrdiff_t>(files.value().size()) - num_bad),
                  ""};
  if (num_bad > 0) {
    finding.level = Level::limited;
    finding.detail += fmt::format(", {} bad files", num_bad);
    finding.remedy =
        "none needed: bad files are moved aside when met; `dgrt cache verify` names them";
  } else if (is_network_file_system(fs)) {
    finding.level = Level::limited;
    finding.remedy =
        "several hosts may compile the same kernel at once here; a local directory avoids it";
  }
  return finding;
}

Finding check_device(const std::shared_ptr<const Driver>& driver, int ordinal) {
  const Result<std::shared_ptr<const Device>> device = Device::open(driver, ordinal);
  const std::string check = fmt::format("device {}", ordinal);
  if (!device.is_ok()) return {Level::limited, check, device.status().message(), ""};
  const Device& d = *device.value();
  Finding finding{Level::good, check,
                  fmt::format("{}, {}, {} SMs", d.name(), d.arch(), d.sm_count()), ""};
  if (!kernels_of_small_op(d.arch()).is_ok()) {
    finding.level = Level::limited;
    finding.detail += ": no kernels for this architecture";
  }
  return finding;
}

}  // namespace

void check_compiler(Findings& findings) {
  const Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::load();
  if (!nvrtc.is_ok()) {
    findings.push_back({Level::bad, "compiler", nvrtc.status().message(), nvrtc_remedy});
    return;
  }
  const Nvrtc& found = *nvrtc.value();
  std::string what;
  const Status status = compile_one(found, &what);
  const std::string library = fmt::format("{} ({})", found.id().name(), found.path());
  if (status.is_ok())
    findings.push_back({Level::good, "compiler", fmt::format("{} compiled {}", library, what), ""});
  else
    findings.push_back({Level::bad, "compiler", fmt::format("{}: {}", library, status.message()),
                        "unset DGRT_KERNELS_DIR if it is set; else reinstall libnvrtc"});
}

void check_cache_dir(const std::string& option, Findings& findings) {
  const Result<std::string> dir = resolve_cache_dir(option);
  if (!dir.is_ok()) {
    findings.push_back({Level::bad, "cache", dir.status().message(),
                        "name a directory with --cache-dir or DGRT_CACHE_DIR"});
    return;
  }
  struct stat info {};
  findings.push_back(stat(dir.value().c_str(), &info) == 0
                         ? check_present_dir(dir.value(), info.st_uid)
                         : check_absent_dir(dir.value()));
}

void check_driver(Findings& findings) {
  const Result<std::shared_ptr<const Driver>> loaded = Driver::load();
  if (!loaded.is_ok()) {
    findings.push_back({Level::limited, "driver", loaded.status().message(),
                        "to run kernels, install NVIDIA's driver; prewarm works without"});
    return;
  }
  const std::shared_ptr<const Driver>& driver = loaded.value();
  int num_devices = 0;
  const Status status =
      cu_status(*driver, driver->cuDeviceGetCount(&num_devices), "cuDeviceGetCount");
  const std::string detail = fmt::format("libcuda serves CUDA {}, {} devices",
                                         cuda_version_string(driver->version), num_devices);
  if (!status.is_ok() || num_devices == 0)
    findings.push_back({Level::limited, "driver", status.is_ok() ? detail : status.message(),
                        "to run kernels, make a GPU visible; prewarm works without"});
  else
    findings.push_back({Level::good, "driver", detail, ""});
  for (int i = 0; i < num_devices; ++i) findings.push_back(check_device(driver, i));
}

void check_kernels(Findings& findings) {
  std::string with, without;
  for (const char* arch : known_archs) {
    std::string& list = kernels_of_small_op(arch).is_ok() ? with : without;
    list += (list.empty() ? "" : ", ") + std::string(arch);
  }
  findings.push_back({with.empty() ? Level::bad : Level::good, "kernels",
                      fmt::format("for {}; none for {}", with, without), ""});
  const Result<Env> env = read_env();
  if (!env.is_ok()) {
    findings.push_back({Level::bad, "environment", env.status().message(), "correct the variable"});
    return;
  }
  const Sources sources(env.value().kernels_dir);
  for (const OpImpl* op : all_ops()) {
    std::vector<std::string> warnings;
    const Table table = load_table(*op, sources, env.value().heuristics_path, &warnings);
    findings.push_back({Level::good, "table",
                        fmt::format("{}: {} rules, digest {}", op->stem, table.rules().size(),
                                    table.digest_hex().substr(0, 16)),
                        ""});
    for (const std::string& warning : warnings)
      findings.push_back({Level::limited, "table", warning, "correct or remove the rule"});
  }
}

}  // namespace dgrt
