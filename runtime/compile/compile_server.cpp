#include "runtime/compile/compile_server.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "runtime/base/env.h"
#include "runtime/base/fs.h"
#include "runtime/compile/key.h"

namespace dgrt {
namespace {

// 0, or an errno value; EPIPE when the peer has gone.
int read_exact(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::read(fd, bytes.data(), bytes.size());
    if (done > 0)
      bytes = bytes.subspan(static_cast<size_t>(done));
    else if (done == 0)
      return EPIPE;
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

int write_exact(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(fd, bytes.data(), bytes.size());
    if (done >= 0)
      bytes = bytes.subspan(static_cast<size_t>(done));
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

uint64_t peak_rss_bytes() {
  rusage usage{};
  (void)::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

CompileReply answer(const CompileRequest& request, const Nvrtc& nvrtc, const Sources& sources) {
  CompileReply reply;
  const Result<Key> key = kernel_key(request.instance, sources);
  if (!key.is_ok() || key.value() != request.key) {
    reply.status = error(DGRT_INTERNAL, "the worker's templates are of another build");
    reply.is_other_build = true;
    return reply;
  }
  Result<Compiled> compiled = nvrtc.compile(request.instance, sources, true);
  if (compiled.is_ok())
    reply.compiled = std::move(compiled).value();
  else
    reply.status = compiled.status();
  reply.peak_rss_bytes = peak_rss_bytes();
  return reply;
}

// A machine short of memory shall end a compile rather than the engine that asked for it.
void prefer_as_memory_victim() {
  const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!::write(fd, "500", 3);
  ::close(fd);
}

}  // namespace

Status serve_compiles(int fd, const Hello& hello,
                      const std::function<CompileReply(const CompileRequest&)>& compile) {
  int code = write_exact(fd, encode(hello));
  std::vector<std::byte> header(frame_header_bytes), payload;
  while (code == 0) {
    if ((code = read_exact(fd, header)) != 0) break;
    DGRT_ASSIGN(const size_t bytes, decode_header(header));
    payload.resize(bytes);
    if ((code = read_exact(fd, payload)) != 0) break;
    DGRT_ASSIGN(const CompileRequest request, decode_request(payload));
    code = write_exact(fd, encode(compile(request)));
  }
  return code == EPIPE || code == ECONNRESET
             ? ok()
             : error(DGRT_IO_ERROR, "worker's socket: {}", errno_text(code));
}

// At once by a signal, and, should that be lost, when the socket has no other end any more.
Status die_with_parent(int parent_pid) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
    return error(DGRT_INTERNAL, "prctl(PR_SET_PDEATHSIG): {}", errno_text(errno));
  if (::getppid() != parent_pid)  // it was faster
    return error(DGRT_INTERNAL, "parent={}: is gone", parent_pid);
  std::thread([] {
    pollfd socket = {STDIN_FILENO, POLLRDHUP, 0};
    while (::poll(&socket, 1, -1) < 0 && errno == EINTR) {
    }
    ::_exit(0);
  }).detach();
  return ok();
}

Status run_compile_worker(int parent_pid, const std::string& nvrtc_path) {
  DGRT_TRY(die_with_parent(parent_pid));
  prefer_as_memory_victim();
  // A library that is loaded already is what Nvrtc::load() takes.
  if (!::dlopen(nvrtc_path.c_str(), RTLD_NOW | RTLD_LOCAL))
    return error(DGRT_NO_COMPILER, "nvrtc={}: {}", nvrtc_path, ::dlerror());
  DGRT_ASSIGN(const std::shared_ptr<const Nvrtc> nvrtc, Nvrtc::load());
  DGRT_ASSIGN(const Env env, read_env());
  const Sources sources(env.kernels_dir);
  return serve_compiles(STDIN_FILENO, {nvrtc->id()}, [&](const CompileRequest& request) {
    return answer(request, *nvrtc, sources);
  });
}

}  // namespace dgrt
