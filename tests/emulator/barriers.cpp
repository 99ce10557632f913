// Barriers of a CTA, by number, and the one of a cluster. Threads count in whole warps.
#include <algorithm>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {
namespace {

uint64_t key_of(const Cta& cta, uint32_t number) { return RaceCheck::key_of(cta.rank, RaceCheck::named, number); }
constexpr uint64_t cluster_key = uint64_t{RaceCheck::of_cluster} << 56;

void complete_if_full(Cta& cta, NamedBarrier& barrier) {
  const uint32_t expected =
      barrier.expected == NamedBarrier::all_warps ? 32 * cta.live_warps : barrier.expected;
  if (barrier.arrived == 0 || barrier.arrived < expected) return;
  if (barrier.arrived > expected) {
    throw Fault("more threads arrived at the barrier than it counts: " + std::to_string(barrier.arrived) + " of " +
                std::to_string(expected));
  }
  barrier = {.phase = barrier.phase + 1};
  cta.cluster->races.complete(key_of(cta, static_cast<uint32_t>(&barrier - cta.barriers.data())));
  ++cta.cluster->events;
}

void complete_if_full(Cluster& cluster) {
  if (cluster.arrived_warps == 0 || cluster.arrived_warps < cluster.live_warps) return;
  cluster.arrived_warps = 0;
  ++cluster.phase;
  cluster.races.complete(cluster_key);
  ++cluster.events;
}

uint32_t uniform(const Warp& warp, const Operand& operand, uint32_t lanes) {
  const auto first = static_cast<uint32_t>(__builtin_ctz(lanes));
  const auto value = static_cast<uint32_t>(lane_value(warp, operand, first));
  for (uint32_t lane = first; lane < 32; ++lane)
    if ((lanes >> lane & 1) && static_cast<uint32_t>(lane_value(warp, operand, lane)) != value)
      throw Fault("lanes of a warp name different barriers or counts");
  return value;
}

// bar.sync and bar.arrive: number, threads
template <bool waits>
Step arrive(Warp& warp, const Instr& instr, uint32_t lanes) {
  Cta& cta = *warp.cta;
  const uint32_t number = uniform(warp, instr.operands[0], lanes);
  if (number >= cta.barriers.size()) throw Fault("barrier " + std::to_string(number) + " of 16");
  const uint32_t expected =
      instr.operands.size() > 1 ? uniform(warp, instr.operands[1], lanes) : NamedBarrier::all_warps;
  if (expected == 0 || (expected != NamedBarrier::all_warps && expected % 32 != 0))
    throw Fault("a barrier of " + std::to_string(expected) + " threads: must be a multiple of 32");
  NamedBarrier& barrier = cta.barriers[number];
  if (barrier.arrived > 0 && barrier.expected != expected) {
    const auto text = [](uint32_t count) {
      return count == NamedBarrier::all_warps ? std::string("all") : std::to_string(count);
    };
    throw Fault("barrier " + std::to_string(number) + " counts " + text(barrier.expected) +
                " threads for those that came first, and " + text(expected) + " here");
  }
  barrier.expected = expected;
  barrier.arrived += 32;
  cta.cluster->races.arrive(warp, key_of(cta, number));
  if (waits) {
    warp.waits = Warp::Waits::barrier;
    warp.barrier = number;
    warp.phase = barrier.phase;
  }
  complete_if_full(cta, barrier);
  return Step::next;
}

Step arrive_at_cluster(Warp& warp, const Instr&, uint32_t) {
  Cluster& cluster = *warp.cta->cluster;
  if (warp.cluster_arrived) throw Fault("a second arrival at the cluster's barrier without a wait between");
  warp.cluster_arrived = true;
  warp.cluster_phase = cluster.phase;
  ++cluster.arrived_warps;
  cluster.races.arrive(warp, cluster_key);
  complete_if_full(cluster);
  return Step::next;
}

Step wait_for_cluster(Warp& warp, const Instr&, uint32_t) {
  if (!warp.cluster_arrived) throw Fault("a wait at the cluster's barrier without an arrival");
  warp.cluster_arrived = false;
  warp.waits = Warp::Waits::cluster;
  return Step::next;
}

}  // namespace

bool can_run(Warp& warp) {
  const bool waits =
      (warp.waits == Warp::Waits::barrier && warp.cta->barriers[warp.barrier].phase == warp.phase) ||
      (warp.waits == Warp::Waits::cluster && warp.cta->cluster->phase == warp.cluster_phase);
  if (waits || warp.waits == Warp::Waits::no) return !waits;
  const bool at_cluster = warp.waits == Warp::Waits::cluster;
  warp.cta->cluster->races.pass(warp, at_cluster ? cluster_key : key_of(*warp.cta, warp.barrier));
  warp.waits = Warp::Waits::no;
  return true;
}

void end_warp(Warp& warp) {
  Cta& cta = *warp.cta;
  Cluster& cluster = *cta.cluster;
  if (warp.cluster_arrived && warp.cluster_phase == cluster.phase) --cluster.arrived_warps;
  --cta.live_warps;
  --cluster.live_warps;
  for (NamedBarrier& barrier : cta.barriers)
    if (barrier.expected == NamedBarrier::all_warps) complete_if_full(cta, barrier);
  complete_if_full(cluster);
  if (cta.live_warps > 0) return;
  check_registers(cta);
  // Who reads it now has not waited long enough.
  std::fill(cta.shared.begin(), cta.shared.end(), std::byte{0xff});
}

Handler named_barrier_handler(const Instr& instr) {
  if (instr.control != Control::barrier) return nullptr;
  if (instr.has("cluster")) {
    if (instr.has("arrive")) return arrive_at_cluster;
    return instr.has("wait") ? wait_for_cluster : nullptr;
  }
  if (instr.has("arrive") && instr.operands.size() == 2) return arrive<false>;
  return instr.has("sync") ? arrive<true> : nullptr;
}

}  // namespace dgrt::emulator
