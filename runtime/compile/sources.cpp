#include "runtime/compile/sources.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "runtime/base/hash.h"

namespace dgrt {
namespace {

constexpr std::string_view kernels_prefix = "kernels/";
constexpr std::string_view tables_prefix = "heuristics/tables/";

// The path in `#include "path"`, or nothing. A directive in a block comment counts; in a line
// comment it does not.
std::optional<std::string_view> included_path(std::string_view line) {
  const auto skip_blanks = [&line] {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  };
  skip_blanks();
  if (!line.starts_with('#')) return std::nullopt;
  line.remove_prefix(1);
  skip_blanks();
  constexpr std::string_view word = "include";
  if (!line.starts_with(word)) return std::nullopt;
  line.remove_prefix(word.size());
  skip_blanks();
  if (!line.starts_with('"')) return std::nullopt;
  line.remove_prefix(1);
  const size_t end = line.find('"');
  if (end == std::string_view::npos) return std::nullopt;
  return line.substr(0, end);
}

std::vector<std::string_view> included_paths(std::string_view text) {
  std::vector<std::string_view> paths;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (const auto path = included_path(text.substr(0, end))) paths.push_back(*path);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return paths;
}

bool is_below_root(std::string_view path) {
  return !path.empty() && path[0] != '/' && path.find("..") == std::string_view::npos;
}

bool is_directory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Whole file; nothing if it does not exist.
Result<std::optional<std::string>> read_file(const std::string& path) {
  FILE* file = fopen(path.c_str(), "rbe");
  if (file == nullptr) {
    if (errno == ENOENT) return std::optional<std::string>();
    return error(DGRT_IO_ERROR, "{}: {}", path, strerror(errno));
  }
  std::string text;
  char buffer[16384];
  size_t done = 0;
  while ((done = fread(buffer, 1, sizeof(buffer), file)) > 0) text.append(buffer, done);
  const int failure = ferror(file) ? errno : 0;
  fclose(file);
  if (failure != 0) return error(DGRT_IO_ERROR, "{}: {}", path, strerror(failure));
  return std::optional<std::string>(std::move(text));
}

}  // namespace

Sources::Sources(std::string override_dir) : override_dir_(std::move(override_dir)) {}

Result<const std::string*> Sources::text(std::string_view path) const {
  const std::lock_guard lock(mutex_);
  return find(path);
}

Result<const std::string*> Sources::find(std::string_view path) const {
  if (const auto known = texts_.find(path); known != texts_.end()) return &known->second;
  if (!is_below_root(path)) return error(DGRT_INTERNAL, "{}: must be a path below kernels/", path);
  const bool is_table = path.starts_with(tables_prefix);
  if (!override_dir_.empty() && !is_table) {
    if (!is_directory(override_dir_))
      return error(DGRT_IO_ERROR, "kernels directory {}: not a directory", override_dir_);
    DGRT_ASSIGN(std::optional<std::string> text,
                read_file(fmt::format("{}/{}", override_dir_, path)));
    if (text) return &texts_.emplace(path, std::move(*text)).first->second;
  }
  for (const EmbeddedFile& file : embedded_files()) {
    std::string_view name = file.path;
    if (!is_table && name.starts_with(kernels_prefix)) name.remove_prefix(kernels_prefix.size());
    if (name == path) return &file.text;
  }
  return error(DGRT_INTERNAL, "{}: this library has no such {}", path,
               is_table ? "table" : "kernel file");
}

Result<const Closure*> Sources::closure(const std::string& header) const {
  const std::lock_guard lock(mutex_);
  if (const auto known = closures_.find(header); known != closures_.end()) return &known->second;
  DGRT_ASSIGN(Closure closure, make_closure(header));
  return &closures_.emplace(header, std::move(closure)).first->second;
}

Result<Closure> Sources::make_closure(const std::string& header) const {
  std::map<std::string, const std::string*, std::less<>> found;
  // Paths still to visit, and who includes them.
  std::vector<std::pair<std::string, std::string>> pending = {{header, "a kernel instance"}};
  while (!pending.empty()) {
    const auto [path, includer] = pending.back();
    pending.pop_back();
    if (found.contains(path)) continue;
    const Result<const std::string*> text = find(path);
    if (!text.is_ok())
      return Status(text.status().code(),
                    fmt::format("{} (included by {})", text.status().message(), includer));
    found.emplace(path, text.value());
    for (const std::string_view next : included_paths(*text.value()))
      pending.emplace_back(std::string(next), path);
  }
  Closure closure;
  Blake2b hash;
  for (const auto& [path, text] : found) {
    closure.files.push_back({path, text});
    hash.add(path).add(*text);
  }
  closure.digest = hash.digest();
  return closure;
}

std::vector<std::string> Sources::table_paths() const {
  std::vector<std::string> paths;
  for (const EmbeddedFile& file : embedded_files())
    if (file.path.starts_with(tables_prefix)) paths.push_back(file.path);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace dgrt
