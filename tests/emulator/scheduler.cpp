// Clusters in the order of the grid, a few at a time; their warps in random order, for random numbers of
// instructions, with asynchronous work in between. The same seed gives the same order.
#include <algorithm>
#include <cstring>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {

void AsyncWork::run_one() {
  const size_t index = random_() % pending_.size();
  const std::function<void()> work = std::move(pending_[index]);
  pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(index));  // the order of the others is theirs
  work();
}

namespace {

using Dim = std::array<uint32_t, 3>;

uint64_t volume(const Dim& dim) { return uint64_t{dim[0]} * dim[1] * dim[2]; }

Dim at_index(uint64_t index, const Dim& dim) {
  return {static_cast<uint32_t>(index % dim[0]), static_cast<uint32_t>(index / dim[0] % dim[1]),
          static_cast<uint32_t>(index / dim[0] / dim[1])};
}

// Global to kernels, which have generic addresses of them.
class ParamMemory {
 public:
  explicit ParamMemory(const std::vector<std::byte>& params) : bytes_(allocate(std::max<size_t>(params.size(), 1))) {
    if (!bytes_) throw Fault("no memory for the parameters");
    std::memcpy(bytes_, params.data(), params.size());
  }
  ParamMemory(const ParamMemory&) = delete;
  ParamMemory& operator=(const ParamMemory&) = delete;
  ~ParamMemory() { release(bytes_); }
  const std::byte* bytes() const { return bytes_; }

 private:
  std::byte* bytes_;
};

void check(const Kernel& kernel, const Launch& launch) {
  const uint64_t threads = volume(launch.block);
  const uint32_t limit = kernel.max_threads == 0 ? 1024 : kernel.max_threads;
  if (threads == 0 || threads > limit)
    throw Fault("blocks of " + std::to_string(threads) + " threads: the kernel has at most " + std::to_string(limit));
  if (volume(launch.grid) == 0 || volume(launch.cluster) == 0 || volume(launch.cluster) > 16)
    throw Fault("an empty grid, or clusters of none or more than 16 blocks");
  for (size_t i = 0; i < 3; ++i)
    if (launch.grid[i] % launch.cluster[i] != 0) throw Fault("the grid is no multiple of the cluster");
  if (kernel.static_shared_bytes + uint64_t{launch.dynamic_shared_bytes} > max_shared_bytes)
    throw Fault("more shared memory than " + std::to_string(max_shared_bytes) + " bytes");
  const size_t bytes = kernel.params.empty() ? 0 : kernel.params.back().offset + kernel.params.back().bytes;
  if (launch.params.size() < bytes)
    throw Fault(std::to_string(launch.params.size()) + " bytes of parameters, not " + std::to_string(bytes));
}

std::unique_ptr<Cta> make_cta(Cluster& cluster, uint32_t rank) {
  const Launch& launch = *cluster.launch;
  auto cta = std::make_unique<Cta>();
  cta->cluster = &cluster;
  cta->rank = rank;
  const Dim within = at_index(rank, cluster.shape);
  for (size_t i = 0; i < 3; ++i) cta->id[i] = cluster.id[i] * cluster.shape[i] + within[i];
  cta->shared.assign(cluster.kernel->static_shared_bytes + launch.dynamic_shared_bytes, std::byte{0xff});
  const auto threads = static_cast<uint32_t>(volume(cluster.block));
  cta->warps.resize((threads + 31) / 32);
  cta->writes = SharedWrites(cta->shared.size(), threads);
  cta->live_warps = static_cast<uint32_t>(cta->warps.size());
  cluster.live_warps += cta->live_warps;
  for (uint32_t i = 0; i < cta->warps.size(); ++i) {
    Warp& warp = cta->warps[i];
    warp.cta = cta.get();
    warp.index = i;
    warp.regs.resize(cluster.kernel->num_regs);
    warp.registers = cluster.kernel->registers;
    warp.live = threads - i * 32 >= 32 ? ~0u : (1u << (threads - i * 32)) - 1;
    warp.groups.push_back({.pc = 0, .lanes = warp.live});
  }
  return cta;
}

struct Resident {
  Cluster cluster;
  std::vector<Warp*> order;  // of this round
  size_t next = 0;
  uint64_t seen_events = 0;
  uint32_t idle_turns = 0;  // in a row
};

class Grid {
 public:
  Grid(const Kernel& kernel, const Launch& launch)
      : kernel_(kernel), launch_(launch), params_(launch.params), random_(launch.seed) {
    for (size_t i = 0; i < 3; ++i) clusters_[i] = launch.grid[i] / launch.cluster[i];
    wanted_ = 1 + random_() % 4;
    async_rate_ = std::array<uint32_t, 4>{0, 4, 32, 128}[random_() % 4];
  }

