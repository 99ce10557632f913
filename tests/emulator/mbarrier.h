// The 64 bits of an mbarrier object, in a form of the emulator's own.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-mbarrier
#pragma once
#include <cstdint>
#include <string>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {

// A phase completes when no arrival is pending and no byte is outstanding; the next one then begins.
class Mbarrier {
 public:
  static constexpr uint32_t most_arrivals = (1 << 20) - 1;
  static constexpr int64_t most_bytes = (1 << 20) - 1;

  static Mbarrier of_count(uint32_t arrivals) {
    if (arrivals < 1 || arrivals > most_arrivals) throw Fault("an mbarrier's count must be 1 to 2^20 - 1");
    Mbarrier barrier;
    barrier.expected_ = barrier.pending_ = arrivals;
    return barrier;
  }
  explicit Mbarrier(uint64_t word)
      : pending_(word & most_arrivals),
        expected_(word >> 20 & most_arrivals),
        bytes_(static_cast<int64_t>(word >> 40 & 0x3fffff) - (1 << 21)),
        phase_(word >> 62 & 1) {}
  uint64_t word() const {
    return pending_ | uint64_t{expected_} << 20 | static_cast<uint64_t>(bytes_ + (1 << 21)) << 40 |
           uint64_t{phase_} << 62;
  }

  void expect(int64_t bytes) {
    bytes_ += bytes;
    if (bytes_ > most_bytes || bytes_ < -most_bytes) throw Fault("an mbarrier counts at most 2^20 - 1 bytes");
  }
  void arrive() {
    if (pending_ == 0) throw Fault("more arrivals at an mbarrier than its phase expects");
    --pending_;
    end_phase();
  }
  void complete(int64_t bytes) {
    expect(-bytes);
    end_phase();
  }
  std::string text() const {
    return "phase " + std::to_string(phase_) + ", " + std::to_string(pending_) + " of " + std::to_string(expected_) +
           " arrivals and " + std::to_string(bytes_) + " bytes are missing";
  }
  // Whether the phase of this parity is over: the one before the current is, the current one is not.
  bool passed(uint32_t parity) const { return phase_ != (parity & 1); }

 private:
  Mbarrier() = default;
  void end_phase() {
    if (pending_ != 0 || bytes_ != 0) return;
    pending_ = expected_;
    phase_ ^= 1;
  }

  uint32_t pending_ = 0, expected_ = 0;
  int64_t bytes_ = 0;
  uint32_t phase_ = 0;
};

}  // namespace dgrt::emulator
