// HelperProcess: a helper program that this process starts, talks to over one stream socket, and is
// sure to get rid of. The child's descriptor 0 is the socket; 1 and 2 are /dev/null; it inherits no
// other descriptor, no blocked signal and no ignored one. Never forks: a process with a CUDA context
// must not be copied.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/fs.h"
#include "runtime/base/status.h"

namespace dgrt {

// One thread at a time.
class HelperProcess {
 public:
  using Clock = std::chrono::steady_clock;

  // `program` is a path; PATH is not searched. IO_ERROR: it could not be started.
  static Result<HelperProcess> start(const std::string& program,
                                     const std::vector<std::string>& arguments);
  ~HelperProcess() { (void)end(); }
  HelperProcess(HelperProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), socket_(std::move(other.socket_)) {}
  HelperProcess& operator=(HelperProcess&&) = delete;

  pid_t pid() const { return pid_; }  // -1 after end()

  // All of the bytes, or an errno value: ETIMEDOUT, EPIPE when the child has gone. Never raises
  // SIGPIPE.
  int write(std::span<const std::byte> bytes, Clock::time_point deadline);
  int read(std::span<std::byte> bytes, Clock::time_point deadline);

  // Kills the child, if it still lives, and takes its exit status from the system. Says how it
  // ended: "exit code 3", "signal 11 (Segmentation fault)".
  std::string end();
  // Gives a child that has closed its socket a moment to end by itself, so that end() can say why.
  void wait_briefly();

 private:
  HelperProcess(pid_t pid, File socket) : pid_(pid), socket_(std::move(socket)) {}

  pid_t pid_;
  File socket_;
};

}  // namespace dgrt
