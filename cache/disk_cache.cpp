#include "cache/disk_cache.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <tuple>

#include "cache/disk_layout.h"

namespace dgrt {
namespace {

// A hit renews the time of its file only if that is older: many processes that start at once write
// it once. Far shorter than what eviction calls recent.
constexpr int64_t touch_after_s = 60;
// A lock file is replaced under a waiter only by someone who tidies up: once in a while.
constexpr int max_lock_attempts = 16;

std::string shard_name(const Key& key) { return key.hex().substr(0, 2); }

std::string entry_name(const Key& key, const CompilerId& compiler) {
  return key.hex() + "." + compiler.name() + std::string(entry_suffix);
}

std::string lock_name(const Key& key) { return key.hex() + std::string(lock_suffix); }

// Sorts file names of one key, newest compiler first. Names that are none of ours sort last; they
// turn out to be misnamed when they are read.
std::tuple<uint32_t, uint32_t, std::string_view> compiler_order(std::string_view name) {
  uint32_t major = 0, minor = 0;
  const size_t dash = name.find('-');
  if (dash != std::string_view::npos) {
    const char* const end = name.data() + name.size();
    const auto after_major = std::from_chars(name.data() + dash + 1, end, major);
    if (after_major.ptr != end && *after_major.ptr == '.')
      std::from_chars(after_major.ptr + 1, end, minor);
  }
  return {major, minor, name};
}

// OK if nobody but this user, or, where that is allowed, root, can have written the file or
// directory.
Status check_ours(const FileInfo& info, FileInfo::Kind kind, bool may_be_roots = false) {
  if (info.kind != kind)
    return error(DGRT_IO_ERROR, "not a {}",
                 kind == FileInfo::Kind::directory ? "directory" : "regular file");
  if (info.owner != geteuid() && !(may_be_roots && info.owner == 0))
    return error(DGRT_IO_ERROR, "owner={}: must be the effective user {}{}", info.owner, geteuid(),
                 may_be_roots ? " or root" : "");
  if ((info.mode & 022) != 0)
    return error(DGRT_IO_ERROR, "mode={:04o}: must not be writable by group or others", info.mode);
  return ok();
}

// mkdir -p. Errors show when the directory is opened afterwards.
void make_root_and_parents(FileSystem& fs, const std::string& path) {
  for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1))
    (void)fs.make_root(path.substr(0, end));
  (void)fs.make_root(path);
}

}  // namespace

// One file as found in a shard.
struct DiskCache::Loaded {
  File file;  // held open: until it is closed, no other file can get its inode number
  FileInfo info;
  bool exists = false;
  bool is_bad = false;  // the file itself is at fault and has to go, not the access to it
  Status status;
  Entry entry;  // if the status is OK and the file exists
};

Result<std::unique_ptr<DiskCache>> DiskCache::open(const std::string& dir, FileSystem& fs) {
  if (dir.empty()) return invalid("cache directory \"\": must not be empty");
  Dir root{File(), dir};
  int error = fs.open_root(dir, &root.file);
  if (error == ENOENT) {
    make_root_and_parents(fs, dir);
    error = fs.open_root(dir, &root.file);
  }
  if (error != 0) return io_error(dir, error);
  std::unique_ptr<DiskCache> cache(new DiskCache(fs, std::move(root), Access::read_write));
  DGRT_TRY(cache->check_dir(cache->root_));
  return cache;
}

Result<std::unique_ptr<DiskCache>> DiskCache::open_read_only(const std::string& dir,
                                                             FileSystem& fs) {
  Dir root{File(), dir};
  if (const int error = fs.open_root(dir, &root.file)) return io_error(dir, error);
  std::unique_ptr<DiskCache> cache(new DiskCache(fs, std::move(root), Access::read_only));
  DGRT_TRY(cache->check_dir(cache->root_));
  return cache;
}

Status DiskCache::check_owner(const FileInfo& info, FileInfo::Kind kind) const {
  return check_ours(info, kind, access_ == Access::read_only);
}

Status DiskCache::check_writable() const {
  return access_ == Access::read_write ? ok() : invalid("{}: this cache is only read", root_.path);
}

Status DiskCache::check_dir(const Dir& dir) const {
  FileInfo info;
  if (const int error = fs_.stat(dir.file, &info)) return io_error(dir.path, error);
  const Status status = check_owner(info, FileInfo::Kind::directory);
  return status.is_ok() ? ok() : Status(status.code(), dir.path + ": " + status.message());
}

// Some file systems cannot sync a directory and say EINVAL: there is nothing more to be done then.
int DiskCache::sync_dir(const Dir& dir) {
  const int error = fs_.sync(dir.file);
  return error == EINVAL ? 0 : error;
}

