#include "runtime/base/helper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

namespace dgrt {
namespace {

// What the child gets instead of what this process has.
class SpawnSetup {
 public:
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  int fill(int socket) {
    if (const int code = ::posix_spawn_file_actions_adddup2(&actions_, socket, 0)) return code;
    for (const int fd : {1, 2})
      if (const int code =
              ::posix_spawn_file_actions_addopen(&actions_, fd, "/dev/null", O_WRONLY, 0))
        return code;
    // What a host process forgot to mark close-on-exec, its GPU's device files for instance.
    if (const int code = ::posix_spawn_file_actions_addclosefrom_np(&actions_, 3)) return code;
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    return ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// Both ends above the numbers that the child gives them, also where this process has closed its
// own 0, 1 and 2.
int make_sockets(File* ours, File* theirs) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return errno;
  const File low[2] = {File(ends[0]), File(ends[1])};
  *ours = File(::fcntl(ends[0], F_DUPFD_CLOEXEC, 3));
  *theirs = File(::fcntl(ends[1], F_DUPFD_CLOEXEC, 3));
  return ours->is_open() && theirs->is_open() ? 0 : errno;
}

// 0 when the socket can be used for `events`, else ETIMEDOUT or what poll(2) says.
int wait_for(int fd, short events, HelperProcess::Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - HelperProcess::Clock::now());
    if (left.count() <= 0) return ETIMEDOUT;
    pollfd poll_fd = {fd, events, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left.count(), 60000)));
    if (ready > 0) return 0;
    if (ready < 0 && errno != EINTR) return errno;
  }
}

std::string describe(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return fmt::format("exit code {}", info.si_status);
  const char* name = ::sigdescr_np(info.si_status);
  return fmt::format("signal {} ({})", info.si_status, name ? name : "unknown");
}

}  // namespace

Result<HelperProcess> HelperProcess::start(const std::string& program,
                                           const std::vector<std::string>& arguments) {
  const auto failed = [&](int code) {
    return error(DGRT_IO_ERROR, "{}: not started: {}", program, errno_text(code));
  };
  File ours, theirs;
  if (const int code = make_sockets(&ours, &theirs)) return failed(code);
  SpawnSetup setup;
  if (const int code = setup.fill(theirs.fd())) return failed(code);
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  if (const int code = ::posix_spawn(&pid, program.c_str(), setup.actions(), setup.attributes(),
                                     argv.data(), environ))
    return failed(code);
  return HelperProcess(pid, std::move(ours));
}

int HelperProcess::write(std::span<const std::byte> bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    const ssize_t done =
        ::send(socket_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(done));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (const int code = wait_for(socket_.fd(), POLLOUT, deadline)) return code;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int HelperProcess::read(std::span<std::byte> bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    if (const int code = wait_for(socket_.fd(), POLLIN, deadline)) return code;
    const ssize_t done = ::recv(socket_.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (done > 0)
      bytes = bytes.subspan(static_cast<size_t>(done));
    else if (done == 0)
      return EPIPE;
    else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)
      return errno;
  }
  return 0;
}

std::string HelperProcess::end() {
  if (pid_ < 0) return "ended";
  const pid_t pid = std::exchange(pid_, -1);
  socket_.close();
  siginfo_t info{};
  // A host that reaps every child, or ignores SIGCHLD, may have freed the number for another
  // process: only what is still our child is killed.
  if (::waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return "ended";
  if (info.si_pid == 0) ::kill(pid, SIGKILL);
  info = {};
  while (::waitid(P_PID, pid, &info, WEXITED) != 0)
    if (errno != EINTR) return "ended";
  return describe(info);
}

void HelperProcess::wait_briefly() {
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(500);
  siginfo_t info{};
  while (pid_ >= 0 && Clock::now() < deadline &&
         ::waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

}  // namespace dgrt
