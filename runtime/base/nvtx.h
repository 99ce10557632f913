// NVTX ranges without the NVTX headers: where a profiler asks for them (Nsight sets
// NVTX_INJECTION64_PATH for the process that it starts), dgrt opens the profiler's library and offers
// it a table to put its functions into, as NVTX itself would. Without a profiler a range is one load
// and one branch.
#pragma once
#include <atomic>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace dgrt {

// Opens the profiler's library at `path`; "" does nothing. One library per process: later calls
// give the first one's outcome. It stays mapped.
Status open_nvtx(const std::string& path);

// A range of this thread, from construction to destruction; scopes nest.
class NvtxRange {
 public:
  explicit NvtxRange(const char* name) {
    if (is_listening()) [[unlikely]]
      push(name);
  }
  // "what name"; put together only if a profiler listens.
  NvtxRange(std::string_view what, std::string_view name) {
    if (is_listening()) [[unlikely]]
      push(fmt::format("{} {}", what, name).c_str());
  }
  ~NvtxRange() {
    if (is_open_) [[unlikely]]
      pop();
  }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;

 private:
  friend Status open_nvtx(const std::string& path);
  static bool is_listening() { return is_listening_.load(std::memory_order_acquire); }
  void push(const char* name);
  static void pop();

  static inline std::atomic<bool> is_listening_ = false;
  bool is_open_ = false;
};

}  // namespace dgrt
