#include "runtime/engine/recorder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "runtime/engine/desc_json.h"

namespace dgrt {
namespace {

// Held while one line is written, so waiting longer means that somebody was stopped in between.
// Then a line may come twice, which readers do not mind.
class ShortLock {
 public:
  explicit ShortLock(int fd) : fd_(fd) {
    for (int i = 0; i < 200 && !is_held_; ++i) {
      is_held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
      if (!is_held_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  ~ShortLock() {
    if (is_held_) ::flock(fd_, LOCK_UN);
  }
  ShortLock(const ShortLock&) = delete;
  ShortLock& operator=(const ShortLock&) = delete;

 private:
  const int fd_;
  bool is_held_ = false;
};

}  // namespace

Recorder::Recorder(const std::string& path, Log& log) : path_(path), log_(log) {
  if (path.empty()) return;
  file_ = File(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file_.is_open()) fail(errno_text(errno));
}

void Recorder::fail(const std::string& why) {
  log_.warn("DGRT_RECORD={}: plans are not recorded: {}", path_, why);
  file_.close();
}

void Recorder::add(const dgrt_desc* desc) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (!file_.is_open()) return;
  const Result<std::string> line = desc_to_json(desc);
  if (!line.is_ok()) {
    log_.warn("DGRT_RECORD={}: a plan is not recorded: {}", path_, line.status().message());
    return;
  }
  if (seen_.count(line.value()) != 0) return;
  if (const int code = append(line.value())) fail(errno_text(code));
}

// Other processes' lines since the last look.
int Recorder::read_new_lines(uint64_t* end) {
  struct stat info {};
  if (::fstat(file_.fd(), &info) != 0) return errno;
  *end = static_cast<uint64_t>(info.st_size);
  if (*end <= read_bytes_) return 0;
  std::string text(*end - read_bytes_, '\0');
  const ssize_t done =
      ::pread(file_.fd(), text.data(), text.size(), static_cast<off_t>(read_bytes_));
  if (done < 0) return errno;
  text.resize(static_cast<size_t>(done));
  size_t begin = 0;
  for (size_t stop; (stop = text.find('\n', begin)) != std::string::npos; begin = stop + 1)
    seen_.insert(text.substr(begin, stop - begin));
  read_bytes_ += begin;
  return 0;
}

// A whole line or nothing: one write, taken back if it was cut short.
int Recorder::append(const std::string& line) {
  const ShortLock lock(file_.fd());
  uint64_t end = 0;
  if (const int code = read_new_lines(&end)) return code;
  if (seen_.count(line) != 0) return 0;
  // A line without its end was left by a writer that the power cut stopped.
  const std::string text = (end > read_bytes_ ? "\n" : "") + line + "\n";
  const ssize_t done = ::write(file_.fd(), text.data(), text.size());
  if (done == static_cast<ssize_t>(text.size())) {
    seen_.insert(line);
    return 0;
  }
  const int code = done < 0 ? errno : ENOSPC;
  if (done > 0) (void)!::ftruncate(file_.fd(), static_cast<off_t>(end));
  return code;
}

}  // namespace dgrt
