#include "tests/support/fake_worker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "runtime/compile/compile_server.h"

namespace dgrt::test {
namespace {

std::string open_descriptors() {
  std::vector<int> numbers;
  for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd"))
    numbers.push_back(std::stoi(file.path().filename().string()));
  std::sort(numbers.begin(), numbers.end());
  std::string text;
  for (const int fd : numbers) text += std::to_string(fd) + " ";
  return text;
}

// Like a worker whose memory was overwritten.
void send_junk(uint32_t word0, uint32_t word1) {
  const uint32_t words[2] = {word0, word1};
  (void)!::write(0, words, sizeof(words));
}

CompileReply play(const CompileRequest& request, const std::string& dir) {
  const std::string& entry = request.instance.entry;
  CompileReply reply;
  std::ofstream(dir + "/pid") << ::getpid() << std::endl;
  if (entry == "crash") {
    ::signal(SIGSEGV, SIG_DFL);  // also where a sanitizer handles it
    ::raise(SIGSEGV);
  }
  if (entry == "crash_once" && !std::filesystem::exists(dir + "/crashed")) {
    std::ofstream(dir + "/crashed") << "x";
    ::_exit(3);
  }
  if (entry == "hang") {
    std::ofstream(dir + "/hangs") << "x" << std::endl;
    for (;;) ::pause();
  }
  if (entry == "garbage") send_junk(0xdeadbeef, 8);
  if (entry == "huge") send_junk(0x31574744, 0x7fffffff);
  if (entry == "fail") reply.status = error(DGRT_COMPILE_FAILED, "the compiler says no");
  if (entry == "other_build") {
    reply.is_other_build = true;
    reply.status = error(DGRT_INTERNAL, "of another build");
  }
  reply.compiled = fake_compiled(request.key);
  if (entry == "descriptors") reply.compiled.log = open_descriptors();
  if (entry == "fat") reply.peak_rss_bytes = uint64_t{1} << 40;
  return reply;
}

}  // namespace

Compiled fake_compiled(const Key& key) {
  Compiled compiled;
  compiled.cubin.assign(key.bytes.begin(), key.bytes.end());
  compiled.log = "made by a fake";
  compiled.num_registers = 7;
  compiled.total_ms = 0.5;
  return compiled;
}

CompilerId fake_worker_compiler() {
  CompilerId id;
  id.major = 99;
  id.minor = 1;
  id.build_id[3] = 5;
  return id;
}

int run_fake_worker(const std::vector<std::string>& arguments) {
  const std::string mode = arguments.size() > 2 ? arguments[2] : "";
  if (mode == "mute") return 4;
  const rlimit no_core{0, 0};
  (void)::setrlimit(RLIMIT_CORE, &no_core);
  if (!die_with_parent(std::stoi(arguments[0])).is_ok()) return 5;
  Hello hello{fake_worker_compiler()};
  if (mode == "other-compiler") hello.compiler.minor = 2;
  const Status status = serve_compiles(
      0, hello, [&](const CompileRequest& request) { return play(request, arguments[1]); });
  return status.is_ok() ? 0 : 6;
}

}  // namespace dgrt::test
