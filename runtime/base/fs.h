// The few file system calls that dgrt needs, behind an interface, so that tests can fail any of
// them. Everything is relative to an open directory and nothing follows a symbolic link, except
// open_root: a path that was checked once cannot be swapped for another one afterwards.
//
// Calls return 0 or an errno value, because callers decide by it: EEXIST, ENOENT and EWOULDBLOCK
// are everyday answers. Calls are retried on EINTR. Thread safe.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dgrt {

// Owner of one open descriptor of a file or directory.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  ~File() { close(); }
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close() noexcept;
  void release() { fd_ = -1; }  // someone else closes the descriptor

 private:
  int fd_ = -1;
};

struct FileInfo {
  enum class Kind { regular, directory, symlink, other };
  Kind kind = Kind::other;
  uint32_t mode = 0;  // permission bits
  uid_t owner = 0;
  uint64_t size = 0;               // bytes
  int64_t mtime_s = 0;             // seconds since the epoch
  uint64_t device = 0, inode = 0;  // together: which file this is

  bool is_same_file(const FileInfo& other) const {
    return device == other.device && inode == other.inode;
  }
};

// `name` is one path component below `dir`.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // A directory named by the user, of any depth; symbolic links are followed.
  virtual int open_root(const std::string& path, File* dir) = 0;
  virtual int make_root(const std::string& path) = 0;  // mode 0700; the parent must exist

  virtual int open_dir(const File& dir, const std::string& name, File* child) = 0;
  virtual int make_dir(const File& dir, const std::string& name) = 0;  // mode 0700
  virtual int open_read(const File& dir, const std::string& name, File* file) = 0;
  virtual int create(const File& dir, const std::string& name, File* file) = 0;  // O_EXCL, 0600
  virtual int open_lock_file(const File& dir, const std::string& name,
                             File* file) = 0;  // O_CREAT, 0600

  // One read(2) or write(2): `*done` may be less than asked for; 0 bytes read is the end of the
  // file.
  virtual int read(const File& file, std::span<std::byte> bytes, size_t* done) = 0;
  virtual int write(const File& file, std::span<const std::byte> bytes, size_t* done) = 0;
  virtual int sync(const File& file_or_dir) = 0;  // fsync
  virtual int touch(const File& file) = 0;        // sets the modification time to now
  virtual int stat(const File& file_or_dir, FileInfo* info) = 0;
  virtual int stat_at(const File& dir, const std::string& name, FileInfo* info) = 0;
  virtual int list(const File& dir, std::vector<std::string>* names) = 0;  // without . and ..
  virtual int rename(const File& from_dir, const std::string& from, const File& to_dir,
                     const std::string& to) = 0;
  virtual int unlink(const File& dir, const std::string& name) = 0;
  // flock(LOCK_EX). `wait` false: EWOULDBLOCK if another open file holds the lock.
  virtual int lock(const File& file, bool wait) = 0;
  virtual int unlock(const File& file) = 0;
};

// The operating system's. Lives for ever, has no state.
FileSystem& real_fs();

// Reads a file that was just opened; EFBIG if it is larger than `max_bytes`.
int read_all(FileSystem& fs, const File& file, size_t max_bytes, std::vector<std::byte>* bytes);
// Writes all bytes, continuing after short writes.
int write_all(FileSystem& fs, const File& file, std::span<const std::byte> bytes);

// "No space left on device (ENOSPC)"; thread safe, never localised.
std::string errno_text(int error);

}  // namespace dgrt
