#include "runtime/engine/worker_pool.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <string_view>

namespace dgrt {
namespace {

using Clock = HelperProcess::Clock;

// Opening libnvrtc from a cold disk takes most of it.
constexpr std::chrono::seconds hello_timeout{30};

bool is_program(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

// Of the shared library that this code is in, or of the program.
std::string own_dir() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&find_worker_program), &info) == 0 || !info.dli_fname)
    return "";
  char resolved[PATH_MAX];
  if (!::realpath(info.dli_fname, resolved)) return "";
  const std::string path = resolved;
  return path.substr(0, path.rfind('/'));
}

}  // namespace

std::string find_worker_program(const char* option) {
  if (option) return option;
  if (const std::string dir = own_dir(); !dir.empty())
    for (const char* name : {"/dgrt", "/bin/dgrt", "/../bin/dgrt"})
      if (is_program(dir + name)) return dir + name;
  const char* path = ::secure_getenv("PATH");
  std::string_view rest = path ? path : "";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::string program = std::string(rest.substr(0, end)) + "/dgrt";
    if (program.front() == '/' && program != "/dgrt" && is_program(program)) return program;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

WorkerPool::WorkerPool(Options options, Log& log)
    : options_(std::move(options)), log_(log), starter_([this] { start_workers(); }) {}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  starter_.join();  // nobody is in compile() any more: all workers are idle and end with idle_
}

uint32_t WorkerPool::limit_now() const {
  const uint64_t by_memory = std::max<uint64_t>(1, options_.memory_bytes / need_bytes_);
  return static_cast<uint32_t>(std::min<uint64_t>(options_.max_workers, by_memory));
}

uint32_t WorkerPool::limit() const {
  const std::lock_guard<std::mutex> guard(mutex_);
  return limit_now();
}

// The starter's life.
void WorkerPool::start_workers() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return is_ending_ || num_to_start_ > 0; });
    if (is_ending_) return;
    lock.unlock();
    Result<HelperProcess> process = HelperProcess::start(options_.program, options_.arguments);
    if (!process.is_ok()) give_up(process.status().message());
    lock.lock();
    --num_to_start_;
    if (process.is_ok())
      idle_.push_back(std::make_unique<Worker>(Worker{std::move(process).value()}));
    else
      --num_alive_;
    changed_.notify_all();
  }
}

// Null: workers are of no use here.
std::unique_ptr<WorkerPool::Worker> WorkerPool::acquire() {
  std::unique_lock<std::mutex> lock(mutex_);
  ++num_waiting_;
  for (;;) {
    if (is_given_up_) break;
    if (!idle_.empty()) {
      std::unique_ptr<Worker> worker = std::move(idle_.back());
      idle_.pop_back();
      --num_waiting_;
      return worker;
    }
    if (num_alive_ < limit_now() && num_to_start_ < num_waiting_) {
      ++num_alive_;
      ++num_to_start_;
      changed_.notify_all();
    }
    changed_.wait(lock);
  }
  --num_waiting_;
  return nullptr;
}

void WorkerPool::release(std::unique_ptr<Worker> worker) {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (num_alive_ <= limit_now()) {
      idle_.push_back(std::move(worker));
      changed_.notify_all();
      return;
    }
  }
  discard(std::move(worker));
}

void WorkerPool::discard(std::unique_ptr<Worker> worker) {
  worker.reset();
  const std::lock_guard<std::mutex> guard(mutex_);
  --num_alive_;
  changed_.notify_all();
}

// Says why before anybody acts on it.
void WorkerPool::give_up(const std::string& why) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (is_given_up_) return;
  log_.warn("kernels are compiled in this process, not by workers: {}", why);
  is_given_up_ = true;
  changed_.notify_all();
}

// One payload.
Result<std::vector<std::byte>> WorkerPool::receive(Worker& worker, Clock::time_point deadline,
                                                   Failure* failure) {
  const auto failed = [&](int code) {
    failure->is_timeout = code == ETIMEDOUT;
    return error(DGRT_IO_ERROR, "{}", errno_text(code));
  };
  std::vector<std::byte> header(frame_header_bytes);
  if (const int code = worker.process.read(header, deadline)) return failed(code);
  DGRT_ASSIGN(const size_t bytes, decode_header(header));
  std::vector<std::byte> payload(bytes);
  if (const int code = worker.process.read(payload, deadline)) return failed(code);
  return payload;
}

// Is it a worker, of the right compiler?
std::optional<WorkerPool::Failure> WorkerPool::greet(Worker& worker) {
  if (worker.is_greeted) return std::nullopt;
  Failure failure;
  const auto hello = [&]() -> Result<Hello> {
    DGRT_ASSIGN(const auto payload, receive(worker, Clock::now() + hello_timeout, &failure));
    return decode_hello(payload);
  }();
  if (!hello.is_ok()) {
    failure.why = fmt::format("{} does not serve: {}", options_.program, hello.status().message());
    return failure;
  }
  if (hello.value().compiler != options_.compiler) {
    failure.why = fmt::format("{} has {}, this process {}", options_.program,
                              hello.value().compiler.name(), options_.compiler.name());
    return failure;
  }
  worker.is_greeted = true;
  return std::nullopt;
}

std::optional<WorkerPool::Failure> WorkerPool::ask(Worker& worker, const CompileRequest& request,
                                                   CompileReply* reply) {
  const Clock::time_point deadline = Clock::now() + options_.timeout;
  Failure failure;
  const int code = worker.process.write(encode(request), deadline);
  if (code == 0) {
    auto answer = [&]() -> Result<CompileReply> {
      DGRT_ASSIGN(const auto payload, receive(worker, deadline, &failure));
      return decode_reply(payload);
    }();
    if (answer.is_ok()) {
      *reply = std::move(answer).value();
      return std::nullopt;
    }
    failure.why = answer.status().message();
  }
  failure.is_timeout |= code == ETIMEDOUT;
  if (failure.is_timeout) return failure;
  worker.process.wait_briefly();
  const std::string how = worker.process.end();
  failure.why = failure.why.empty() ? how : how + ", " + failure.why;
  return failure;
}

Result<std::optional<Compiled>> WorkerPool::compile(const Key& key, const Instance& instance) {
  const CompileRequest request = {key, instance};
  std::string first_death;
  for (;;) {
    std::unique_ptr<Worker> worker = acquire();
    if (!worker) return std::optional<Compiled>();
    if (const auto failure = greet(*worker)) {
      give_up(failure->why);
      discard(std::move(worker));
      return std::optional<Compiled>();
    }
    CompileReply reply;
    const std::optional<Failure> failure = ask(*worker, request, &reply);
    if (failure) {
      discard(std::move(worker));
      if (failure->is_timeout)
        return error(DGRT_COMPILE_FAILED, "no result after {:.1f} s; the worker was killed",
                     std::chrono::duration<double>(options_.timeout).count());
      if (!first_death.empty())
        return error(DGRT_COMPILE_FAILED, "two compile workers died of it: {}; {}", first_death,
                     failure->why);
      first_death = failure->why;
      log_.warn("a compile worker died at kernel {} ({}); trying once more", instance.entry,
                first_death);
      continue;
    }
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      need_bytes_ = std::max(need_bytes_, reply.peak_rss_bytes);
    }
    release(std::move(worker));
    if (reply.is_other_build) {
      give_up(fmt::format("{}: {}", options_.program, reply.status.message()));
      return std::optional<Compiled>();
    }
    if (!reply.status.is_ok()) return reply.status;
    return std::optional<Compiled>(std::move(reply.compiled));
  }
}

}  // namespace dgrt
