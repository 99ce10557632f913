// CacheFixture: a disk cache of a test's own on a file system that can be made to fail.
#pragma once
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cache/disk_cache.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"
#include "tests/support/fault_fs.h"
#include "tests/support/temp_dir.h"

namespace dgrt::test {

inline std::unique_ptr<DiskCache> open_cache(const std::string& dir, FileSystem& fs = real_fs()) {
  Result<std::unique_ptr<DiskCache>> cache = DiskCache::open(dir, fs);
  INFO(cache.status().message());
  REQUIRE(cache.is_ok());
  return std::move(cache).value();
}

// A cache in a directory of its own, on a file system that does not sync.
struct CacheFixture {
  TempDir temp{memory_dir()};
  std::string dir = temp.path() + "/cache";
  FaultFs fs;
  std::unique_ptr<DiskCache> cache = open_cache(dir, fs);

  std::string path(const Entry& entry) const {
    const std::string hex = entry.key.hex();
    return dir + "/v1/" + hex.substr(0, 2) + "/" + hex + "." + entry.compiler.name() + ".dge";
  }
  void publish(const Entry& entry) { REQUIRE(cache->publish(entry).is_ok()); }
  void write(const std::string& path, const std::vector<std::byte>& bytes) const {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    REQUIRE(::chmod(path.c_str(), 0600) == 0);
  }
  size_t num_quarantined() const {
    size_t count = 0;
    if (std::filesystem::exists(dir + "/quarantine"))
      for ([[maybe_unused]] const auto& file :
           std::filesystem::directory_iterator(dir + "/quarantine"))
        ++count;
    return count;
  }
  // The entry's file must be refused, moved aside, and leave room for a good one.
  void check_refused(const Entry& entry, const std::string& why) {
    const size_t num_before = num_quarantined();
    const Found found = cache->find(entry.key, &entry.compiler);
    CHECK_FALSE(found.entry.has_value());
    CHECK(found.num_quarantined == 1);
    REQUIRE(found.problems.size() == 1);
    INFO(found.problems[0].message());
    CHECK(found.problems[0].message().find(why) != std::string::npos);
    CHECK(num_quarantined() == num_before + 1);
    CHECK_FALSE(std::filesystem::exists(std::filesystem::symlink_status(path(entry))));
    CHECK(cache->find(entry.key, &entry.compiler).problems.empty());
    publish(entry);
    CHECK(cache->find(entry.key, &entry.compiler).entry == entry);
  }
};

}  // namespace dgrt::test
