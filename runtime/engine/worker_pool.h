// WorkerPool: compiles kernels in helper processes (`dgrt worker`), because threads inside one
// NVRTC process hardly scale and because only a process can be stopped: a compile that crashes or
// never ends costs its worker, not the engine.
//
// Workers are started when there is work for them and end with the pool. How many there may be is
// the smaller of processors and free memory over what a worker was seen to need.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/helper_process.h"
#include "runtime/base/log.h"
#include "runtime/compile/compile_message.h"

namespace dgrt {

// The `dgrt` program that serves this library: `option` as it is, or, where it is null, the program
// beside the library, in ../bin from there, or on PATH. "": none, or the option is "".
std::string find_worker_program(const char* option);

// Thread safe.
class WorkerPool {
 public:
  struct Options {
    std::string program;
    std::vector<std::string> arguments;
    CompilerId compiler;                 // who is to compile; a worker with another is not used
    uint32_t max_workers = 1;            // at least 1
    uint64_t memory_bytes = UINT64_MAX;  // for all workers together
    std::chrono::milliseconds timeout{120'000};  // of one compile
  };
  // What a worker needs before one was measured. A process that compiled DeepSeek-V3's kernels with
  // NVRTC 13.0 peaked at 111 MB.
  static constexpr uint64_t first_need_bytes = 192 << 20;

  // `log` outlives the pool. Starts no worker yet.
  WorkerPool(Options options, Log& log);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Waits for a free worker. Nothing: no worker can be used (logged once); the caller compiles
  // itself. COMPILE_FAILED: the compiler said no, the kernel took longer than the time-out, or two
  // workers died of it.
  Result<std::optional<Compiled>> compile(const Key& key, const Instance& instance);

  // Workers that may be alive at once, as far as is known by now.
  uint32_t limit() const;

 private:
  struct Worker {
    HelperProcess process;
    bool is_greeted = false;  // has said hello
  };
  // How a conversation with a worker ended without a reply.
  struct Failure {
    bool is_timeout = false;
    std::string why;
  };

  std::unique_ptr<Worker> acquire();
  void release(std::unique_ptr<Worker> worker);
  void discard(std::unique_ptr<Worker> worker);
  void give_up(const std::string& why);
  uint32_t limit_now() const;  // requires mutex_
  void start_workers();
  std::optional<Failure> greet(Worker& worker);
  std::optional<Failure> ask(Worker& worker, const CompileRequest& request, CompileReply* reply);
  Result<std::vector<std::byte>> receive(Worker& worker, HelperProcess::Clock::time_point deadline,
                                         Failure* failure);

  const Options options_;
  Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Worker>> idle_;  // guarded by mutex_, like all below
  uint32_t num_alive_ = 0;                     // idle, busy and being started
  uint32_t num_to_start_ = 0;                  // asked of the starter
  uint32_t num_waiting_ = 0;                   // threads in acquire()
  uint64_t need_bytes_ = first_need_bytes;     // of one worker
  bool is_given_up_ = false, is_ending_ = false;
  // A worker dies with the thread that started it (PR_SET_PDEATHSIG), so one thread that lives as
  // long as the pool starts them all. Last: it uses the members above.
  std::thread starter_;
};

}  // namespace dgrt