// Without `create`, a directory that does not exist leaves `child` closed and is no error.
Status DiskCache::open_subdir(const Dir& parent, const std::string& name, bool create, Dir* child) {
  child->path = parent.path + "/" + name;
  int error = fs_.open_dir(parent.file, name, &child->file);
  if (error == ENOENT && !create) return ok();
  if (create && (error == ENOENT || error == ENOTDIR || error == ELOOP)) {
    // A file or symbolic link in the place of a directory of ours is of no use to anyone.
    if (error != ENOENT) (void)fs_.unlink(parent.file, name);
    error = fs_.make_dir(parent.file, name);
    if (error == 0) error = sync_dir(parent);
    if (error != 0 && error != EEXIST) return io_error(child->path, error);
    error = fs_.open_dir(parent.file, name, &child->file);
  }
  if (error != 0) return io_error(child->path, error);
  Status status = check_dir(*child);
  if (!status.is_ok()) child->file.close();
  return status;
}

// Opened from the root each time, so that a cache deleted under a running process is recreated.
Status DiskCache::open_shard(const Key& key, bool create, Dir* shard) {
  Dir entries;
  DGRT_TRY(open_subdir(root_, entries_dir, create, &entries));
  if (!entries.file.is_open()) return ok();
  return open_subdir(entries, shard_name(key), create, shard);
}

DiskCache::Loaded DiskCache::load(const Dir& shard, const std::string& name) {
  Loaded loaded;
  const auto fail = [&](const std::string& why, bool is_bad) {
    loaded.status = Status(DGRT_IO_ERROR, shard.path + "/" + name + ": " + why);
    loaded.is_bad = is_bad;
    return std::move(loaded);
  };
  const int open_error = fs_.open_read(shard.file, name, &loaded.file);
  if (open_error == ENOENT) return loaded;
  loaded.exists = true;
  // What cannot be opened (a symbolic link, a socket, another user's file) can still be identified.
  int error = open_error == 0 ? fs_.stat(loaded.file, &loaded.info)
                              : fs_.stat_at(shard.file, name, &loaded.info);
  if (error != 0) return fail(errno_text(error), false);
  const Status ours = check_owner(loaded.info, FileInfo::Kind::regular);
  if (!ours.is_ok()) return fail(ours.message(), true);
  if (open_error != 0) return fail(errno_text(open_error), false);

  std::vector<std::byte> bytes;
  error = read_all(fs_, loaded.file, max_entry_bytes, &bytes);
  if (error != 0) return fail(errno_text(error), error == EFBIG);
  Result<Entry> entry = parse_entry(bytes);
  if (!entry.is_ok()) return fail(entry.status().message(), true);
  const std::string right_name = entry_name(entry.value().key, entry.value().compiler);
  if (name != right_name) return fail("holds the entry " + right_name, true);
  loaded.entry = std::move(entry).value();
  return loaded;
}

Found DiskCache::find(const Key& key, const CompilerId* exact) {
  Found found;
  Dir shard;
  if (Status status = open_shard(key, false, &shard); !status.is_ok())
    found.problems.push_back(std::move(status));
  if (!shard.file.is_open()) return found;  // nothing there, or nothing to be trusted
  if (exact != nullptr) {
    examine(shard, entry_name(key, *exact), exact, &found);
    return found;
  }
  std::vector<std::string> names;
  if (const int error = fs_.list(shard.file, &names)) {
    found.problems.push_back(io_error(shard.path, error));
    return found;
  }
  const std::string prefix = key.hex() + ".";
  std::erase_if(names, [&](const std::string& name) {
    return !name.starts_with(prefix) || !name.ends_with(entry_suffix);
  });
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return compiler_order(a) > compiler_order(b);
  });
  for (const std::string& name : names)
    if (examine(shard, name, nullptr, &found)) break;
  return found;
}

// Takes the entry into `found` if it is good, else moves it aside. Returns whether it was good.
bool DiskCache::examine(const Dir& shard, const std::string& name, const CompilerId* exact,
                        Found* found) {
  Loaded loaded = load(shard, name);
  if (!loaded.exists) return false;
  if (!loaded.status.is_ok()) {
    found->problems.push_back(loaded.status);
    if (!loaded.is_bad || access_ == Access::read_only) return false;
    bool was_moved = false;
    if (Status status = move_aside(shard, name, loaded.info, &was_moved); !status.is_ok())
      found->problems.push_back(std::move(status));
    found->num_quarantined += was_moved;
    return false;
  }
  // The file name has only 8 of the build id's 20 bytes.
  if (exact != nullptr && loaded.entry.compiler != *exact) return false;
  // For eviction. An error only makes the entry look older than it is.
  if (access_ == Access::read_write && idle_s(loaded.info) > touch_after_s)
    (void)fs_.touch(loaded.file);
  found->entry = std::move(loaded.entry);
  return true;
}

