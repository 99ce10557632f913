// DiskCache: compiled kernels in a directory of the user's, shared by any number of processes.
//
//   <dir>/v1/<first 2 hex digits of the key>/<key hex>.<compiler name>.dge   entries (entry.h)
//   <dir>/v1/<..>/tmp-*                                                      entries being written
//   <dir>/locks/<key hex>.lock                                               flock per key
//   <dir>/quarantine/                                                        what was moved aside
//
// The directory itself is the index. Entries appear complete, by rename, and never change. A file
// that is not a good entry of ours (damaged, cut short, another format version, another key,
// another owner, writable by others, a symbolic link, no regular file) is a miss and is moved to
// quarantine. Trouble with the cache is never fatal to the caller: it compiles instead.
//
// A file's modification time says when it was last used; keep_below() and trim() evict what was
// unused for longest. Whoever evicts or tidies up holds locks/upkeep.lock, and others skip it.
//
// Only the directory's owner may be able to write in it: a cubin is code. That is checked on the
// open descriptor, and everything else is opened relative to it without following symbolic links.
#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/entry.h"
#include "cache/key_lock.h"
#include "runtime/base/fs.h"
#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"

namespace dgrt {

// What find() saw.
struct Found {
  std::optional<Entry> entry;
  std::vector<Status> problems;  // one per file or directory that could not be used: log each once
  uint32_t num_quarantined = 0;  // files moved aside by this call
};

// One file of the cache as `dgrt cache ls|verify` shows it. The fields after `status` are the
// entry's, without its code, and only set if the status is OK.
struct CacheFile {
  std::string path;  // relative to the cache directory
  uint64_t file_bytes = 0;
  Status status;  // why it is not a good entry
  Key key;
  CompilerId compiler;
  std::string metadata;
  uint64_t cubin_bytes = 0;
};

// What trim() is to leave.
struct TrimLimits {
  uint64_t max_bytes = std::numeric_limits<uint64_t>::max();  // of all entries
  int64_t max_idle_s = std::numeric_limits<int64_t>::max();   // unused for longer: goes in any case
  int64_t min_idle_s = 0;  // used more recently: stays, even beyond max_bytes
};

// What trim() or keep_below() did.
struct Trimmed {
  bool is_skipped = false;  // someone else was at it: nothing below is set
  uint64_t kept = 0, kept_bytes = 0;
  uint64_t evicted = 0, evicted_bytes = 0;
  uint64_t removed_temps = 0, removed_locks = 0, removed_quarantined = 0;
};

// Thread safe; holds nothing but the open directory.
class DiskCache {
 public:
  static constexpr size_t max_quarantined = 64;                        // files
  static constexpr uint64_t max_quarantined_bytes = 64 * 1024 * 1024;  // in all
  // keep_below() does not evict what was published or read since then: another process that is
  // starting wants it.
  static constexpr int64_t recent_s = 600;
  static constexpr size_t max_entry_bytes = 256 * 1024 * 1024;  // larger files are not entries

  // Creates `dir` and its missing parents (mode 0700). IO_ERROR: not a directory, not owned by the
  // effective user, writable by group or others, or not accessible. `fs` must outlive the cache.
  static Result<std::unique_ptr<DiskCache>> open(const std::string& dir,
                                                 FileSystem& fs = real_fs());

  // A directory that is only read: bad files stay where they are, and nothing is created. It may
  // also belong to root (a system-wide installation). IO_ERROR as above, or if it does not exist.
  static Result<std::unique_ptr<DiskCache>> open_read_only(const std::string& dir,
                                                           FileSystem& fs = real_fs());

  // `exact` given: only that compiler's entry. Null: any compiler's, newest first.
  // A hit renews the file's time, except in a cache opened read-only.
  Found find(const Key& key, const CompilerId* exact);

  // The calls below up to keep_below() write: not for a cache opened read-only, which answers
  // INVALID_ARGUMENT.

