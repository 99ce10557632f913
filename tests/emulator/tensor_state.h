// What copy engines and tensor cores remember of a CTA between instructions, and what their handlers share.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/emulator/emulated_machine.h"
#include "tests/emulator/mbarrier.h"

namespace dgrt::emulator {

// One cp.async of a warp: a copy per lane. Done once, when chance or a wait has it.
struct CopyBatch {
  struct Copy {
    const std::byte* from;
    std::byte* to;
    uint32_t read, written;  // bytes; zeros fill what was not read
  };
  Cta* cta = nullptr;
  uint32_t first_thread = 0;  // of the warp
  std::array<Copy, 32> copies;
  std::array<uint32_t, 32> group;  // of each lane's groups, which
  uint32_t lanes = 0;
  bool done = false;

  void run();
};

struct WarpCopies {
  std::array<uint32_t, 32> committed{};  // groups of each lane
  std::vector<std::shared_ptr<CopyBatch>> pending;
};

// A bulk copy out of shared memory.
struct BulkStore {
  uint32_t group = 0;
  bool read = false, written = false;
  bool waited = false;              // until it had been read
  uint32_t offset = 0, bytes = 0;  // what it reads
};

struct ThreadStores {
  uint32_t committed = 0;  // groups
  std::vector<std::shared_ptr<BulkStore>> pending;
};

// One wgmma of a warpgroup.
struct Product {
  const Instr* instr = nullptr;
  uint64_t a = 0, b = 0;  // descriptors; a: 0 if it lies in registers
  bool accumulate = false;
  uint32_t warps = 0;  // that have come to it
};

// Products are executed once all four warps have issued them: at the earliest when a group of theirs is
// committed, at the latest when it is waited for.
struct Warpgroup {
  static constexpr uint32_t num_warps = 4;
  std::deque<Product> queue;
  uint64_t executed = 0;                        // products, before the queue's first
  std::array<uint64_t, num_warps> issued{};     // products
  std::array<std::deque<Product>, num_warps> reading;  // of those that the warp has not waited for
  std::array<std::deque<uint64_t>, num_warps> groups;  // not waited for: what was issued when each was committed
};

struct TensorState {
  std::unordered_map<uint32_t, bool> barriers;       // offsets of mbarriers: whether a fence made them known
  std::set<std::pair<uint32_t, uint64_t>> acquired;  // threads, and tensor maps that they fenced for
  std::vector<WarpCopies> copies;         // by warp
  std::vector<ThreadStores> stores;       // by thread
  std::vector<Warpgroup> warpgroups;
};
TensorState& tensor_state(Cta& cta);

// Of a shared::cta or shared::cluster address: whose memory, and where in it.
struct SharedPlace {
  Cta* cta;
  uint32_t offset;
};
SharedPlace shared_place(Cta& cta, uint32_t address);

// Throw Fault where no mbarrier was initialised.
Mbarrier load_barrier(SharedPlace place);
// As it was initialised; later: which may end its phase.
void init_barrier(SharedPlace place, const Mbarrier& barrier);
void store_barrier(SharedPlace place, const Mbarrier& barrier);
inline uint64_t key_of(SharedPlace place) {
  return RaceCheck::key_of(place.cta->rank, RaceCheck::mbarrier, place.offset);
}

// Adds work that an engine does later; its faults name the instruction's line.
void add_late(Cta& cta, const Instr& instr, std::function<void()> work);
// For work on shared memory: throws Fault if all of the CTA's threads have returned.
void require_running(const Cta& cta);

// Throws Fault if an ordinary write to these bytes may not be seen by the engine that `reader` tells to read.
void require_fenced(const Cta& cta, uint32_t offset, uint32_t bytes, uint32_t reader);

inline void require_whole_warp(uint32_t lanes) {
  if (lanes != ~0u) throw Fault("an instruction that takes a whole warp runs in a part of one");
}

template <class Do>
void for_each_lane(uint32_t lanes, Do work) {
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (lanes >> lane & 1) work(lane);
}

inline Step do_nothing(Warp&, const Instr&, uint32_t) { return Step::next; }

// Handlers by opcode, "mbarrier.init.shared::cta.b64". Null: not of this part.
Handler barrier_handler(std::string_view opcode);
Handler copy_handler(std::string_view opcode);
Handler bulk_copy_handler(std::string_view opcode);
Handler warp_matrix_handler(std::string_view opcode);
Handler wgmma_handler(std::string_view opcode, const Instr& instr);

}  // namespace dgrt::emulator
