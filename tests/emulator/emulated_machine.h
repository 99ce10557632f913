// What executes a PTX module: clusters of CTAs of warps. Registers are 64 bits wide, 32 lanes each, and hold the
// bits of their value with zeros above; predicates are 0 or 1.
//
// Addresses. Global: a host pointer within an allocation. Shared, 32 bits: an offset in the CTA's own
// memory, or, made by mapa, (rank + 1) << 24 | offset. Generic, 64 bits: a global one, or shared_window | shared.
// Parameters: an offset; the generic address of one is a host pointer.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/emulator/ptx.h"
#include "tests/emulator/races.h"
#include "tests/emulator/shared_writes.h"

namespace dgrt::emulator {

// Something that a GPU would refuse or never end: the launch fails, and its stream's context with it.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr uint64_t shared_window = 0x7f00'0000'0000'0000;
constexpr uint32_t max_shared_bytes = 232448;
constexpr uint32_t num_sms = 132;

struct Cta;
struct Cluster;
struct TensorState;

// Lanes that stand at the same instruction.
struct Group {
  uint32_t pc = 0, lanes = 0;
  bool rests = false;  // until the warp's next turn: it polls, or waits for lanes of other groups
};

struct Warp {
  enum class Waits : uint8_t { no, barrier, cluster };  // of all its lanes

  Cta* cta = nullptr;
  uint32_t index = 0;  // in the CTA
  std::vector<Lanes> regs;
  std::vector<Group> groups;  // by pc
  uint32_t live = 0;          // lanes that have not returned
  Waits waits = Waits::no;
  uint32_t barrier = 0;         // the one it waits at
  uint64_t phase = 0;           // of that barrier when it arrived
  uint64_t cluster_phase = 0;   // of the cluster's barrier when it arrived there
  bool cluster_arrived = false; // and has not waited since
  uint32_t registers = 0;       // of a thread, on a GPU
};

struct NamedBarrier {
  uint32_t expected = 0;  // threads; 0: nobody has come, all_warps: all that live
  uint32_t arrived = 0;
  uint64_t phase = 0;
  static constexpr uint32_t all_warps = ~0u;
};

struct Cta {
  Cluster* cluster = nullptr;
  uint32_t rank = 0;  // in the cluster
  std::array<uint32_t, 3> id{};
  std::vector<std::byte> shared;  // poisoned at the start
  SharedWrites writes;
  std::vector<Warp> warps;
  uint32_t live_warps = 0;
  uint32_t free_registers = 0;  // of all that it began with
  std::array<NamedBarrier, 16> barriers{};
  std::shared_ptr<TensorState> tensor;  // of tensor_handler's instructions, made by the first of them
};

// What copy engines have been told and not yet done. Each piece of work runs at a moment that nobody can
// foresee, but in the end it does: a kernel that does not wait sees old bytes.
class AsyncWork {
 public:
  explicit AsyncWork(uint64_t seed) : random_(seed) {}
  void add(std::function<void()> work) { pending_.push_back(std::move(work)); }
  bool empty() const { return pending_.empty(); }
  void run_one();  // any of them
  uint64_t random() { return random_(); }
 private:
  std::mt19937_64 random_;
  std::vector<std::function<void()>> pending_;
};

struct Launch {
  std::array<uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1}, cluster{1, 1, 1};
  uint32_t dynamic_shared_bytes = 0;  // they follow the static ones
  std::vector<std::byte> params;
  uint64_t seed = 0;  // of the moments at which asynchronous work is done, and of the order of warps
};

struct Cluster {
  const Kernel* kernel = nullptr;
  const Launch* launch = nullptr;
  std::vector<std::unique_ptr<Cta>> ctas;
  std::array<uint32_t, 3> grid{}, block{}, shape{};  // CTAs; threads; CTAs
  std::array<uint32_t, 3> id{};
  uint32_t slot = 0;  // its place among the resident ones
  AsyncWork async{0};
  const std::byte* params = nullptr;
  RaceCheck races;
  uint64_t events = 0;  // counts what may end somebody's waiting
  uint32_t live_warps = 0, arrived_warps = 0;  // at the cluster's barrier
  uint64_t phase = 0;                          // of that barrier
};

// ---- Memory ----

// Host memory of at least one byte that kernels may touch; null if there is none. Poisoned.
std::byte* allocate(size_t bytes);
bool release(std::byte* memory);  // false: none such
// Whether the bytes lie in one allocation.
bool is_global(uint64_t address, size_t bytes);
// Throws Fault unless they do.
void check_global(uint64_t address, size_t bytes);
// Of a 32-bit shared address; throws Fault outside the CTA's memory, and where the CTA has ended.
std::byte* shared_at(Cta& cta, uint32_t address, size_t bytes);
inline bool in_shared_window(uint64_t address) {
  return address >= shared_window && address - shared_window < (uint64_t{1} << 32);
}
// Of a generic address.
std::byte* generic_at(Cta& cta, uint64_t address, size_t bytes);

// ---- Handlers ----

// Of instructions for tensor cores, copy engines and their barriers: wgmma, mma, ldmatrix, stmatrix, cp,
// mbarrier, fence, prefetch.tensormap, st.async, red.async, tensormap. Null: not one of these.
Handler tensor_handler(const Instr& instr);
// bar and barrier, but not bar.warp.
Handler named_barrier_handler(const Instr& instr);
// setmaxnreg
Handler register_pool_handler(const Instr& instr);
// Of all others. Null: unknown.
Handler scalar_handler(const Instr& instr);

inline uint64_t lane_value(const Warp& warp, const Operand& operand, uint32_t lane) {
  return operand.kind == Operand::Kind::imm ? static_cast<uint64_t>(operand.value)
                                            : warp.regs[operand.reg][lane];
}

// Base register and offset.
inline uint64_t lane_address(const Warp& warp, const Operand& operand, uint32_t lane) {
  const uint64_t base = operand.reg == no_reg ? 0 : warp.regs[operand.reg][lane];
  return base + static_cast<uint64_t>(operand.value);
}

// Throws a Fault that names the lane's thread and block. What else a handler throws as Fault gets them of the
// first of its lanes. The instruction is added to both.
[[noreturn]] void fail_lane(const Warp& warp, uint32_t lane, const std::string& message);

// ---- Launch ----

// Returns when every thread has. Throws Fault: also if nothing can go on any more, saying where every warp stands.
void run(const Kernel& kernel, const Launch& launch);

// ---- Of the scheduler ----

// Runs instructions of one warp, at most `quantum`. True: it used them all and could go on.
bool run_warp(Warp& warp, uint32_t quantum, bool others_first);
// What its end means for barriers. Its lanes have all returned.
void end_warp(Warp& warp);
// Whether it waits at no barrier, or at one that all have reached by now.
bool can_run(Warp& warp);
// "at bar.sync 0 (line 12)" and the like, of each group.
std::string describe(const Warp& warp);
// Of a warp that waits at setmaxnreg: what it wants, and what there is. Empty elsewhere.
std::string describe_registers(const Warp& warp, const Instr& instr);
// Throws Fault if not all warps of each warpgroup have taken part in setmaxnreg. They have all ended.
void check_registers(const Cta& cta);
// What each mbarrier of the CTA waits for.
std::string describe_barriers(Cta& cta);

}  // namespace dgrt::emulator
