#include "runtime/base/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dgrt {
namespace {

// Calls until the answer is not EINTR; 0 or errno.
template <class Call>
int retry(Call call) {
  while (call() < 0)
    if (errno != EINTR) return errno;
  return 0;
}

int open_at(int dir, const std::string& name, int flags, File* file) {
  int fd = -1;
  // O_NONBLOCK: opening a planted FIFO must not hang. Regular files and directories ignore it.
  const auto call = [&] {
    return fd = openat(dir, name.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0600);
  };
  const int error = retry(call);
  if (error == 0) *file = File(fd);
  return error;
}

FileInfo to_info(const struct stat& s) {
  FileInfo info;
  if (S_ISREG(s.st_mode)) info.kind = FileInfo::Kind::regular;
  if (S_ISDIR(s.st_mode)) info.kind = FileInfo::Kind::directory;
  if (S_ISLNK(s.st_mode)) info.kind = FileInfo::Kind::symlink;
  info.mode = s.st_mode & 07777;
  info.owner = s.st_uid;
  info.size = static_cast<uint64_t>(s.st_size);
  info.mtime_s = s.st_mtim.tv_sec;
  info.device = s.st_dev;
  info.inode = s.st_ino;
  return info;
}

class RealFs final : public FileSystem {
 public:
  int open_root(const std::string& path, File* dir) override {
    return open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, dir);
  }
  int make_root(const std::string& path) override {
    return retry([&] { return ::mkdir(path.c_str(), 0700); });
  }
  int open_dir(const File& dir, const std::string& name, File* child) override {
    return open_at(dir.fd(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, child);
  }
  int make_dir(const File& dir, const std::string& name) override {
    return retry([&] { return ::mkdirat(dir.fd(), name.c_str(), 0700); });
  }
  int open_read(const File& dir, const std::string& name, File* file) override {
    return open_at(dir.fd(), name, O_RDONLY | O_NOFOLLOW, file);
  }
  int create(const File& dir, const std::string& name, File* file) override {
    return open_at(dir.fd(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, file);
  }
  int open_lock_file(const File& dir, const std::string& name, File* file) override {
    return open_at(dir.fd(), name, O_RDWR | O_CREAT | O_NOFOLLOW, file);
  }

  int read(const File& file, std::span<std::byte> bytes, size_t* done) override {
    ssize_t count = 0;
    const int error = retry([&] { return count = ::read(file.fd(), bytes.data(), bytes.size()); });
    *done = error == 0 ? static_cast<size_t>(count) : 0;
    return error;
  }
  int write(const File& file, std::span<const std::byte> bytes, size_t* done) override {
    ssize_t count = 0;
    const int error = retry([&] { return count = ::write(file.fd(), bytes.data(), bytes.size()); });
    *done = error == 0 ? static_cast<size_t>(count) : 0;
    return error;
  }
  int sync(const File& file_or_dir) override {
    return retry([&] { return ::fsync(file_or_dir.fd()); });
  }
  int touch(const File& file) override {
    return retry([&] { return ::futimens(file.fd(), nullptr); });
  }

  int stat(const File& file_or_dir, FileInfo* info) override {
    struct stat s;
    const int error = retry([&] { return ::fstat(file_or_dir.fd(), &s); });
    if (error == 0) *info = to_info(s);
    return error;
  }
  int stat_at(const File& dir, const std::string& name, FileInfo* info) override {
    struct stat s;
    const int error =
        retry([&] { return ::fstatat(dir.fd(), name.c_str(), &s, AT_SYMLINK_NOFOLLOW); });
    if (error == 0) *info = to_info(s);
    return error;
  }

  int list(const File& dir, std::vector<std::string>* names) override {
    names->clear();
    // A stream of its own: it takes over its descriptor and moves the shared read position.
    File copy;
    if (const int error = open_at(dir.fd(), ".", O_RDONLY | O_DIRECTORY, &copy)) return error;
    DIR* stream = ::fdopendir(copy.fd());
    if (stream == nullptr) return errno;
    copy.release();
    int error = 0;
    for (;;) {
      errno = 0;
      const dirent* item = ::readdir(stream);
      if (item == nullptr) {
        error = errno;
        break;
      }
      const std::string name = item->d_name;
      if (name != "." && name != "..") names->push_back(name);
    }
    ::closedir(stream);
    return error;
  }

  int rename(const File& from_dir, const std::string& from, const File& to_dir,
             const std::string& to) override {
    return retry([&] { return ::renameat(from_dir.fd(), from.c_str(), to_dir.fd(), to.c_str()); });
  }
  int unlink(const File& dir, const std::string& name) override {
    return retry([&] { return ::unlinkat(dir.fd(), name.c_str(), 0); });
  }
  int lock(const File& file, bool wait) override {
    return retry([&] { return ::flock(file.fd(), wait ? LOCK_EX : LOCK_EX | LOCK_NB); });
  }
  int unlock(const File& file) override {
    return retry([&] { return ::flock(file.fd(), LOCK_UN); });
  }
};

}  // namespace

void File::close() noexcept {
  // The result is of no use: written data was synced before, and Linux frees the descriptor anyway.
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

FileSystem& real_fs() {
  static RealFs fs;
  return fs;
}

int read_all(FileSystem& fs, const File& file, size_t max_bytes, std::vector<std::byte>* bytes) {
  FileInfo info;
  if (const int error = fs.stat(file, &info)) return error;
  if (info.size > max_bytes) return EFBIG;
  bytes->resize(info.size);
  size_t total = 0;
  while (total < bytes->size()) {
    size_t done = 0;
    if (const int error = fs.read(file, std::span(*bytes).subspan(total), &done)) return error;
    if (done == 0) break;
    total += done;
  }
  bytes->resize(total);
  return 0;
}

int write_all(FileSystem& fs, const File& file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    size_t done = 0;
    if (const int error = fs.write(file, bytes, &done)) return error;
    if (done == 0) return EIO;  // no progress and no reason: do not try for ever
    bytes = bytes.subspan(done);
  }
  return 0;
}

std::string errno_text(int error) {
  const char* description = ::strerrordesc_np(error);  // glibc 2.32; never localised
  const char* name = ::strerrorname_np(error);
  if (description == nullptr || name == nullptr) return "errno " + std::to_string(error);
  return std::string(description) + " (" + name + ")";
}

}  // namespace dgrt
