// What executes a PTX module: clusters of CTAs of warps. Registers are 64 bits wide, 32 lanes each, and hold the
// bits of their value with zeros above; predicates are 0 or 1.
//
// Addresses. Global: a host pointer within an allocation. Shared, 32 bits: an offset in the CTA's own
// memory, or, made by mapa, (rank + 1) << 24 | offset. Generic, 64 bits: a global one, or shared_window | shared.
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

namespace dgrt::emulator {

// Something that a GPU would refuse or never end: the launch fails, and its stream's context with it.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr uint64_t shared_window = 0x7f00'0000'0000'0000;

struct Cta;
struct Cluster;
struct TensorState;

struct Warp {
  Cta* cta = nullptr;
  uint32_t index = 0;  // in the CTA
  std::vector<std::array<uint64_t, 32>> regs;
  std::array<uint32_t, 32> pc{};
  uint32_t live = 0;  // lanes that have not returned
};

struct NamedBarrier {
  uint32_t expected = 0, arrived = 0;  // threads
  uint64_t phase = 0;
};

struct Cta {
  Cluster* cluster = nullptr;
  uint32_t rank = 0;  // in the cluster
  std::array<uint32_t, 3> id{};
  std::vector<std::byte> shared;  // poisoned at the start
  std::vector<Warp> warps;
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

struct Cluster {
  std::vector<std::unique_ptr<Cta>> ctas;
  std::array<uint32_t, 3> grid{}, block{}, shape{};  // CTAs; threads; CTAs
  std::array<uint32_t, 3> id{};
  AsyncWork async{0};
  const std::byte* params = nullptr;
};

// ---- Memory ----

// Host memory of at least one byte that kernels may touch; null if there is none. Poisoned.
std::byte* allocate(size_t bytes);
bool release(std::byte* memory);  // false: none such
// Throws Fault unless the bytes lie in one allocation (or in a module's constants).
void check_global(uint64_t address, size_t bytes);
// Of a 32-bit shared address; throws Fault outside the CTA's memory.
std::byte* shared_at(Cta& cta, uint32_t address, size_t bytes);
// Of a generic address.
std::byte* generic_at(Cta& cta, uint64_t address, size_t bytes);

// ---- Handlers ----

// Of instructions for tensor cores, copy engines and their barriers: wgmma, mma, ldmatrix, stmatrix, cp,
// mbarrier, fence, prefetch.tensormap, st.async, red.async. Null: not one of these.
Handler tensor_handler(const Instr& instr);
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

// ---- Launch ----

struct Launch {
  std::array<uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1}, cluster{1, 1, 1};
  uint32_t dynamic_shared_bytes = 0;  // they follow the static ones
  std::vector<std::byte> params;
  uint64_t seed = 0;  // of the moments at which asynchronous work is done, and of the order of warps
};

// Returns when every thread has. Clusters run on all cores; one that only polls makes room for others. Throws
// Fault: also if nothing can go on any more, saying where every warp stands.
void run(const Kernel& kernel, const Launch& launch);

}  // namespace dgrt::emulator
