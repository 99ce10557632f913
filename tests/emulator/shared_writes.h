// Which shared memory was last written by ordinary instructions, and whether a proxy fence followed: the
// copy engines and tensor cores, which read through the async proxy, may else see what was there before.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#proxies
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace dgrt::emulator {

// Of one CTA, 16 bytes at a time, of which the last writer counts.
class SharedWrites {
 public:
  SharedWrites() = default;
  SharedWrites(size_t bytes, uint32_t threads) : writes_((bytes + 15) / 16), fenced_(threads) {}

  void add(uint32_t thread, size_t offset, size_t bytes) {
    for (size_t i = offset / 16; i * 16 < offset + bytes; ++i) writes_[i] = {thread, now_};
  }
  // What an engine wrote, or another CTA.
  void forget(size_t offset, size_t bytes) {
    for (size_t i = offset / 16; i * 16 < offset + bytes; ++i) writes_[i] = {};
  }
  // fence.proxy.async
  void fence(uint32_t thread) { fenced_[thread] = ++now_; }
  // The thread that wrote there and executed no fence since, unless `reader` did.
  std::optional<uint32_t> unfenced(size_t offset, uint32_t reader) const {
    const Write& write = writes_[offset / 16];
    if (write.time == 0 || fenced_[write.thread] > write.time || fenced_[reader] > write.time) return std::nullopt;
    return write.thread;
  }

 private:
  struct Write {
    uint32_t thread = 0, time = 0;  // time 0: none
  };
  std::vector<Write> writes_;
  std::vector<uint32_t> fenced_;  // when each thread did last
  uint32_t now_ = 1;              // counts fences
};

}  // namespace dgrt::emulator