  void run() {
    for (size_t pick = 0;;) {
      while (residents_.size() < wanted_ && started_ < volume(clusters_)) start();
      if (residents_.empty()) return;
      pick = (pick + random_() % 2) % residents_.size();
      Resident& resident = *residents_[pick];
      const uint64_t events = resident.cluster.events;
      const bool stalled = run_turns(resident, 16 + random_() % 256);
      quiet_ = events == resident.cluster.events ? quiet_ + 1 : 0;
      if (resident.cluster.live_warps == 0) {
        while (!resident.cluster.async.empty()) resident.cluster.async.run_one();
        free_slots_.push_back(resident.cluster.slot);
        residents_.erase(residents_.begin() + static_cast<std::ptrdiff_t>(pick));
      } else if (stalled) {
        const bool room = (residents_.size() + 1) * volume(launch_.cluster) <= num_sms;
        if (room && wanted_ <= residents_.size() && started_ < volume(clusters_))
          wanted_ = residents_.size() + 1;
        else if (quiet_ > quiet_limit * residents_.size())
          throw Fault("nothing can go on" + describe_all());
        ++pick;
      }
    }
  }

 private:
  // Slices without an event, per cluster: enough for a poll that counts.
  static constexpr uint64_t quiet_limit = 1000;
  // Polls are shorter than this: who needs so many instructions gets on.
  static constexpr uint32_t long_quantum = 64;

  void start() {
    auto resident = std::make_unique<Resident>();
    Cluster& cluster = resident->cluster;
    cluster.kernel = &kernel_;
    cluster.launch = &launch_;
    cluster.grid = launch_.grid;
    cluster.block = launch_.block;
    cluster.shape = launch_.cluster;
    cluster.id = at_index(started_, clusters_);
    cluster.async = AsyncWork(launch_.seed + started_);
    cluster.params = params_.bytes();
    if (free_slots_.empty()) free_slots_.push_back(num_slots_++);
    cluster.slot = free_slots_.back();
    free_slots_.pop_back();
    for (uint32_t rank = 0; rank < volume(launch_.cluster); ++rank) cluster.ctas.push_back(make_cta(cluster, rank));
    cluster.races.start(cluster);
    residents_.push_back(std::move(resident));
    ++started_;
  }

  void begin_round(Resident& resident) {
    resident.order.clear();
    for (const auto& cta : resident.cluster.ctas)
      for (Warp& warp : cta->warps)
        if (warp.live != 0) resident.order.push_back(&warp);
    std::shuffle(resident.order.begin(), resident.order.end(), random_);
    resident.next = 0;
  }

  // True: everybody waits, and there is no asynchronous work.
  bool run_turns(Resident& resident, size_t turns) {
    Cluster& cluster = resident.cluster;
    for (; turns > 0 && cluster.live_warps > 0; --turns) {
      if (resident.next >= resident.order.size()) begin_round(resident);
      Warp& warp = *resident.order[resident.next++];
      if (warp.live == 0) continue;
      const uint64_t random = random_();
      const uint32_t quantum = 1u << (random % 10);
      if (!can_run(warp) || !run_warp(warp, quantum, random >> 10 & 1))
        ++resident.idle_turns;
      else if (quantum >= long_quantum)
        ++cluster.events;
      const bool all_idle = resident.idle_turns > 2 * resident.order.size();
      if (!cluster.async.empty() && (all_idle || (random >> 16 & 255) < async_rate_)) {
        cluster.async.run_one();
        ++cluster.events;
      } else if (all_idle) {
        resident.idle_turns = 0;
        return true;
      }
      if (cluster.events != resident.seen_events) resident.idle_turns = 0;
      resident.seen_events = cluster.events;
    }
    return false;
  }

  std::string describe_all() const {
    constexpr size_t most = 8000;
    std::string result;
    for (const auto& resident : residents_)
      for (const auto& cta : resident->cluster.ctas) {
        for (const Warp& warp : cta->warps) result += describe(warp);
        if (cta->live_warps > 0) result += describe_barriers(*cta);
      }
    if (result.size() > most) result.replace(most, result.npos, "\n  ...");
    return result;
  }

  const Kernel& kernel_;
  const Launch& launch_;
  ParamMemory params_;
  std::mt19937_64 random_;
  Dim clusters_{};
  size_t wanted_ = 1;        // clusters at a time
  uint32_t async_rate_ = 0;  // of 256 turns
  uint64_t started_ = 0;
  uint64_t quiet_ = 0;  // slices in a row without an event
  uint32_t num_slots_ = 0;
  std::vector<uint32_t> free_slots_;
  std::vector<std::unique_ptr<Resident>> residents_;
};

}  // namespace

void run(const Kernel& kernel, const Launch& launch) {
  check(kernel, launch);
  Grid(kernel, launch).run();
}

}  // namespace dgrt::emulator
