// dgrt cache: what is in a cache directory, whether all of it is good, single kernels out of it, and
// how to make it smaller.
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "cache/disk_cache.h"
#include "runtime/engine/kernel_metadata.h"
#include "tools/command.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr size_t min_key_digits = 4;

struct CacheOptions {
  std::string cache_dir, key, output;
  uint64_t max_bytes = std::numeric_limits<uint64_t>::max();
  int32_t older_than_days = -1;  // -1: however old
  bool json = false;
};

// Unlike the library, which makes the directory, looking into one that does not exist is a mistake.
Result<std::unique_ptr<DiskCache>> open_existing(const CacheOptions& options) {
  DGRT_ASSIGN(const std::string dir, resolve_cache_dir(options.cache_dir));
  struct stat info {};
  if (stat(dir.c_str(), &info) != 0)
    return error(DGRT_IO_ERROR, "cache-dir={}: {}", dir, errno_text(errno));
  return DiskCache::open(dir);
}

// Metadata is JSON that the compiler stage wrote; a text that is none is shown as it is.
OrderedJson metadata_json(const CacheFile& file) {
  const OrderedJson json = OrderedJson::parse(file.metadata, nullptr, false);
  return json.is_discarded() ? OrderedJson(file.metadata) : json;
}

std::string kernel_name(const CacheFile& file) {
  const Result<KernelFacts> facts = read_metadata(file.metadata);
  return facts.is_ok() ? facts.value().entry : "?";
}

OrderedJson to_json(const CacheFile& file) {
  OrderedJson json = {
      {"path", file.path}, {"bytes", file.file_bytes}, {"good", file.status.is_ok()}};
  if (!file.status.is_ok()) {
    json["problem"] = file.status.message();
    return json;
  }
  json["key"] = file.key.hex();
  json["compiler"] = file.compiler.name();
  json["cubin_bytes"] = file.cubin_bytes;
  json["metadata"] = metadata_json(file);
  return json;
}

struct Listing {
  std::string dir;
  std::vector<CacheFile> files;
  size_t num_bad = 0;
  uint64_t bytes = 0;
};

Result<Listing> list_all(const CacheOptions& options) {
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, open_existing(options));
  Listing listing;
  listing.dir = cache->dir();
  DGRT_ASSIGN(listing.files, cache->list());
  for (const CacheFile& file : listing.files) {
    listing.num_bad += !file.status.is_ok();
    listing.bytes += file.file_bytes;
  }
  return listing;
}

OrderedJson summary_json(const Listing& listing) {
  return {{"cache_dir", listing.dir},
          {"entries", listing.files.size() - listing.num_bad},
          {"bad", listing.num_bad},
          {"bytes", listing.bytes}};
}

void print_totals(const Listing& listing) {
  fmt::print("{} kernels, {} KiB in {}\n", listing.files.size() - listing.num_bad,
             (listing.bytes + 1023) / 1024, listing.dir);
  if (listing.num_bad > 0) fmt::print("{} bad files\n", listing.num_bad);
}

int run_ls(const CacheOptions& options) {
  const Result<Listing> result = list_all(options);
  if (!result.is_ok()) return report(result.status(), options.json);
  const Listing& listing = result.value();
  if (options.json) {
    OrderedJson json = summary_json(listing);
    json["files"] = OrderedJson::array();
    for (const CacheFile& file : listing.files) json["files"].push_back(to_json(file));
    print_json(json);
    return 0;
  }
  for (const CacheFile& file : listing.files) {
    if (file.status.is_ok())
      fmt::print("{}  {:7} B  {}  {}\n", file.key.hex().substr(0, 12), file.cubin_bytes,
                 file.compiler.name(), kernel_name(file));
    else
      fmt::print("BAD {}: {}\n", file.path, file.status.message());
  }
  print_totals(listing);
  return 0;
}

