// One execution per key at a time, one answer for everyone who waits. Also run under the thread
// sanitizer.
#include "cache/single_flight.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

using test::sample_key;
using namespace std::chrono_literals;

TEST_CASE("a lone caller runs, and nothing is remembered", "[unit]") {
  SingleFlight<int> flights;
  int num_runs = 0;
  bool shared = true;
  for (int i = 0; i < 3; ++i) {
    const Result<int> result = flights.run(
        sample_key(1), [&]() -> Result<int> { return ++num_runs; }, &shared);
    REQUIRE(result.is_ok());
    CHECK(result.value() == i + 1);
    CHECK_FALSE(shared);
  }
  const auto fail = [&]() -> Result<int> { return Status(DGRT_COMPILE_FAILED, "no"); };
  CHECK(flights.run(sample_key(1), fail).status().message() == "no");
  CHECK(flights.run(sample_key(1), [&]() -> Result<int> { return 7; }).value() == 7);
}

// Runs `fn` with waiters until at least one of them shared its flight; checks their results.
template <class Fn, class Check>
void share(SingleFlight<int>& flights, Fn fn, Check check) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::atomic<int> num_shared{0}, num_wrong{0}, num_calling{0};
    const auto call = [&] {
      bool shared = false;
      ++num_calling;
      const Result<int> result = flights.run(
          sample_key(1),
          [&]() -> Result<int> {
            while (num_calling < 4) std::this_thread::yield();
            std::this_thread::sleep_for(5ms);  // for the others to begin to wait
            return fn();
          },
          &shared);
      num_shared += shared;
      num_wrong += !check(result, shared);
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(call);
    for (std::thread& thread : threads) thread.join();
    CHECK(num_wrong == 0);
    if (num_shared > 0) return;
  }
  FAIL("no call was ever shared");
}

TEST_CASE("waiters receive the value of the call that they waited for", "[unit]") {
  SingleFlight<int> flights;
  std::atomic<int> value{0};
  share(
      flights, [&]() -> Result<int> { return 100 + value++; },
      [](const Result<int>& result, bool) { return result.is_ok() && result.value() >= 100; });
  CHECK(value < 4);
}

TEST_CASE("waiters receive the failure of the call that they waited for", "[unit]") {
  SingleFlight<int> flights;
  share(
      flights, []() -> Result<int> { return Status(DGRT_COMPILE_FAILED, "bad kernel"); },
      [](const Result<int>& result, bool) {
        return result.status().code() == DGRT_COMPILE_FAILED &&
               result.status().message() == "bad kernel";
      });
  CHECK(flights.run(sample_key(1), []() -> Result<int> { return 1; }).is_ok());
}

TEST_CASE("an exception reaches its own caller and does not strand waiters", "[unit]") {
  SingleFlight<int> flights;
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::atomic<int> num_thrown{0}, num_internal{0}, num_calling{0};
    const auto call = [&] {
      ++num_calling;
      try {
        const Result<int> result = flights.run(sample_key(1), [&]() -> Result<int> {
          while (num_calling < 2) std::this_thread::yield();
          std::this_thread::sleep_for(5ms);
          throw std::runtime_error("out of luck");
        });
        num_internal += result.status().code() == DGRT_INTERNAL;
      } catch (const std::runtime_error&) {
        ++num_thrown;
      }
    };
    std::thread first(call), second(call);
    first.join();
    second.join();
    REQUIRE(num_thrown + num_internal == 2);
    if (num_internal == 1) return;
  }
  FAIL("no call was ever shared");
}

TEST_CASE("a key never runs twice at once, and keys do not wait for each other", "[unit]") {
  SingleFlight<std::shared_ptr<std::string>> flights;
  constexpr int num_threads = 8, num_rounds = 300, num_keys = 3;
  std::atomic<int> running[num_keys] = {}, num_overlaps{0}, num_wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < num_threads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < num_rounds; ++i) {
        const int k = (t + i) % num_keys;
        const auto result = flights.run(sample_key(static_cast<uint8_t>(k)),
                                        [&]() -> Result<std::shared_ptr<std::string>> {
                                          num_overlaps += running[k]++ != 0;
                                          std::this_thread::yield();
                                          --running[k];
                                          return std::make_shared<std::string>(std::to_string(k));
                                        });
        num_wrong += !result.is_ok() || *result.value() != std::to_string(k);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(num_overlaps == 0);
  CHECK(num_wrong == 0);

  // A call of one key inside another's would hang if keys waited for each other.
  SingleFlight<int> nested;
  CHECK(nested
            .run(sample_key(1),
                 [&]() -> Result<int> {
                   return nested.run(sample_key(2), []() -> Result<int> { return 5; });
                 })
            .value() == 5);
}

}  // namespace
}  // namespace dgrt
