// dgrt bundle: kernels of a cache directory as one file to ship, and what is in such files.
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cache/bundle.h"
#include "cache/disk_cache.h"
#include "cache/signature.h"
#include "runtime/engine/kernel_metadata.h"
#include "tools/command.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct BundleOptions {
  std::string cache_dir, output, digest, public_key;
  std::vector<std::string> files;
  bool json = false;
};

std::string id_of(const Bundle::Item& item) { return item.key.hex() + " " + item.compiler.name(); }

OrderedJson to_json(const Bundle::Item& item) {
  return {{"key", item.key.hex()}, {"compiler", item.compiler.name()}, {"bytes", item.bytes}};
}

OrderedJson to_json(const Bundle& bundle) {
  return {{"bundle", bundle.path()},
          {"entries", bundle.num_entries()},
          {"bytes", bundle.file_bytes()},
          {"digest", to_hex(bundle.digest())}};
}

void print_bundle(const Bundle& bundle) {
  fmt::print("{}: {} kernels, {} KiB\ndigest {}\n", bundle.path(), bundle.num_entries(),
             (bundle.file_bytes() + 1023) / 1024, to_hex(bundle.digest()));
}

// A bundle of which everything was checked.
Result<std::unique_ptr<Bundle>> open_good(const std::string& path) {
  DGRT_ASSIGN(std::unique_ptr<Bundle> bundle, Bundle::open(path));
  DGRT_TRY(bundle->verify());
  return bundle;
}

Result<std::unique_ptr<Bundle>> write_and_reopen(
    const std::string& path, std::vector<std::span<const std::byte>> entry_files) {
  DGRT_ASSIGN(const std::vector<std::byte> bytes, make_bundle(std::move(entry_files)));
  DGRT_TRY(write_bundle(path, bytes));
  return open_good(path);
}

// All of a directory or nothing: what is shipped must not lack what was damaged.
Result<std::unique_ptr<Bundle>> create(const BundleOptions& options) {
  DGRT_ASSIGN(const std::string dir, resolve_cache_dir(options.cache_dir));
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, DiskCache::open_read_only(dir));
  DGRT_ASSIGN(const std::vector<CacheFile> files, cache->list());
  std::vector<std::vector<std::byte>> entries;
  for (const CacheFile& file : files) {
    DGRT_TRY(file.status);
    const Found found = cache->find(file.key, &file.compiler);
    if (!found.entry) return error(DGRT_IO_ERROR, "{}/{}: the entry went away", dir, file.path);
    entries.push_back(serialize(*found.entry));
  }
  if (entries.empty()) return error(DGRT_IO_ERROR, "cache-dir={}: holds no kernels", dir);
  return write_and_reopen(options.output, {entries.begin(), entries.end()});
}

Result<std::unique_ptr<Bundle>> merge(const BundleOptions& options) {
  std::vector<std::unique_ptr<Bundle>> bundles;  // hold what `entries` points into
  std::vector<std::span<const std::byte>> entries;
  for (const std::string& path : options.files) {
    DGRT_ASSIGN(std::unique_ptr<Bundle> bundle, open_good(path));
    for (size_t i = 0; i < bundle->num_entries(); ++i) entries.push_back(bundle->entry_bytes(i));
    bundles.push_back(std::move(bundle));
  }
  return write_and_reopen(options.output, std::move(entries));
}

Result<std::unique_ptr<Bundle>> verify(const BundleOptions& options) {
  std::optional<Digest> pinned;
  if (!options.digest.empty()) {
    pinned = digest_from_hex(options.digest);
    if (!pinned) return invalid("digest={}: must be 64 hex digits", options.digest);
  }
  DGRT_ASSIGN(std::unique_ptr<Bundle> bundle,
              Bundle::open(options.files.front(), pinned ? &*pinned : nullptr));
  DGRT_TRY(bundle->verify());
  if (options.public_key.empty()) return bundle;
  const std::optional<PublicKey> key = digest_from_hex(options.public_key);
  if (!key) return invalid("public-key={}: must be 64 hex digits", options.public_key);
  DGRT_TRY(check_signed(*bundle, *key));
  return bundle;
}

// The commands whose outcome is one good bundle.
template <Result<std::unique_ptr<Bundle>> (*make)(const BundleOptions&)>
int run_summary(const BundleOptions& options) {
  const Result<std::unique_ptr<Bundle>> bundle = make(options);
  if (!bundle.is_ok()) return report(bundle.status(), options.json);
  if (options.json)
    print_json(to_json(*bundle.value()));
  else
    print_bundle(*bundle.value());
  return 0;
}

int run_list(const BundleOptions& options) {
  const Result<std::unique_ptr<Bundle>> opened = Bundle::open(options.files.front());
  if (!opened.is_ok()) return report(opened.status(), options.json);
  const Bundle& bundle = *opened.value();
  OrderedJson json = to_json(bundle);
  json["files"] = OrderedJson::array();
  int num_bad = 0;
  for (size_t i = 0; i < bundle.num_entries(); ++i) {
    const Bundle::Item item = bundle.item(i);
    const Result<Entry> entry = bundle.read(i);
    num_bad += !entry.is_ok();
    const Result<KernelFacts> facts =
        entry.is_ok() ? read_metadata(entry.value().metadata) : entry.status();
    const std::string name = facts.is_ok() ? facts.value().entry : "?";
    OrderedJson file = to_json(item);
    file["good"] = entry.is_ok();
    if (entry.is_ok())
      file["kernel"] = name;
    else
      file["problem"] = entry.status().message();
    json["files"].push_back(std::move(file));
    if (options.json) continue;
    if (entry.is_ok())
      fmt::print("{}  {:7} B  {}  {}\n", item.key.hex().substr(0, 12), item.bytes,
                 item.compiler.name(), name);
    else
      fmt::print("BAD {}\n", entry.status().message());
  }
  json["bad"] = num_bad;
  if (options.json)
    print_json(json);
  else
    print_bundle(bundle);
  return num_bad == 0 ? 0 : 1;
}