int run_verify(const CacheOptions& options) {
  const Result<Listing> result = list_all(options);
  if (!result.is_ok()) return report(result.status(), options.json);
  const Listing& listing = result.value();
  if (options.json) {
    OrderedJson json = summary_json(listing);
    json["problems"] = OrderedJson::array();
    for (const CacheFile& file : listing.files)
      if (!file.status.is_ok()) json["problems"].push_back(to_json(file));
    print_json(json);
  } else {
    for (const CacheFile& file : listing.files)
      if (!file.status.is_ok()) fmt::print("BAD {}: {}\n", file.path, file.status.message());
    print_totals(listing);
  }
  return listing.num_bad == 0 ? 0 : 1;
}

// The good entries whose key starts with the digits given: one key, perhaps of several compilers.
Result<std::vector<CacheFile>> find_by_prefix(const CacheOptions& options) {
  if (options.key.size() < min_key_digits)
    return invalid("key={}: give at least {} digits", options.key, min_key_digits);
  DGRT_ASSIGN(const Listing listing, list_all(options));
  std::vector<CacheFile> found;
  for (const CacheFile& file : listing.files)
    if (file.status.is_ok() && file.key.hex().starts_with(options.key)) found.push_back(file);
  if (found.empty())
    return error(DGRT_IO_ERROR, "key={}: no good entry in {}", options.key, listing.dir);
  for (const CacheFile& file : found)
    if (file.key != found.front().key)
      return invalid("key={}: several keys start so, e.g. {} and {}", options.key,
                     found.front().key.hex(), file.key.hex());
  return found;
}

int run_show(const CacheOptions& options) {
  const Result<std::vector<CacheFile>> found = find_by_prefix(options);
  if (!found.is_ok()) return report(found.status(), options.json);
  if (options.json) {
    OrderedJson json = {{"entries", OrderedJson::array()}};
    for (const CacheFile& file : found.value()) json["entries"].push_back(to_json(file));
    print_json(json);
    return 0;
  }
  for (const CacheFile& file : found.value()) {
    fmt::print("{:18} {}\n{:18} {}\n{:18} {} ({} B, code {} B)\n", "key", file.key.hex(),
               "compiler", file.compiler.name(), "file", file.path, file.file_bytes,
               file.cubin_bytes);
    const OrderedJson json = metadata_json(file);
    if (!json.is_object()) {
      fmt::print("{:18} {}\n", "metadata", file.metadata);
      continue;
    }
    for (const auto& [name, value] : json.items())
      fmt::print("{:18} {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return 0;
}

Status write_file(const std::string& path, const std::vector<std::byte>& bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"),
                                                             std::fclose);
  if (!file) return error(DGRT_IO_ERROR, "output={}: {}", path, errno_text(errno));
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() ||
      std::fflush(file.get()) != 0)
    return error(DGRT_IO_ERROR, "output={}: {}", path, errno_text(errno));
  return ok();
}

// Of several compilers' entries the newest compiler's.
Result<CacheFile> extract(const CacheOptions& options) {
  DGRT_ASSIGN(const std::vector<CacheFile> found, find_by_prefix(options));
  const CacheFile* newest = &found.front();
  for (const CacheFile& file : found)
    if (file.compiler > newest->compiler) newest = &file;
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, open_existing(options));
  const Found entry = cache->find(newest->key, &newest->compiler);
  if (!entry.entry) return error(DGRT_IO_ERROR, "key={}: the entry went away", newest->key.hex());
  DGRT_TRY(write_file(options.output, entry.entry->cubin));
  return *newest;
}

int run_extract(const CacheOptions& options) {
  const Result<CacheFile> file = extract(options);
  if (!file.is_ok()) return report(file.status(), options.json);
  if (options.json) {
    OrderedJson json = to_json(file.value());
    json["output"] = options.output;
    print_json(json);
  } else {
    fmt::print("{} B of {} written to {}\n", file.value().cubin_bytes, kernel_name(file.value()),
               options.output);
  }
  return 0;
}

