// KeyLock: the right to compile one key, among all processes that share a cache directory.
#pragma once
#include <utility>

#include "runtime/base/fs.h"

namespace dgrt {

// Holds a flock until destroyed. The kernel drops it if the process dies; a forked child that does
// not exec keeps it alive.
class KeyLock {
 public:
  // Requires: `file` is locked. `fs` outlives the lock.
  KeyLock(FileSystem& fs, File file) : fs_(&fs), file_(std::move(file)) {}
  ~KeyLock() { unlock(); }
  KeyLock(KeyLock&&) noexcept = default;
  KeyLock& operator=(KeyLock&& other) noexcept {
    if (this != &other) {
      unlock();
      fs_ = other.fs_;
      file_ = std::move(other.file_);
    }
    return *this;
  }

  const File& file() const { return file_; }

 private:
  void unlock() noexcept {
    // Not by closing alone: a forked child may have inherited the descriptor. An error can only
    // mean that the lock is gone already.
    if (file_.is_open()) (void)fs_->unlock(file_);
  }

  FileSystem* fs_;
  File file_;  // open and locked, unless moved from
};

}  // namespace dgrt
