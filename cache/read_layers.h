// ReadLayers: what a context looks into before the cache directory and never writes: bundles, then
// read-only directories, each in the order given.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache/bundle.h"
#include "cache/disk_cache.h"

namespace dgrt {

// Thread safe after creation.
class ReadLayers {
 public:
  // Which entries count. Bundles are made elsewhere, so unless `exact` is demanded they may offer
  // any compiler's: the local one's first, else the newest.
  struct Want {
    const CompilerId* compiler = nullptr;  // null: any compiler's do, in directories, too
    bool is_exact_demanded = false;        // only `compiler`'s, in bundles, too
  };
  struct Hit {
    std::optional<Entry> entry;
    size_t layer = 0;              // where it was found
    std::vector<Status> problems;  // files that could not be used: log each once
  };

  ReadLayers() = default;
  // Paths are separated by colons; empty parts are left out. `bundle_digests` has one digest per
  // bundle, or is empty; `public_key`, 64 hex digits, must have signed every bundle, unless empty.
  // What cannot be opened is left out and told in `problems`, except bundles where digests or a key
  // are given: then it is an error (IO_ERROR, INVALID_ARGUMENT).
  static Result<ReadLayers> open(std::string_view bundle_path, std::string_view bundle_digests,
                                 std::string_view dir_path, FileSystem& fs,
                                 std::vector<Status>* problems, std::string_view public_key = {});

  // The first good entry from layer `first` on.
  Hit find(const Key& key, const Want& want, size_t first) const;

  // Every entry of every layer that can be read, as `where` it lies and what it holds.
  void visit(
      const std::function<void(const std::string& where, const Key& key, const CompilerId& compiler,
                               const std::string& metadata)>& visitor) const;

  size_t size() const { return bundles_.size() + dirs_.size(); }
  std::string describe() const;  // "bundle /a, directory /b"

 private:
  std::vector<std::unique_ptr<Bundle>> bundles_;
  std::vector<std::unique_ptr<DiskCache>> dirs_;
};

}  // namespace dgrt
