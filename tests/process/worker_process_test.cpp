// Compile workers that do what workers should, and all that they should not: crash, hang, talk
// nonsense, be of another build, outlive their parent. The workers are played by this program.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/engine/worker_pool.h"
#include "tests/support/catch.h"
#include "tests/support/fake_worker.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

Key key_of(uint8_t n) {
  Key key;
  key.bytes[0] = n;
  return key;
}

Instance instance_of(const std::string& entry) {
  Instance instance;
  instance.entry = entry;
  return instance;
}

struct Pool {
  explicit Pool(uint32_t max_workers = 2, const std::string& mode = "")
      : log(
            DGRT_LOG_WARN,
            [](dgrt_log_level, const char* text, void* user) {
              static_cast<std::vector<std::string>*>(user)->push_back(text);
            },
            &warnings) {
    options.program = "/proc/self/exe";
    options.arguments = {test::fake_worker_word, std::to_string(::getpid()), dir.path()};
    if (!mode.empty()) options.arguments.push_back(mode);
    options.compiler = test::fake_worker_compiler();
    options.max_workers = max_workers;
    options.timeout = 20s;
  }
  WorkerPool& get() {
    if (!pool) pool = std::make_unique<WorkerPool>(options, log);
    return *pool;
  }
  Result<std::optional<Compiled>> compile(const std::string& entry) {
    return get().compile(key_of(1), instance_of(entry));
  }
  void check_works() {
    const auto made = compile("good");
    REQUIRE(made.is_ok());
    REQUIRE(made.value().has_value());
    CHECK(made.value()->cubin == test::fake_compiled(key_of(1)).cubin);
  }
  void check_fails(const std::string& entry, const std::string& word) {
    const auto made = compile(entry);
    REQUIRE_FALSE(made.is_ok());
    INFO(made.status().message());
    CHECK(made.status().code() == DGRT_COMPILE_FAILED);
    CHECK(made.status().message().find(word) != std::string::npos);
  }

  test::TempDir dir;
  std::vector<std::string> warnings;
  Log log;
  WorkerPool::Options options;
  std::unique_ptr<WorkerPool> pool;
};

// A pid that `file` names once it is there.
pid_t pid_in(const std::string& file) {
  for (int i = 0; i < 1000; ++i) {
    pid_t pid = 0;
    std::ifstream(file) >> pid;
    if (pid > 0) return pid;
    std::this_thread::sleep_for(10ms);
  }
  return -1;
}

bool is_gone_soon(pid_t pid) {
  for (int i = 0; i < 500; ++i) {
    if (::kill(pid, 0) != 0) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST_CASE("workers compile what many threads ask for, and end with their pool", "[process]") {
  Pool pool(3);
  std::vector<std::thread> threads;
  std::atomic<int> num_good{0};
  WorkerPool& shared = pool.get();
  for (uint8_t t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      for (uint8_t i = 0; i < 20; ++i) {
        const Key key = key_of(static_cast<uint8_t>(20 * t + i));
        const auto made = shared.compile(key, instance_of("good"));
        num_good += made.is_ok() && made.value() &&
                    made.value()->cubin == test::fake_compiled(key).cubin &&
                    made.value()->num_registers == 7 && made.value()->total_ms == 0.5;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(num_good == 120);
  CHECK(pool.warnings.empty());
  const pid_t pid = pid_in(pool.dir.path() + "/pid");
  CHECK(::kill(pid, 0) == 0);
  pool.pool.reset();
  CHECK(::kill(pid, 0) != 0);
}

TEST_CASE("a worker that dies costs one retry, then one named failure", "[process]") {
  Pool pool;
  const auto made = pool.compile("crash_once");
  REQUIRE(made.is_ok());
  CHECK(made.value().has_value());
  REQUIRE(pool.warnings.size() == 1);
  CHECK(pool.warnings[0].find("crash_once (exit code 3") != std::string::npos);
  pool.check_fails("crash", "two compile workers died of it: signal 11 (Segmentation fault)");
  pool.check_fails("garbage", "magic=deadbeef");
  pool.check_fails("huge", "size=2147483647");
  pool.check_works();
}

TEST_CASE("a compiler's refusal is handed on, and the worker lives on", "[process]") {
  Pool pool(1);
  pool.check_works();
  const pid_t pid = pid_in(pool.dir.path() + "/pid");
  pool.check_fails("fail", "the compiler says no");
  pool.check_works();
  CHECK(pid_in(pool.dir.path() + "/pid") == pid);
  CHECK(pool.warnings.empty());
}

TEST_CASE("a compile that never ends is killed after its time-out", "[process]") {
  Pool pool;
  pool.options.timeout = 700ms;
  pool.check_works();
  const auto begin = std::chrono::steady_clock::now();
  pool.check_fails("hang", "no result after 0.7 s");
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
  CHECK(is_gone_soon(pid_in(pool.dir.path() + "/pid")));
}

TEST_CASE("programs that are no worker of this library are not used", "[process]") {
  const auto check_refused = [](Pool& pool, const std::string& entry, const std::string& word) {
    const auto made = pool.compile(entry);
    REQUIRE(made.is_ok());
    CHECK_FALSE(made.value().has_value());
    CHECK_FALSE(pool.compile("good").value().has_value());
    REQUIRE(pool.warnings.size() == 1);
    INFO(pool.warnings[0]);
    CHECK(pool.warnings[0].find(word) != std::string::npos);
  };
  Pool mute(2, "mute"), other(2, "other-compiler"), other_build, absent, no_worker;
  check_refused(mute, "good", "does not serve");
  check_refused(other, "good", "nvrtc-99.2");
  check_refused(other_build, "other_build", "another build");
  absent.options.program = absent.dir.path() + "/none";
  check_refused(absent, "good", "not started");
  no_worker.options.program = "/bin/true";
  check_refused(no_worker, "good", "does not serve");
}

TEST_CASE("a worker inherits no descriptor", "[process]") {
  const int leak = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as a host may have some
  REQUIRE(leak > 2);
  Pool pool;
  const auto made = pool.compile("descriptors");
  ::close(leak);
  REQUIRE(made.is_ok());
  CHECK(made.value()->log == "0 1 2 3 ");  // 3: the directory that was listed
}

TEST_CASE("workers that need more memory than thought become fewer", "[process]") {
  Pool pool(8);
  pool.options.memory_bytes = 4 * WorkerPool::first_need_bytes;
  CHECK(pool.get().limit() == 4);
  REQUIRE(pool.compile("fat").is_ok());
  CHECK(pool.get().limit() == 1);
  pool.check_works();
}

TEST_CASE("a worker dies with its parent, in the middle of a compile", "[process]") {
  test::TempDir dir;
  const pid_t parent = ::fork();
  REQUIRE(parent >= 0);
  if (parent == 0) {
    Pool pool;
    pool.options.arguments[1] = std::to_string(::getpid());
    pool.options.arguments[2] = dir.path();
    (void)pool.compile("hang").is_ok();
    ::_exit(0);
  }
  const pid_t worker = pid_in(dir.path() + "/pid");
  CHECK(worker > 0);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  CHECK(is_gone_soon(worker));
}

}  // namespace
}  // namespace dgrt
