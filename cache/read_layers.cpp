#include "cache/read_layers.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "cache/signature.h"

namespace dgrt {
namespace {

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const size_t end = std::min(path.find(':'), path.size());
    if (end > 0) parts.emplace_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return parts;
}

Result<std::vector<Digest>> read_digests(std::string_view text, size_t num_bundles) {
  std::vector<Digest> digests;
  for (const std::string& part : split(text)) {
    const std::optional<Digest> digest = digest_from_hex(part);
    if (!digest) return invalid("bundle digest={}: must be 64 hex digits", part);
    digests.push_back(*digest);
  }
  if (!digests.empty() && digests.size() != num_bundles)
    return invalid("bundle digests={}: must be one for each of {} bundles", digests.size(),
                   num_bundles);
  return digests;
}

Result<std::optional<PublicKey>> read_public_key(std::string_view text) {
  if (text.empty()) return std::optional<PublicKey>();
  const std::optional<PublicKey> key = digest_from_hex(text);
  if (!key) return invalid("bundle_public_key={}: must be 64 hex digits", text);
  return key;
}

}  // namespace

Result<ReadLayers> ReadLayers::open(std::string_view bundle_path, std::string_view bundle_digests,
                                    std::string_view dir_path, FileSystem& fs,
                                    std::vector<Status>* problems, std::string_view public_key) {
  ReadLayers layers;
  DGRT_ASSIGN(const std::optional<PublicKey> key, read_public_key(public_key));
  const std::vector<std::string> bundles = split(bundle_path);
  DGRT_ASSIGN(const std::vector<Digest> digests, read_digests(bundle_digests, bundles.size()));
  for (size_t i = 0; i < bundles.size(); ++i) {
    Result<std::unique_ptr<Bundle>> bundle =
        Bundle::open(bundles[i], digests.empty() ? nullptr : &digests[i], fs);
    if (bundle.is_ok() && key) DGRT_TRY(check_signed(*bundle.value(), *key));
    if (bundle.is_ok())
      layers.bundles_.push_back(std::move(bundle).value());
    else if (digests.empty() && !key)
      problems->push_back(bundle.status());
    else
      return bundle.status();
  }
  for (const std::string& path : split(dir_path)) {
    Result<std::unique_ptr<DiskCache>> dir = DiskCache::open_read_only(path, fs);
    if (dir.is_ok())
      layers.dirs_.push_back(std::move(dir).value());
    else
      problems->push_back(dir.status());
  }
  return layers;
}

ReadLayers::Hit ReadLayers::find(const Key& key, const Want& want, size_t first) const {
  Hit hit;
  for (hit.layer = first; hit.layer < size(); ++hit.layer) {
    if (hit.layer < bundles_.size()) {
      const Bundle& bundle = *bundles_[hit.layer];
      const std::optional<size_t> i = bundle.find(key, {want.compiler, want.is_exact_demanded});
      if (!i) continue;
      Result<Entry> entry = bundle.read(*i);
      if (entry.is_ok()) {
        hit.entry = std::move(entry).value();
        return hit;
      }
      hit.problems.push_back(entry.status());
    } else {
      Found found = dirs_[hit.layer - bundles_.size()]->find(key, want.compiler);
      std::move(found.problems.begin(), found.problems.end(), std::back_inserter(hit.problems));
      if (found.entry) {
        hit.entry = std::move(found.entry);
        return hit;
      }
    }
  }
  return hit;
}

void ReadLayers::visit(
    const std::function<void(const std::string& where, const Key& key, const CompilerId& compiler,
                             const std::string& metadata)>& visitor) const {
  for (const auto& bundle : bundles_) {
    for (size_t i = 0; i < bundle->num_entries(); ++i) {
      const Result<Entry> entry = bundle->read(i);
      if (entry.is_ok())
        visitor(bundle->path(), entry.value().key, entry.value().compiler, entry.value().metadata);
    }
  }
  for (const auto& dir : dirs_) {
    const Result<std::vector<CacheFile>> files = dir->list();
    if (!files.is_ok()) continue;
    for (const CacheFile& file : files.value())
      if (file.status.is_ok()) visitor(dir->dir(), file.key, file.compiler, file.metadata);
  }
}

std::string ReadLayers::describe() const {
  std::string text;
  for (const auto& bundle : bundles_)
    text += (text.empty() ? "bundle " : ", bundle ") + bundle->path();
  for (const auto& dir : dirs_) text += (text.empty() ? "directory " : ", directory ") + dir->dir();
  return text;
}

}  // namespace dgrt
