#include "runtime/engine/miss_report.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "runtime/base/format.h"

namespace dgrt {
namespace {

constexpr size_t shown_digits = 12;  // of keys and digests, as `dgrt cache ls` shows them

std::set<std::string> words(const std::string& text) {
  std::set<std::string> all;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) all.insert(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return all;
}

// The words of `text` that `other` lacks: of a config, the constants that differ.
std::string without(const std::string& text, const std::string& other) {
  const std::set<std::string> known = words(other);
  std::string rest;
  for (const std::string& word : words(text))
    if (known.count(word) == 0) rest += (rest.empty() ? "" : " ") + word;
  return rest.empty() ? "nothing" : rest;
}

struct Difference {
  std::string text;
  size_t num_fields = 0;
  size_t num_constants = 0;  // of the config
};

Difference compare(const KeyFields& wanted, const CompilerId* compiler,
                   const CachedKernel& cached) {
  Difference difference;
  const auto add = [&difference](const char* field, const std::string& here,
                                 const std::string& there) {
    difference.text += fmt::format("{}{} ({}, cached: {})", difference.text.empty() ? "" : ", ",
                                   field, here, there.empty() ? "not recorded" : there);
    ++difference.num_fields;
  };
  const KeyFields& has = cached.fields;
  if (wanted.template_id != has.template_id)
    add("template bytes", wanted.template_id.substr(0, shown_digits),
        has.template_id.substr(0, shown_digits));
  if (wanted.config != has.config) {
    const std::string here = without(wanted.config, has.config);
    add("config", here, without(has.config, wanted.config));
    difference.num_constants = words(here).size();
  }
  if (wanted.arch != has.arch) add("arch", wanted.arch, has.arch);
  // The architecture is among the options, too.
  const auto option_list = [](const KeyFields& fields) {
    std::set<std::string> options = words(fields.options);
    options.erase("--gpu-architecture=" + fields.arch);
    return options;
  };
  if (option_list(wanted) != option_list(has))
    add("options", without(wanted.options, has.options), without(has.options, wanted.options));
  if (wanted.num_threads != has.num_threads || wanted.min_blocks != has.min_blocks)
    add("launch bounds", fmt::format("{}, {}", wanted.num_threads, wanted.min_blocks),
        fmt::format("{}, {}", has.num_threads, has.min_blocks));
  if (wanted.config == has.config && wanted.kernel != has.kernel)
    add("entry name", wanted.kernel, has.kernel);
  if (wanted.key_version != has.key_version)
    add("key version", fmt::format("{}", wanted.key_version), fmt::format("{}", has.key_version));
  if (compiler != nullptr && cached.compiler != *compiler)
    add("compiler", compiler->name(), cached.compiler.name());
  return difference;
}

}  // namespace

std::vector<CachedKernel> list_kernels(const ReadLayers& layers, DiskCache* disk) {
  std::vector<CachedKernel> kernels;
  const auto add = [&kernels](const std::string& where, const Key& key, const CompilerId& compiler,
                              const std::string& metadata) {
    kernels.push_back({key, compiler, read_key_fields(metadata), where});
  };
  layers.visit(add);
  if (disk == nullptr) return kernels;
  const Result<std::vector<CacheFile>> files = disk->list();
  if (!files.is_ok()) return kernels;
  for (const CacheFile& file : files.value())
    if (file.status.is_ok()) add(disk->dir(), file.key, file.compiler, file.metadata);
  return kernels;
}

std::string describe_miss(const Key& key, const KeyFields& wanted, const CompilerId* compiler,
                          const std::vector<CachedKernel>& cached) {
  const std::string miss =
      fmt::format("miss: kernel {} (key {})", wanted.kernel, key.hex().substr(0, shown_digits));
  const CachedKernel* nearest = nullptr;
  Difference least;
  for (const CachedKernel& kernel : cached) {
    if (kernel.fields.stem != wanted.stem) continue;
    Difference now = compare(wanted, compiler, kernel);
    const auto rank = [](const Difference& d, const CachedKernel& k) {
      return std::tie(d.num_fields, d.num_constants, k.key, k.compiler);
    };
    if (nearest != nullptr && rank(least, *nearest) <= rank(now, kernel)) continue;
    nearest = &kernel;
    least = std::move(now);
  }
  if (nearest == nullptr)
    return fmt::format("{}: no kernel of {} is among the {} that are cached", miss, wanted.stem,
                       cached.size());
  return fmt::format("{}: the nearest is {} (key {}, {}, in {}), which differs in: {}", miss,
                     nearest->fields.kernel, nearest->key.hex().substr(0, shown_digits),
                     nearest->compiler.name(), nearest->where,
                     least.text.empty() ? "nothing that is recorded" : least.text);
}

}  // namespace dgrt
