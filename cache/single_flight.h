// SingleFlight: threads of one process that want the same key at the same time share one execution.
// It remembers nothing: what is to be kept goes into a table of the caller's, and what failed may
// be tried again by the next caller.
#pragma once
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"

namespace dgrt {

// T is copied to every waiter: use a shared_ptr for anything large. Thread safe.
template <class T>
class SingleFlight {
 public:
  // Runs fn() -> Result<T>, or, while another thread runs it for this key, waits and returns that
  // thread's result, success or failure. `*shared` says which. A call that begins after another one
  // ended runs fn again, so fn should look into the caller's table first. fn must not run() its own
  // key.
  template <class Fn>
  Result<T> run(const Key& key, Fn&& fn, bool* shared = nullptr) {
    std::unique_lock<std::mutex> guard(mutex_);
    const auto it = flights_.find(key);
    if (shared != nullptr) *shared = it != flights_.end();
    if (it != flights_.end()) {
      const std::shared_ptr<Flight> flight = it->second;  // outlives its place in the map
      flight->done.wait(guard, [&] { return flight->result.has_value(); });
      return *flight->result;
    }
    const std::shared_ptr<Flight> flight = std::make_shared<Flight>();
    flights_.emplace(key, flight);
    guard.unlock();
    // However fn ends, even by an exception of a library, the waiters must get an answer.
    Landing landing{this, key, flight.get(),
                    Status(DGRT_INTERNAL, "an exception ended the call that was waited for")};
    landing.result = std::forward<Fn>(fn)();
    return landing.result;
  }

 private:
  struct Flight {
    std::condition_variable done;
    std::optional<Result<T>> result;  // guarded by mutex_
  };
  struct Landing {
    SingleFlight* self;
    const Key& key;
    Flight* flight;
    Result<T> result;
    ~Landing() {
      const std::lock_guard<std::mutex> guard(self->mutex_);
      flight->result = result;
      self->flights_.erase(key);
      flight->done.notify_all();
    }
  };

  std::mutex mutex_;
  std::map<Key, std::shared_ptr<Flight>> flights_;  // guarded by mutex_
};

}  // namespace dgrt
