// mbarrier and fences.
#include <map>

#include "tests/emulator/tensor_state.h"

namespace dgrt::emulator {
namespace {

SharedPlace barrier_place(Warp& warp, const Operand& address, uint32_t lane) {
  return shared_place(*warp.cta, static_cast<uint32_t>(lane_address(warp, address, lane)));
}

Step init(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    const SharedPlace place = barrier_place(warp, instr.operands[0], lane);
    if (place.offset % 8) throw Fault("an mbarrier must be 8-byte aligned");
    if (!tensor_state(*place.cta).barriers.insert({place.offset, false}).second)
      throw Fault("an mbarrier is initialised twice");
    init_barrier(place, Mbarrier::of_count(static_cast<uint32_t>(lane_value(warp, instr.operands[1], lane))));
  });
  return Step::next;
}

// Also of another CTA's barrier.
Step arrive(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    const SharedPlace place = barrier_place(warp, instr.operands[1], lane);
    Mbarrier barrier = load_barrier(place);
    barrier.arrive();
    warp.cta->cluster->races.arrive(warp, key_of(place));
    store_barrier(place, barrier);
  });
  return Step::next;
}

Step arrive_expect(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    const SharedPlace place = barrier_place(warp, instr.operands[1], lane);
    Mbarrier barrier = load_barrier(place);
    barrier.expect(static_cast<uint32_t>(lane_value(warp, instr.operands[2], lane)));
    barrier.arrive();
    warp.cta->cluster->races.arrive(warp, key_of(place));
    store_barrier(place, barrier);
  });
  return Step::next;
}

Step test_parity(Warp& warp, const Instr& instr, uint32_t lanes) {
  bool all = true;
  for_each_lane(lanes, [&](uint32_t lane) {
    const SharedPlace place = barrier_place(warp, instr.operands[1], lane);
    const Mbarrier barrier = load_barrier(place);
    const bool passed = barrier.passed(static_cast<uint32_t>(lane_value(warp, instr.operands[2], lane)));
    warp.regs[instr.operands[0].reg][lane] = passed;
    all = all && passed;
    if (passed) warp.cta->cluster->races.pass(warp, key_of(place));
  });
  return all ? Step::next : Step::yield;
}

Step fence_async(Warp& warp, const Instr&, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) { warp.cta->writes.fence(warp.index * 32 + lane); });
  return Step::next;
}

// Of all barriers that the CTA has: one thread initialises them.
Step publish_barriers(Warp& warp, const Instr&, uint32_t) {
  for (auto& [offset, published] : tensor_state(*warp.cta).barriers) published = true;
  return Step::next;
}

Step acquire_map(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    tensor_state(*warp.cta).acquired.insert({warp.index * 32 + lane, lane_address(warp, instr.operands[0], lane)});
  });
  return Step::next;
}

}  // namespace

Handler barrier_handler(std::string_view opcode) {
  static const std::map<std::string_view, Handler> handlers = {
      {"mbarrier.init.shared::cta.b64", init},
      {"mbarrier.arrive.shared::cta.b64", arrive},
      {"mbarrier.arrive.shared::cluster.b64", arrive},
      {"mbarrier.arrive.release.cluster.shared::cluster.b64", arrive},
      {"mbarrier.arrive.expect_tx.shared::cta.b64", arrive_expect},
      {"mbarrier.test_wait.parity.shared::cta.b64", test_parity},
      {"mbarrier.try_wait.parity.shared::cta.b64", test_parity},
      {"mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64", test_parity},
      {"fence.mbarrier_init.release.cluster", publish_barriers},
      {"fence.proxy.async.shared::cta", fence_async},
      {"fence.proxy.tensormap::generic.acquire.gpu", acquire_map}};
  const auto found = handlers.find(opcode);
  return found == handlers.end() ? nullptr : found->second;
}

}  // namespace dgrt::emulator
