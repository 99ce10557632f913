// FaultFs: a file system on which a chosen call goes wrong, to show what every single failure
// leaves behind. Syncs are counted and may fail but are not carried out: these tests are about
// errors, not about power cuts, and have to be quick.
#pragma once
#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/fs.h"

namespace dgrt::test {

// One thread.
class FaultFs final : public FileSystem {
 public:
  explicit FaultFs(FileSystem& base = real_fs()) : base_(base) {}

  // Called before each call with its name and its number, from 1; not 0: the call fails with it.
  std::function<int(std::string_view call, int number)> before;
  // From the write of this number (from 1) on, writes store half of their bytes; each write after
  // that one then fails with `write_error`, if set, as on a disk that fills up.
  int short_write = 0;
  int write_error = 0;
  // This many writes store nothing and give no reason.
  int stalled_writes = 0;

  int calls() const { return calls_; }
  void restart() { calls_ = writes_ = 0; }

  int open_root(const std::string& path, File* dir) override {
    const int error = fault("open_root");
    return error != 0 ? error : base_.open_root(path, dir);
  }
  int make_root(const std::string& path) override {
    const int error = fault("make_root");
    return error != 0 ? error : base_.make_root(path);
  }
  int open_dir(const File& dir, const std::string& name, File* child) override {
    const int error = fault("open_dir");
    return error != 0 ? error : base_.open_dir(dir, name, child);
  }
  int make_dir(const File& dir, const std::string& name) override {
    const int error = fault("make_dir");
    return error != 0 ? error : base_.make_dir(dir, name);
  }
  int open_read(const File& dir, const std::string& name, File* file) override {
    const int error = fault("open_read");
    return error != 0 ? error : base_.open_read(dir, name, file);
  }
  int create(const File& dir, const std::string& name, File* file) override {
    const int error = fault("create");
    return error != 0 ? error : base_.create(dir, name, file);
  }
  int open_lock_file(const File& dir, const std::string& name, File* file) override {
    const int error = fault("open_lock_file");
    return error != 0 ? error : base_.open_lock_file(dir, name, file);
  }
  int read(const File& file, std::span<std::byte> bytes, size_t* done) override {
    const int error = fault("read");
    return error != 0 ? error : base_.read(file, bytes, done);
  }
  int write(const File& file, std::span<const std::byte> bytes, size_t* done) override {
    if (const int error = fault("write")) return error;
    ++writes_;
    if (stalled_writes > 0) {
      --stalled_writes;
      *done = 0;
      return 0;
    }
    if (short_write == 0 || writes_ < short_write) return base_.write(file, bytes, done);
    if (writes_ > short_write && write_error != 0) return write_error;
    return base_.write(file, bytes.first(std::max<size_t>(1, bytes.size() / 2)), done);
  }
  int sync(const File&) override { return fault("sync"); }
  int touch(const File& file) override {
    const int error = fault("touch");
    return error != 0 ? error : base_.touch(file);
  }
  int stat(const File& file_or_dir, FileInfo* info) override {
    const int error = fault("stat");
    return error != 0 ? error : base_.stat(file_or_dir, info);
  }
  int stat_at(const File& dir, const std::string& name, FileInfo* info) override {
    const int error = fault("stat_at");
    return error != 0 ? error : base_.stat_at(dir, name, info);
  }
  int list(const File& dir, std::vector<std::string>* names) override {
    const int error = fault("list");
    return error != 0 ? error : base_.list(dir, names);
  }
  int rename(const File& from_dir, const std::string& from, const File& to_dir,
             const std::string& to) override {
    const int error = fault("rename");
    return error != 0 ? error : base_.rename(from_dir, from, to_dir, to);
  }
  int unlink(const File& dir, const std::string& name) override {
    const int error = fault("unlink");
    return error != 0 ? error : base_.unlink(dir, name);
  }
  int lock(const File& file, bool wait) override {
    const int error = fault("lock");
    return error != 0 ? error : base_.lock(file, wait);
  }
  int unlock(const File& file) override {
    const int error = fault("unlock");
    return error != 0 ? error : base_.unlock(file);
  }

 private:
  int fault(std::string_view call) {
    ++calls_;
    return before ? before(call, calls_) : 0;
  }

  FileSystem& base_;
  int calls_ = 0;
  int writes_ = 0;
};

}  // namespace dgrt::test
