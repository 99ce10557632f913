// What tests of contexts and plans share: a cache directory and kernel templates of their own, the
// log's lines, and contexts over the fake ops.
#pragma once
#include <algorithm>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cache/disk_cache.h"
#include "runtime/engine/context.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/plan.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"
#include "tests/support/fake_op.h"
#include "tests/support/temp_dir.h"
#include "tests/support/temp_kernels.h"

namespace dgrt::test {

class EngineFixture {
 public:
  explicit EngineFixture(
      const std::string& parent = std::filesystem::temp_directory_path().string())
      : dir(parent),
        kernels_{{fake_header, fake_template}},
        kernels_dir_("DGRT_KERNELS_DIR", kernels_.path()) {
    options.device = DGRT_DEVICE_NONE;
    options.arch = "sm_90a";
    options.sm_count = 132;
    options.cache_dir = cache_dir.c_str();
    options.log_level = DGRT_LOG_INFO;
    options.worker_path = "";  // tests of workers set it
    options.log_user = this;
    options.log_fn = [](dgrt_log_level level, const char* text, void* user) {
      auto* self = static_cast<EngineFixture*>(user);
      const std::lock_guard<std::mutex> guard(self->mutex_);
      (level >= DGRT_LOG_WARN ? self->warnings : self->infos).push_back(text);
    };
    parts.ops = &fake_ops();
  }

  std::unique_ptr<Context> open() {
    Result<std::unique_ptr<Context>> context = Context::create(options, parts);
    if (!context.is_ok()) FAIL(context.status().message());
    return std::move(context).value();
  }

  std::unique_ptr<dgrt::Plan> plan(Context& context, const FakeDesc& desc) {
    Result<std::unique_ptr<dgrt::Plan>> plan = dgrt::Plan::create(context, base(desc));
    if (!plan.is_ok()) FAIL(plan.status().message());
    return std::move(plan).value();
  }

  std::vector<PlannedKernel> kernels_of(const FakeDesc& desc) {
    Result<std::vector<PlannedKernel>> kernels = enumerate(base(desc), {"sm_90a", 132}, fake_ops());
    if (!kernels.is_ok()) FAIL(kernels.status().message());
    return std::move(kernels).value();
  }

  // Puts entries into the cache that say of themselves what a compiled kernel's would. Their code
  // is none: good for compile-only contexts and the fake driver.
  void fill_cache(const FakeDesc& desc, const std::string& metadata = {}) {
    fill_cache(base(desc), fake_ops(), metadata);
  }
  void fill_cache(const dgrt_desc* desc, const OpList& ops, const std::string& metadata = {}) {
    Result<std::unique_ptr<DiskCache>> cache = DiskCache::open(cache_dir);
    REQUIRE(cache.is_ok());
    const Result<std::vector<PlannedKernel>> kernels = enumerate(desc, {"sm_90a", 132}, ops);
    REQUIRE(kernels.is_ok());
    for (const PlannedKernel& kernel : kernels.value()) {
      Entry entry = sample_entry(1);
      entry.key = kernel.key;
      entry.metadata = !metadata.empty()
                           ? metadata
                           : fmt::format(R"({{"kernel": "{}", "num_registers": 24,)"
                                         R"( "spill_load_bytes": 0, "spill_store_bytes": 0}})",
                                         kernel.instance.entry);
      REQUIRE(cache.value()->publish(entry).is_ok());
    }
  }

  // Paths of the cache's entries.
  std::vector<std::string> entry_files() {
    std::vector<std::string> files;
    if (!std::filesystem::exists(cache_dir + "/v1")) return files;
    for (const auto& file : std::filesystem::recursive_directory_iterator(cache_dir + "/v1"))
      if (file.path().extension() == ".dge") files.push_back(file.path().string());
    std::sort(files.begin(), files.end());
    return files;
  }

  static void damage(const std::string& file) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(200);
    stream.put('\x7f');
  }

  const TempDir dir;
  const std::string cache_dir = dir.path() + "/cache";
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  ContextParts parts;
  std::vector<std::string> infos, warnings;

 private:
  std::mutex mutex_;
  TempKernels kernels_;
  ScopedEnv kernels_dir_;
};

}  // namespace dgrt::test
