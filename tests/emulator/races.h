// Races in shared memory: two accesses of one place, at least one of them a write, by warps (or by a copy engine)
// that no barrier orders. Found whether or not the order of this run made them matter.
//
// Vector clocks: every warp counts its releases, and knows of each other one up to which of them it has waited.
// What is published at a barrier is what its threads knew when they came. A warp counts as one thread; an engine's
// load counts as an access by its mbarrier, whose clock is the number of its phases. Stores of what is there already
// race with nobody, and who comes after one of several that stored the same may read it.
#pragma once
#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

namespace dgrt::emulator {

struct Cta;
struct Cluster;
struct Warp;

class RaceCheck {
 public:
  using Clock = std::vector<uint32_t>;  // by warp of the cluster, then by mbarrier
  // What threads bring to a barrier, and what they take from its last complete phase.
  struct Meeting {
    Clock coming, done;
  };

  void start(const Cluster& cluster);

  // Of barriers, by any number that tells them apart.
  void arrive(const Warp& warp, uint64_t barrier);
  void complete(uint64_t barrier);
  void pass(const Warp& warp, uint64_t barrier);
  // Loads, stores and atomics by which threads tell each other something.
  // Global addresses, or flag_in_shared.
  void publish(const Warp& warp, uint64_t address);
  void observe(const Warp& warp, uint64_t address);

  // Of lanes. Words of which an access has only a part are checked, but not remembered: another may have the rest.
  // The address is a shared one: of the warp's own CTA or another's. Throw Fault.
  void read(const Warp& warp, uint32_t address, uint32_t bytes);
  void write(const Warp& warp, uint32_t address, uint32_t bytes);
  // Of what is there already.
  void write_same(const Warp& warp, uint32_t address, uint32_t bytes);
  // Of engines, told by the warp: wgmma and copies out of shared memory, which read until the warp has waited.
  void begin_engine_read(const Warp& warp, uint32_t offset, uint32_t bytes);
  void end_engine_read(const Warp& warp, uint32_t offset, uint32_t bytes);
  // Loads, which end with the mbarrier's phase.
  void engine_write(const Warp& warp, const Cta& to, uint32_t offset, uint32_t bytes, uint64_t barrier);

  static uint64_t flag_in_shared(const Warp& warp, uint32_t address);
  static uint64_t key_of(uint32_t rank, uint32_t kind, uint32_t number) {
    return uint64_t{kind} << 56 | uint64_t{rank} << 32 | number;
  }
  enum : uint32_t { named = 1, of_cluster = 2, mbarrier = 3, address_of = 4 };

 private:
  static constexpr uint32_t word = 4, piece = 16, never_ends = ~0u;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  template <class T>
  using Zeros = std::unique_ptr<T[], Free>;  // pages that nobody touches cost nothing
  struct Write {
    uint32_t by, clock;  // clock 0: nobody
  };
  struct Shadow {
    uint32_t bytes = 0;
    Zeros<Write> writes;                  // of each word, the last that changed it
    std::array<Zeros<Write>, 3> same;     // others that have stored the same since
    std::vector<Zeros<uint32_t>> reads;   // by warp: of each word, its clock then
    std::vector<Zeros<uint32_t>> engine;  // by warp: of each 16 bytes that an engine reads for it
  };
  struct Place {
    Shadow& shadow;
    uint32_t first, last;  // bytes
    uint32_t first_whole_word() const { return (first + word - 1) / word; }
    uint32_t end_of_whole_words() const { return (last + 1) / word; }
  };

  uint32_t index_of(const Warp& warp) const;
  uint32_t index_of_barrier(uint64_t barrier);
  Place place_of(const Warp& warp, uint32_t address, uint32_t bytes);
  bool knows(const Clock& clock, uint32_t by, uint32_t time) const {
    return time == 0 || (by < clock.size() && clock[by] >= time && time != never_ends);
  }
  bool is_known(const Warp& warp, const Shadow& shadow, uint32_t index) const;
  void check_written(const Warp& warp, const Place& place, uint32_t step, const char* what) const;
  static void set(Shadow& shadow, uint32_t index, const Write& write);
  void check_unread(const Warp& warp, const Place& place, bool by_engine) const;
  [[noreturn]] void fail(const Warp& warp, const char* what, uint32_t offset, uint32_t other, const char* did) const;
  static void join(Clock& into, const Clock& from);

  uint32_t warps_per_cta_ = 0, num_warps_ = 0;
  std::vector<Clock> clocks_;  // of warps
  std::vector<Shadow> shadows_;
  std::map<uint64_t, Meeting> meetings_;
  std::map<uint64_t, uint32_t> barrier_indices_;
  std::vector<uint32_t> phases_;  // of mbarriers
};

}  // namespace dgrt::emulator
