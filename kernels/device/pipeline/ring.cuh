// The full/empty barrier ring between one producer and its consumers, so that no kernel counts phases by
// hand. Slot s is filled when full[s] completes and free again when empty[s] does.
#pragma once
#include "device/ptx/mbarrier.cuh"

namespace dgrt {

template <uint32_t num_slots>
struct Barriers {
  uint64_t full[num_slots], empty[num_slots];
};

// One role's position in the ring; every role keeps its own.
template <uint32_t num_slots>
struct Ring {
  uint32_t full_base, empty_base;
  uint32_t slot = 0, phase = 0;

  __device__ explicit Ring(const Barriers<num_slots>& barriers)
      : full_base(ptx::shared_address(barriers.full)),
        empty_base(ptx::shared_address(barriers.empty)) {}

  __device__ uint32_t full() const { return full_base + slot * 8; }
  __device__ uint32_t empty() const { return empty_base + slot * 8; }
  __device__ void wait_full() const {
    while (!ptx::mbarrier_try_wait(full(), phase)) {
    }
  }
  // The first pass over the ring finds every slot free.
  __device__ void wait_empty() const {
    while (!ptx::mbarrier_try_wait(empty(), phase ^ 1)) {
    }
  }
  __device__ void advance() {
    if (++slot == num_slots) {
      slot = 0;
      phase ^= 1;
    }
  }
};

// One thread, before anyone waits. `num_consumers` arrivals free a slot.
template <uint32_t num_slots>
__device__ void init_barriers(Barriers<num_slots>& barriers, uint32_t num_consumers) {
  for (uint32_t slot = 0; slot < num_slots; ++slot) {
    ptx::mbarrier_init(ptx::shared_address(&barriers.full[slot]), 1);
    ptx::mbarrier_init(ptx::shared_address(&barriers.empty[slot]), num_consumers);
  }
}

}  // namespace dgrt
