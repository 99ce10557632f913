// Which shared memory was last written by ordinary instructions, and whether a proxy fence followed: the
// copy engines and tensor cores, which read through the async proxy, may else see what was there before.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#proxies
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace dgrt::emulator {

// Of one CTA, 16 bytes at a time, of which the last writer counts, and others that wrote the same after it.
class SharedWrites {
 public:
  SharedWrites() = default;
  SharedWrites(size_t bytes, uint32_t threads) : writes_((bytes + 15) / 16), fenced_(threads) {}

  void add(uint32_t thread, size_t offset, size_t bytes, bool changes) {
    for (size_t i = offset / 16; i * 16 < offset + bytes; ++i) {
      if (changes) writes_[i] = {};
      for (Write& write : writes_[i])
        if (write.time == 0 || write.thread == thread) {
          write = {thread, now_};
          break;
        }
    }
  }
  // What an engine wrote, or another CTA.
  void forget(size_t offset, size_t bytes) {
    for (size_t i = offset / 16; i * 16 < offset + bytes; ++i) writes_[i] = {};
  }
  // fence.proxy.async
  void fence(uint32_t thread) { fenced_[thread] = ++now_; }
  // The thread that wrote there and executed no fence since, unless `reader` did.
  std::optional<uint32_t> unfenced(size_t offset, uint32_t reader) const {
    const auto& writes = writes_[offset / 16];
    for (const Write& write : writes)
      if (write.time != 0 && (fenced_[write.thread] > write.time || fenced_[reader] > write.time)) return std::nullopt;
    return writes[0].time == 0 ? std::nullopt : std::optional(writes[0].thread);
  }

 private:
  struct Write {
    uint32_t thread = 0, time = 0;  // time 0: none
  };
  std::vector<std::array<Write, 4>> writes_;
  std::vector<uint32_t> fenced_;  // when each thread did last
  uint32_t now_ = 1;              // counts fences
};

}  // namespace dgrt::emulator