// Moves the file that was judged, and no other: a good entry may have taken its place since.
Status DiskCache::move_aside(const Dir& shard, const std::string& name, const FileInfo& judged,
                             bool* was_moved) {
  FileInfo now;
  int error = fs_.stat_at(shard.file, name, &now);
  if (error == ENOENT || (error == 0 && !now.is_same_file(judged))) return ok();
  if (error != 0) return io_error(shard.path + "/" + name, error);
  Dir quarantine;
  const std::string aside = unique_name("") + "." + name;
  if (open_subdir(root_, quarantine_dir, true, &quarantine).is_ok()) {
    error = fs_.rename(shard.file, name, quarantine.file, aside);
    if (error == ENOENT) return ok();
    if (error == 0) {
      // The good entry may also have come between the look and the move: then it goes back.
      if (fs_.stat_at(quarantine.file, aside, &now) == 0 && !now.is_same_file(judged)) {
        error = fs_.rename(quarantine.file, aside, shard.file, name);
        return error == 0 ? ok() : io_error(shard.path + "/" + name, error);
      }
      *was_moved = true;
      (void)trim_quarantine(quarantine);
      return ok();
    }
  }
  error = fs_.unlink(shard.file, name);
  *was_moved = error == 0;
  return error == 0 || error == ENOENT
             ? ok()
             : io_error("cannot move " + shard.path + "/" + name + " aside", error);
}

Status DiskCache::quarantine(const Key& key, const CompilerId& compiler) {
  DGRT_TRY(check_writable());
  Dir shard;
  DGRT_TRY(open_shard(key, false, &shard));
  if (!shard.file.is_open()) return ok();
  const std::string name = entry_name(key, compiler);
  FileInfo judged;
  const int error = fs_.stat_at(shard.file, name, &judged);
  if (error == ENOENT) return ok();
  if (error != 0) return io_error(shard.path + "/" + name, error);
  bool was_moved = false;
  return move_aside(shard, name, judged, &was_moved);
}

Status DiskCache::publish(const Entry& entry) {
  DGRT_TRY(check_writable());
  if (entry.cubin.empty()) return invalid("cubin size=0: a cache entry must hold code");
  Dir shard;
  DGRT_TRY(open_shard(entry.key, true, &shard));
  const std::vector<std::byte> bytes = serialize(entry);
  std::string temp;
  DGRT_TRY(write_temp(shard, bytes, &temp));
  const std::string name = entry_name(entry.key, entry.compiler);
  if (const int error = fs_.rename(shard.file, temp, shard.file, name)) {
    (void)fs_.unlink(shard.file, temp);
    return io_error(shard.path + "/" + name, error);
  }
  published_bytes_.fetch_add(bytes.size(), std::memory_order_relaxed);
  const int error = sync_dir(shard);
  return error == 0 ? ok() : io_error(shard.path + "/" + name, error);
}

// A complete, synced file under a temporary name, or nothing.
Status DiskCache::write_temp(const Dir& shard, const std::vector<std::byte>& bytes,
                             std::string* temp) {
  File file;
  int error = EEXIST;
  // A name can only be taken if processes in different PID namespaces meet in the same nanosecond.
  for (int attempt = 0; attempt < 4 && error == EEXIST; ++attempt) {
    *temp = unique_name(temp_prefix);
    error = fs_.create(shard.file, *temp, &file);
  }
  if (error != 0) return io_error(shard.path + "/" + *temp, error);
  error = write_all(fs_, file, bytes);
  if (error == 0) error = fs_.sync(file);
  if (error == 0) return ok();
  (void)fs_.unlink(shard.file, *temp);
  return io_error(shard.path + "/" + *temp, error);
}

// The file of a lock, open but not yet locked.
Status DiskCache::open_lock_file(const Dir& locks, const std::string& name, File* file,
                                 FileInfo* info) {
  const std::string path = locks.path + "/" + name;
  int error = fs_.open_lock_file(locks.file, name, file);
  if (error == ELOOP) {  // a symbolic link in the place of a file of ours is of no use to anyone
    (void)fs_.unlink(locks.file, name);
    error = fs_.open_lock_file(locks.file, name, file);
  }
  if (error == 0) error = fs_.stat(*file, info);
  if (error != 0) return io_error(path, error);
  const Status ours = check_ours(*info, FileInfo::Kind::regular);
  return ours.is_ok() ? ok() : Status(ours.code(), path + ": " + ours.message());
}