OrderedJson to_json(const Trimmed& trimmed) {
  return {{"evicted", trimmed.evicted},
          {"evicted_bytes", trimmed.evicted_bytes},
          {"entries", trimmed.kept},
          {"bytes", trimmed.kept_bytes},
          {"removed_temporary_files", trimmed.removed_temps},
          {"removed_locks", trimmed.removed_locks},
          {"removed_from_quarantine", trimmed.removed_quarantined}};
}

Result<Trimmed> trim(const CacheOptions& options) {
  DGRT_ASSIGN(const std::unique_ptr<DiskCache> cache, open_existing(options));
  TrimLimits limits;
  limits.max_bytes = options.max_bytes;
  if (options.older_than_days >= 0) limits.max_idle_s = int64_t{options.older_than_days} * 86400;
  DGRT_ASSIGN(const Trimmed trimmed, cache->trim(limits));
  if (trimmed.is_skipped)
    return error(DGRT_IO_ERROR, "cache-dir={}: another process is trimming it", cache->dir());
  return trimmed;
}

// CLI11 would wrap it around to a huge number.
std::string refuse_negative(const std::string& text) {
  return text.starts_with('-') ? "must not be negative" : "";
}

int run_trim(const CacheOptions& options) {
  const Result<Trimmed> result = trim(options);
  if (!result.is_ok()) return report(result.status(), options.json);
  const Trimmed& trimmed = result.value();
  if (options.json) {
    print_json(to_json(trimmed));
    return 0;
  }
  fmt::print("{} kernels, {} KiB removed; {} kernels, {} KiB stay\n", trimmed.evicted,
             (trimmed.evicted_bytes + 1023) / 1024, trimmed.kept,
             (trimmed.kept_bytes + 1023) / 1024);
  fmt::print("{} temporary files, {} lock files, {} files in quarantine removed\n",
             trimmed.removed_temps, trimmed.removed_locks, trimmed.removed_quarantined);
  return 0;
}

}  // namespace

void add_cache(CLI::App& app, int& exit_code) {
  CLI::App* cache = app.add_subcommand("cache", "Look into a cache directory");
  cache->require_subcommand(1);
  cache->footer("Example: dgrt cache ls --cache-dir ~/.cache/dgrt");
  const auto add = [&](const char* name, const char* what, const char* example,
                       int (*run)(const CacheOptions&)) {
    CLI::App* command = cache->add_subcommand(name, what);
    command->footer(std::string("Example: ") + example);
    const auto options = std::make_shared<CacheOptions>();
    add_cache_dir_option(*command, options->cache_dir);
    command->add_flag("--json", options->json, "One line of JSON");
    command->callback([options, run, &exit_code] { exit_code = run(*options); });
    return std::make_pair(command, options);
  };
  const auto add_key = [](CLI::App* command, const std::shared_ptr<CacheOptions>& options) {
    command->add_option("key", options->key, "Key, or the digits that it starts with")->required();
  };
  add("ls", "List every kernel", "dgrt cache ls --json", run_ls);
  add("verify", "Check every file; fails unless all are good",
      "dgrt cache verify --cache-dir /models/dgrt", run_verify);
  const auto [show, show_options] =
      add("show", "Say everything about one kernel", "dgrt cache show 1f0c9a", run_show);
  add_key(show, show_options);
  const auto [out, out_options] =
      add("extract", "Write one kernel's machine code to a file",
          "dgrt cache extract 1f0c9a -o kernel.cubin && nvdisasm kernel.cubin", run_extract);
  add_key(out, out_options);
  out->add_option("-o,--output", out_options->output, "File to write")->required();
  const auto [less, less_options] =
      add("trim", "Remove the kernels unused for longest, and what dead processes left",
          "dgrt cache trim --max-bytes 1GiB --older-than 90", run_trim);
  less->add_option("--max-bytes", less_options->max_bytes,
                   "What may stay; KiB, MiB and GiB are understood. Default: all")
      ->transform(CLI::AsSizeValue(false))
      ->transform(CLI::Validator(refuse_negative, "", ""));  // runs first
  less->add_option("--older-than", less_options->older_than_days,
                   "Remove what was not used for so many days, whatever the size")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace dgrt
