// Why a kernel is not in the cache (DGRT_EXPLAIN=miss): the cached kernel that is nearest to the one
// asked for, and in which parts of the key the two differ. A cache that was seeded and silently
// stopped to match shows its reason in one line.
#pragma once
#include <string>
#include <vector>

#include "cache/disk_cache.h"
#include "cache/read_layers.h"
#include "runtime/engine/kernel_metadata.h"

namespace dgrt {

struct CachedKernel {
  Key key;
  CompilerId compiler;
  KeyFields fields;
  std::string where;  // bundle or directory
};

// What bundles, read-only directories and the cache directory (may be null) hold. Reads all of it.
std::vector<CachedKernel> list_kernels(const ReadLayers& layers, DiskCache* disk);

// One line. `compiler`: the only one whose entries count; null: any. The nearest is the kernel of
// the same stem that differs in the fewest fields, then in the fewest constants of its config.
std::string describe_miss(const Key& key, const KeyFields& wanted, const CompilerId* compiler,
                          const std::vector<CachedKernel>& cached);

}  // namespace dgrt