// Lock files are removed when tidying up (under their lock), so the lock counts only if the file is
// still there once it is locked: else someone may hold another file of this name.
Result<std::optional<KeyLock>> DiskCache::acquire(const std::string& name, bool wait) {
  DGRT_TRY(check_writable());
  Dir locks;
  DGRT_TRY(open_subdir(root_, locks_dir, true, &locks));
  for (int attempt = 0; attempt < max_lock_attempts; ++attempt) {
    File file;
    FileInfo opened, named;
    DGRT_TRY(open_lock_file(locks, name, &file, &opened));
    int error = fs_.lock(file, wait);
    if (error == EWOULDBLOCK) return std::optional<KeyLock>();
    if (error != 0) return io_error(locks.path + "/" + name, error);
    KeyLock lock(fs_, std::move(file));
    error = fs_.stat_at(locks.file, name, &named);
    if (error == 0 && named.is_same_file(opened)) return std::optional<KeyLock>(std::move(lock));
    if (error != 0 && error != ENOENT) return io_error(locks.path + "/" + name, error);
  }
  return error(DGRT_IO_ERROR, "{}/{}: replaced each time it was locked", locks.path, name);
}

Result<KeyLock> DiskCache::lock(const Key& key) {
  DGRT_ASSIGN(std::optional<KeyLock> lock, acquire(lock_name(key), true));
  if (!lock) return error(DGRT_IO_ERROR, "lock of {}: the file system did not wait", key.hex());
  return std::move(*lock);
}

Result<std::optional<KeyLock>> DiskCache::try_lock(const Key& key) {
  return acquire(lock_name(key), false);
}

Result<std::vector<CacheFile>> DiskCache::list() {
  std::vector<CacheFile> files;
  Dir entries;
  DGRT_TRY(open_subdir(root_, entries_dir, false, &entries));
  if (!entries.file.is_open()) return files;
  std::vector<std::string> shards;
  if (const int error = fs_.list(entries.file, &shards)) return io_error(entries.path, error);
  std::sort(shards.begin(), shards.end());
  for (const std::string& shard : shards) {
    CacheFile unreadable;
    unreadable.path = std::string(entries_dir) + "/" + shard;
    unreadable.status = list_shard(entries, shard, &files);
    if (!unreadable.status.is_ok()) files.push_back(std::move(unreadable));
  }
  return files;
}

Status DiskCache::list_shard(const Dir& entries, const std::string& shard_dir,
                             std::vector<CacheFile>* files) {
  Dir shard;
  DGRT_TRY(open_subdir(entries, shard_dir, false, &shard));
  if (!shard.file.is_open()) return ok();
  std::vector<std::string> names;
  if (const int error = fs_.list(shard.file, &names)) return io_error(shard.path, error);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.starts_with(temp_prefix)) continue;
    Loaded loaded = load(shard, name);
    if (!loaded.exists) continue;
    CacheFile file;
    file.path = std::string(entries_dir) + "/" + shard_dir + "/" + name;
    file.file_bytes = loaded.info.size;
    file.status = std::move(loaded.status);
    if (file.status.is_ok()) {
      file.key = loaded.entry.key;
      file.compiler = loaded.entry.compiler;
      file.metadata = std::move(loaded.entry.metadata);
      file.cubin_bytes = loaded.entry.cubin.size();
      const std::string right_dir = shard_name(file.key);
      if (shard_dir != right_dir)
        file.status =
            error(DGRT_IO_ERROR, "{}: must lie in {}/{}", file.path, entries_dir, right_dir);
    }
    files->push_back(std::move(file));
  }
  return ok();
}

// Unique among the processes that share the cache; sorts by time.
std::string DiskCache::unique_name(std::string_view prefix) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t now_ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
  return fmt::format("{}{:016x}-{:x}-{:x}", prefix, now_ns, static_cast<uint32_t>(::getpid()),
                     sequence_.fetch_add(1, std::memory_order_relaxed));
}

std::optional<std::string> default_cache_dir() {
  // A relative path would depend on the working directory; the XDG specification says to ignore it.
  const char* cache_home = ::secure_getenv("XDG_CACHE_HOME");
  if (cache_home != nullptr && cache_home[0] == '/') return std::string(cache_home) + "/dgrt";
  const char* home = ::secure_getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.cache/dgrt";
  return std::nullopt;
}

}  // namespace dgrt
