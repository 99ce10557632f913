// DiskCache, keeping the directory small and clean: eviction under a byte cap, files that dead
// writers left, lock files that nobody holds, what is too much in quarantine.
//
// Nothing here may cost anyone a kernel: what cannot be looked at or removed is left, and an entry
// that goes is one more compile for whoever wants it next. Whoever tidies up holds
// locks/upkeep.lock, whose modification time says when that was last done. Where the file system
// has no locks, entries are evicted without (two that do it at once choose the same ones), but lock
// files stay.
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "cache/disk_cache.h"
#include "cache/disk_layout.h"

namespace dgrt {
namespace {

constexpr const char* upkeep_lock = "upkeep.lock";
constexpr int64_t day_s = 24 * 3600;
// A writer that is still alive needs far less; what is older was left by one that died.
constexpr int64_t stale_temp_s = 3600;
// Of a lock file that nobody holds: those of kernels that are just being asked for are spared.
constexpr int64_t stale_lock_s = 3600;
// Between hosts that share a directory.
constexpr int64_t max_clock_skew_s = 3600;
constexpr size_t key_digits = 64;

}  // namespace

int64_t idle_s(const FileInfo& info) {
  const int64_t age = ::time(nullptr) - info.mtime_s;
  if (age >= 0) return age;
  return age >= -max_clock_skew_s ? 0 : std::numeric_limits<int64_t>::max();
}

// A file among the entries, good or not.
struct DiskCache::Used {
  std::string shard, name;
  FileInfo info;
  int64_t idle;  // seconds
};

// All files among the entries. Removes those of dead writers on the way.
Result<std::vector<DiskCache::Used>> DiskCache::scan(Trimmed* trimmed) {
  std::vector<Used> files;
  Dir entries;
  DGRT_TRY(open_subdir(root_, entries_dir, false, &entries));
  if (!entries.file.is_open()) return files;
  std::vector<std::string> shards;
  if (const int error = fs_.list(entries.file, &shards)) return io_error(entries.path, error);
  for (const std::string& shard : shards) scan_shard(entries, shard, &files, trimmed);
  return files;
}

void DiskCache::scan_shard(const Dir& entries, const std::string& shard_dir,
                           std::vector<Used>* files, Trimmed* trimmed) {
  Dir shard;
  std::vector<std::string> names;
  if (!open_subdir(entries, shard_dir, false, &shard).is_ok() || !shard.file.is_open() ||
      fs_.list(shard.file, &names) != 0)
    return;
  for (const std::string& name : names) {
    FileInfo info;
    if (fs_.stat_at(shard.file, name, &info) != 0 || info.kind == FileInfo::Kind::directory)
      continue;
    const int64_t idle = idle_s(info);
    if (!name.starts_with(temp_prefix))
      files->push_back({shard_dir, name, info, idle});
    else if (idle > stale_temp_s && fs_.unlink(shard.file, name) == 0)
      ++trimmed->removed_temps;
  }
}

// Least recently used first, until the limits hold.
void DiskCache::evict(std::vector<Used> files, const TrimLimits& limits, Trimmed* trimmed) {
  std::sort(files.begin(), files.end(), [](const Used& a, const Used& b) {
    return std::tie(b.idle, a.name) < std::tie(a.idle, b.name);
  });
  for (const Used& file : files) trimmed->kept_bytes += file.info.size;
  trimmed->kept = files.size();
  Dir entries;
  if (!open_subdir(root_, entries_dir, false, &entries).is_ok() || !entries.file.is_open()) return;
  for (const Used& file : files) {
    const bool is_over = trimmed->kept_bytes > limits.max_bytes && file.idle >= limits.min_idle_s;
    if (!is_over && file.idle <= limits.max_idle_s) break;  // those that follow are younger
    bool is_gone = false;
    if (evict_one(entries, file, &is_gone)) {
      ++trimmed->evicted;
      trimmed->evicted_bytes += file.info.size;
    }
    if (!is_gone) continue;
    --trimmed->kept;
    trimmed->kept_bytes -= file.info.size;
  }
}

// Returns whether this call removed the file. Under the lock of its key, so that nobody publishes
// meanwhile, and only if it is still what scan() saw: not replaced and not used since.
bool DiskCache::evict_one(const Dir& entries, const Used& file, bool* is_gone) {
  const std::string lock_name = file.name.substr(0, key_digits) + std::string(lock_suffix);
  std::optional<KeyLock> lock;
  if (Key::from_hex(file.name.substr(0, key_digits))) {
    Result<std::optional<KeyLock>> tried = acquire(lock_name, false);
    if (tried.is_ok() && !tried.value()) return false;  // somebody is about to write it
    if (tried.is_ok()) lock = std::move(tried).value();
  }
  Dir shard;
  FileInfo now;
  if (!open_subdir(entries, file.shard, false, &shard).is_ok()) return false;
  const int error = shard.file.is_open() ? fs_.stat_at(shard.file, file.name, &now) : ENOENT;
  *is_gone = error == ENOENT;
  if (error != 0 || !now.is_same_file(file.info) || now.mtime_s != file.info.mtime_s) return false;
  if (fs_.unlink(shard.file, file.name) != 0) return false;
  *is_gone = true;
  Dir locks;
  if (lock && open_subdir(root_, locks_dir, false, &locks).is_ok() && locks.file.is_open())
    (void)fs_.unlink(locks.file, lock_name);
  return true;
}

// Requires: the upkeep lock is held, or locks do not work here.
void DiskCache::tidy(Trimmed* trimmed) {
  remove_idle_locks(trimmed);
  Dir quarantine;
  if (open_subdir(root_, quarantine_dir, false, &quarantine).is_ok() && quarantine.file.is_open())
    trimmed->removed_quarantined = trim_quarantine(quarantine);
}

// Each under its own lock: a waiter that gets the removed file's lock sees that the name leads
// elsewhere and asks again (acquire()).
void DiskCache::remove_idle_locks(Trimmed* trimmed) {
  Dir locks;
  std::vector<std::string> names;
  if (!open_subdir(root_, locks_dir, false, &locks).is_ok() || !locks.file.is_open() ||
      fs_.list(locks.file, &names) != 0)
    return;
  for (const std::string& name : names) {
    FileInfo info;
    if (name == upkeep_lock || !name.ends_with(lock_suffix) ||
        fs_.stat_at(locks.file, name, &info) != 0 || idle_s(info) <= stale_lock_s)
      continue;
    const Result<std::optional<KeyLock>> lock = acquire(name, false);
    if (lock.is_ok() && lock.value() && fs_.unlink(locks.file, name) == 0) ++trimmed->removed_locks;
  }
}

// Keeps the newest that fit. Best effort: a quarantine that is too large does no harm.
uint64_t DiskCache::trim_quarantine(const Dir& quarantine) {
  std::vector<std::string> names;
  if (fs_.list(quarantine.file, &names) != 0) return 0;
  std::sort(names.begin(), names.end(), std::greater<>());  // they begin with the time
  size_t num_kept = 0;
  uint64_t kept_bytes = 0, num_removed = 0;
  for (const std::string& name : names) {
    FileInfo info;
    if (fs_.stat_at(quarantine.file, name, &info) != 0) continue;
    const uint64_t bytes = info.kind == FileInfo::Kind::regular ? info.size : 0;
    if (num_kept < max_quarantined && kept_bytes + bytes <= max_quarantined_bytes) {
      ++num_kept;
      kept_bytes += bytes;
    } else {
      num_removed += fs_.unlink(quarantine.file, name) == 0;
    }
  }
  return num_removed;
}

Result<Trimmed> DiskCache::trim(const TrimLimits& limits) {
  DGRT_TRY(check_writable());
  Trimmed trimmed;
  const Result<std::optional<KeyLock>> lock = acquire(upkeep_lock, false);
  trimmed.is_skipped = lock.is_ok() && !lock.value();
  if (trimmed.is_skipped) return trimmed;
  DGRT_ASSIGN(std::vector<Used> files, scan(&trimmed));
  evict(std::move(files), limits, &trimmed);
  tidy(&trimmed);
  if (lock.is_ok()) (void)fs_.touch(lock.value()->file());
  return trimmed;
}

void DiskCache::daily_upkeep() {
  Dir locks;
  if (!check_writable().is_ok() || !open_subdir(root_, locks_dir, false, &locks).is_ok() ||
      !locks.file.is_open())
    return;  // without locks nothing was ever compiled here
  FileInfo last;
  if (fs_.stat_at(locks.file, upkeep_lock, &last) == 0 && idle_s(last) < day_s) return;
  const Result<std::optional<KeyLock>> lock = acquire(upkeep_lock, false);
  if (!lock.is_ok() || !lock.value()) return;
  (void)fs_.touch(lock.value()->file());  // first: who comes next need not wait for the end
  Trimmed ignored;
  (void)scan(&ignored);
  tidy(&ignored);
}

Result<Trimmed> DiskCache::keep_below(uint64_t max_bytes) {
  DGRT_TRY(check_writable());
  Trimmed trimmed;
  if (published_bytes_.load(std::memory_order_relaxed) < next_scan_) return trimmed;
  const Result<std::optional<KeyLock>> lock = acquire(upkeep_lock, false);
  trimmed.is_skipped = lock.is_ok() && !lock.value();
  if (trimmed.is_skipped) return trimmed;
  DGRT_ASSIGN(std::vector<Used> files, scan(&trimmed));
  uint64_t bytes = 0;
  for (const Used& file : files) bytes += file.info.size;
  TrimLimits limits;
  limits.min_idle_s = recent_s;
  if (bytes > max_bytes) limits.max_bytes = max_bytes - max_bytes / 10;
  evict(std::move(files), limits, &trimmed);
  // The other processes publish, too: look again long before this one alone could fill the rest.
  const uint64_t room = max_bytes - std::min(max_bytes, trimmed.kept_bytes);
  next_scan_ = published_bytes_ + std::max(room / 16, max_bytes / 64);
  return trimmed;
}

}  // namespace dgrt
