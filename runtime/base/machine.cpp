#include "runtime/base/machine.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

namespace dgrt {
namespace {

std::string text_of(const std::string& path) {
  std::string text(64 * 1024, '\0');  // more than any of these files has
  FILE* const file = std::fopen(path.c_str(), "rbe");
  if (!file) return "";
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

// The number that a text starts with, after blanks.
std::optional<uint64_t> number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc())
    return std::nullopt;
  return value;
}

// The number behind a word at the start of a line: "MemAvailable:   123 kB".
std::optional<uint64_t> number_after(std::string_view text, std::string_view word) {
  for (size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size() - 1) + 1)
    if (text.substr(at).starts_with(word)) return number(text.substr(at + word.size()));
  return std::nullopt;
}

// Directories of the unified cgroup hierarchy that limit this process: its own and those above.
std::vector<std::string> cgroup_dirs(const std::string& root) {
  const std::string text = text_of(root + "/proc/self/cgroup");
  const size_t at = text.find("0::/");
  if (at == std::string::npos) return {};
  std::string path = text.substr(at + 3, text.find('\n', at) - at - 3);
  std::vector<std::string> dirs;
  for (;;) {
    dirs.push_back(root + "/sys/fs/cgroup" + path);
    if (path.empty() || path == "/") return dirs;
    path.resize(path.rfind('/'));
  }
}

// Page cache counts as used, but goes when memory is needed.
uint64_t free_in(const std::string& dir) {
  const std::optional<uint64_t> limit = number(text_of(dir + "/memory.max"));  // or "max"
  const std::optional<uint64_t> used = number(text_of(dir + "/memory.current"));
  if (!limit || !used) return UINT64_MAX;
  const uint64_t cache = number_after(text_of(dir + "/memory.stat"), "inactive_file ").value_or(0);
  const uint64_t kept = *used - std::min(*used, cache);
  return *limit - std::min(*limit, kept);
}

uint64_t quota_in(const std::string& dir) {
  const std::string text = text_of(dir + "/cpu.max");  // "200000 100000" or "max 100000"
  const std::optional<uint64_t> quota = number(text);
  const size_t blank = text.find(' ');
  if (!quota || blank == std::string::npos) return UINT64_MAX;
  const std::optional<uint64_t> period = number(std::string_view(text).substr(blank));
  if (!period || *period == 0) return UINT64_MAX;
  return std::max<uint64_t>(1, (*quota + *period - 1) / *period);
}

uint64_t affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0)  // more processors than the set has bits
    return std::max(1u, std::thread::hardware_concurrency());
  return static_cast<uint64_t>(std::max(1, CPU_COUNT(&set)));
}

}  // namespace

MachineLimits machine_limits(const std::string& root) {
  uint64_t cpus = affinity_cpus(), memory = UINT64_MAX;
  if (const auto kb = number_after(text_of(root + "/proc/meminfo"), "MemAvailable:"))
    memory = *kb * 1024;
  for (const std::string& dir : cgroup_dirs(root)) {
    cpus = std::min(cpus, quota_in(dir));
    memory = std::min(memory, free_in(dir));
  }
  return {static_cast<uint32_t>(cpus), memory};
}

}  // namespace dgrt
