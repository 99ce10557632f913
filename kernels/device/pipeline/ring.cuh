// The full/empty barrier ring between producers and their consumers, so that no kernel counts
// phases by hand. Slot s is filled when full[s] completes and free again when empty[s] does.
#pragma once
#include "device/ptx/mbarrier.cuh"

namespace dgrt {

// One role's position in the ring; every role keeps its own. The barriers lie in shared memory as
// full[num_slots], empty[num_slots].
template <uint32_t num_slots>
struct Ring {
  uint32_t barriers;
  uint32_t slot = 0, phase = 0;

  __device__ explicit Ring(uint32_t barriers) : barriers(barriers) {}

  // One thread, before anyone waits. `num_producers` arrivals fill a slot, `num_consumers` free it.
  __device__ void init(uint32_t num_consumers, uint32_t num_producers = 1) const {
    for (uint32_t i = 0; i < num_slots; ++i) {
      ptx::mbarrier_init(barriers + i * 8, num_producers);
      ptx::mbarrier_init(barriers + (num_slots + i) * 8, num_consumers);
    }
  }
  __device__ uint32_t full() const { return barriers + slot * 8; }
  __device__ uint32_t empty() const { return barriers + (num_slots + slot) * 8; }
  __device__ void wait_full() const {
    while (!ptx::mbarrier_try_wait(full(), phase)) {
    }
  }
  __device__ bool is_full() const { return ptx::mbarrier_test_wait(full(), phase); }
  __device__ bool is_empty() const { return ptx::mbarrier_test_wait(empty(), phase ^ 1); }
  // The first pass over the ring finds every slot free.
  __device__ void wait_empty() const {
    while (!ptx::mbarrier_try_wait(empty(), phase ^ 1)) {
    }
  }
  __device__ void advance() {
    if (num_slots == 1 || ++slot == num_slots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

}  // namespace dgrt