struct Difference {
  std::vector<Bundle::Item> only_in[2], changed;

  bool is_none() const { return only_in[0].empty() && only_in[1].empty() && changed.empty(); }
};

Result<Difference> compare(const BundleOptions& options) {
  DGRT_ASSIGN(const std::unique_ptr<Bundle> a, open_good(options.files[0]));
  DGRT_ASSIGN(const std::unique_ptr<Bundle> b, open_good(options.files[1]));
  std::map<std::string, std::pair<Bundle::Item, std::span<const std::byte>>> rest;
  for (size_t i = 0; i < b->num_entries(); ++i)
    rest.emplace(id_of(b->item(i)), std::make_pair(b->item(i), b->entry_bytes(i)));
  Difference difference;
  for (size_t i = 0; i < a->num_entries(); ++i) {
    const auto other = rest.find(id_of(a->item(i)));
    if (other == rest.end()) {
      difference.only_in[0].push_back(a->item(i));
      continue;
    }
    if (!std::ranges::equal(a->entry_bytes(i), other->second.second))
      difference.changed.push_back(a->item(i));
    rest.erase(other);
  }
  for (const auto& [id, item] : rest) difference.only_in[1].push_back(item.first);
  return difference;
}

// Like diff: 0 if they hold the same, 1 if not or if one cannot be read.
int run_diff(const BundleOptions& options) {
  const Result<Difference> result = compare(options);
  if (!result.is_ok()) return report(result.status(), options.json);
  const Difference& difference = result.value();
  const std::pair<const char*, const std::vector<Bundle::Item>*> groups[] = {
      {"only_in_a", &difference.only_in[0]},
      {"only_in_b", &difference.only_in[1]},
      {"changed", &difference.changed}};
  if (options.json) {
    OrderedJson json = {
        {"a", options.files[0]}, {"b", options.files[1]}, {"same", difference.is_none()}};
    for (const auto& [name, items] : groups) {
      json[name] = OrderedJson::array();
      for (const Bundle::Item& item : *items) json[name].push_back(to_json(item));
    }
    print_json(json);
  } else {
    for (const auto& [name, items] : groups)
      for (const Bundle::Item& item : *items) fmt::print("{:9}  {}\n", name, id_of(item));
    if (difference.is_none()) fmt::print("same kernels\n");
  }
  return difference.is_none() ? 0 : 1;
}

}  // namespace

void add_bundle(CLI::App& app, int& exit_code) {
  CLI::App* bundle = app.add_subcommand("bundle", "Kernels of a cache directory as one file");
  bundle->require_subcommand(1);
  bundle->footer("Example: dgrt bundle create --cache-dir /models/dgrt -o kernels.dgb");
  const auto add = [&](const char* name, const char* what, const char* example,
                       int (*run)(const BundleOptions&)) {
    CLI::App* command = bundle->add_subcommand(name, what);
    command->footer(std::string("Example: ") + example);
    const auto options = std::make_shared<BundleOptions>();
    command->add_flag("--json", options->json, "One line of JSON");
    command->callback([options, run, &exit_code] { exit_code = run(*options); });
    return std::make_pair(command, options);
  };
  const auto add_output = [](CLI::App* command, const std::shared_ptr<BundleOptions>& options) {
    command->add_option("-o,--output", options->output, "Bundle to write")->required();
  };
  const auto [made, made_options] =
      add("create", "Write every kernel of a cache directory into a bundle",
          "dgrt bundle create --cache-dir /models/dgrt -o kernels.dgb", run_summary<create>);
  add_cache_dir_option(*made, made_options->cache_dir);
  add_output(made, made_options);
  const auto [checked, checked_options] =
      add("verify", "Check every byte of a bundle and print its digest",
          "dgrt bundle verify kernels.dgb", run_summary<verify>);
  checked->add_option("file", checked_options->files, "Bundle")->required()->expected(1);
  checked->add_option("--digest", checked_options->digest, "Digest that it must have");
  checked->add_option("--public-key", checked_options->public_key, "Key that it must be signed by");
  add_bundle_signing(*bundle, exit_code);
  const auto [listed, listed_options] = add("list", "List a bundle's kernels; fails if one is bad",
                                            "dgrt bundle list kernels.dgb --json", run_list);
  listed->add_option("file", listed_options->files, "Bundle")->required()->expected(1);
  const auto [merged, merged_options] =
      add("merge", "Write the kernels of several bundles into one",
          "dgrt bundle merge a.dgb b.dgb -o both.dgb", run_summary<merge>);
  merged->add_option("files", merged_options->files, "Bundles")->required();
  add_output(merged, merged_options);
  const auto [compared, compared_options] =
      add("diff", "Say which kernels differ; fails unless none do", "dgrt bundle diff a.dgb b.dgb",
          run_diff);
  compared->add_option("files", compared_options->files, "Two bundles")->required()->expected(2);
}

}  // namespace dgrt