  // Stores an entry atomically and durably. An error leaves no partial entry behind; an entry with
  // the same key and compiler is replaced (its content is equivalent). INVALID_ARGUMENT: empty
  // cubin.
  Status publish(const Entry& entry);

  // Waits as long as another process or thread holds the key's lock. Between a miss and getting the
  // lock someone else may have published: call find() again before compiling. An error means that
  // the file system has no working locks or no room for them: compile without.
  Result<KeyLock> lock(const Key& key);
  // Like lock(), but nullopt instead of waiting.
  Result<std::optional<KeyLock>> try_lock(const Key& key);

  // Moves an entry aside that proved bad after it was read. OK if it is gone already.
  Status quarantine(const Key& key, const CompilerId& compiler);

  // Evicts entries, least recently used first, until the limits hold, and tidies up: files of dead
  // writers, lock files that nobody holds, what is too much in quarantine. Readers that have opened
  // an entry keep it; entries whose lock is held are left alone.
  Result<Trimmed> trim(const TrimLimits& limits);
  // Tidies up like trim() without evicting, if nobody did for a day. Best effort.
  void daily_upkeep();
  // To be called after publish(): if the entries have more than `max_bytes`, evicts down to nine
  // tenths of it, but nothing recent. Looks at the directory at the first call and then each time
  // that what this cache has published could have made a difference.
  Result<Trimmed> keep_below(uint64_t max_bytes);

  // Every file among the entries, good or not, ordered by path; changes nothing. Entries that are
  // being written are left out.
  Result<std::vector<CacheFile>> list();

  const std::string& dir() const { return root_.path; }

 private:
  struct Dir {
    File file;
    std::string path;  // for messages
  };
  struct Loaded;
  enum class Access { read_write, read_only };
  DiskCache(FileSystem& fs, Dir root, Access access)
      : fs_(fs), root_(std::move(root)), access_(access) {}

  Status check_owner(const FileInfo& info, FileInfo::Kind kind) const;
  Status check_writable() const;

  Status check_dir(const Dir& dir) const;
  int sync_dir(const Dir& dir);
  Status open_subdir(const Dir& parent, const std::string& name, bool create, Dir* child);
  Status open_shard(const Key& key, bool create, Dir* shard);
  Loaded load(const Dir& shard, const std::string& name);
  bool examine(const Dir& shard, const std::string& name, const CompilerId* exact, Found* found);
  Status move_aside(const Dir& shard, const std::string& name, const FileInfo& judged,
                    bool* was_moved);
  Status write_temp(const Dir& shard, const std::vector<std::byte>& bytes, std::string* temp);
  Status open_lock_file(const Dir& locks, const std::string& name, File* file, FileInfo* info);
  Result<std::optional<KeyLock>> acquire(const std::string& name, bool wait);
  Status list_shard(const Dir& entries, const std::string& name, std::vector<CacheFile>* files);
  std::string unique_name(std::string_view prefix);

  // In disk_upkeep.cpp.
  struct Used;
  Result<std::vector<Used>> scan(Trimmed* trimmed);
  void scan_shard(const Dir& entries, const std::string& name, std::vector<Used>* files,
                  Trimmed* trimmed);
  void evict(std::vector<Used> files, const TrimLimits& limits, Trimmed* trimmed);
  bool evict_one(const Dir& entries, const Used& file, bool* is_gone);
  void tidy(Trimmed* trimmed);
  void remove_idle_locks(Trimmed* trimmed);
  uint64_t trim_quarantine(const Dir& quarantine);

  FileSystem& fs_;
  const Dir root_;
  const Access access_;
  std::atomic<uint32_t> sequence_{0};         // of unique_name()
  std::atomic<uint64_t> published_bytes_{0};  // by this object
  std::atomic<uint64_t> next_scan_{0};  // value of published_bytes_ at which keep_below() looks
};

// $XDG_CACHE_HOME/dgrt, else $HOME/.cache/dgrt. None if neither variable holds an absolute path, or
// in a set-uid process. Never a shared directory such as /tmp by itself.
std::optional<std::string> default_cache_dir();

}  // namespace dgrt
