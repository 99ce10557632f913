// cp.async: copies of 4 to 16 bytes by each lane. The source is read, and the destination written, late.
#include <cstring>
#include <map>

#include "tests/emulator/tensor_state.h"

namespace dgrt::emulator {
namespace {

Step copy(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto& operands = instr.operands;
  const auto bytes = static_cast<uint32_t>(operands[2].value);
  WarpCopies& copies = tensor_state(*warp.cta).copies[warp.index];
  const auto batch = std::make_shared<CopyBatch>();
  batch->cta = warp.cta;
  batch->first_thread = warp.index * 32;
  batch->lanes = lanes;
  batch->group = copies.committed;
  for_each_lane(lanes, [&](uint32_t lane) {
    const auto to = static_cast<uint32_t>(lane_address(warp, operands[0], lane));
    const uint64_t from = lane_address(warp, operands[1], lane);
    const auto read =
        operands.size() > 3 ? static_cast<uint32_t>(lane_value(warp, operands[3], lane)) : bytes;
    if (read > bytes) throw Fault("cp.async reads more than it writes");
    if (to % bytes || (read > 0 && from % bytes)) throw Fault("cp.async of an address that is not aligned");
    if (read > 0) check_global(from, read);
    batch->copies[lane] = {reinterpret_cast<const std::byte*>(from), shared_at(*warp.cta, to, bytes), read, bytes};
  });
  for_each_lane(lanes, [&](uint32_t lane) {
    const auto to = static_cast<uint32_t>(lane_address(warp, operands[0], lane));
    warp.cta->cluster->races.write(warp, to, bytes);
  });
  copies.pending.push_back(batch);
  warp.cta->cluster->async.add([batch] { batch->run(); });
  return Step::next;
}

Step commit(Warp& warp, const Instr&, uint32_t lanes) {
  WarpCopies& copies = tensor_state(*warp.cta).copies[warp.index];
  for_each_lane(lanes, [&](uint32_t lane) { ++copies.committed[lane]; });
  return Step::next;
}

Step wait(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto most = static_cast<uint32_t>(instr.operands[0].value);
  WarpCopies& copies = tensor_state(*warp.cta).copies[warp.index];
  std::erase_if(copies.pending, [&](const std::shared_ptr<CopyBatch>& batch) {
    for_each_lane(lanes & batch->lanes, [&](uint32_t lane) {
      if (batch->group[lane] + most < copies.committed[lane]) batch->run();
    });
    return batch->done;
  });
  return Step::next;
}

// The lane's arrival, whenever what it copied so far is there.
Step arrive(Warp& warp, const Instr& instr, uint32_t lanes) {
  Cta& cta = *warp.cta;
  std::vector<SharedPlace> barriers;
  for_each_lane(lanes, [&](uint32_t lane) {
    barriers.push_back(shared_place(cta, static_cast<uint32_t>(lane_address(warp, instr.operands[0], lane))));
    load_barrier(barriers.back());
    cta.cluster->races.arrive(warp, key_of(barriers.back()));
  });
  auto& pending = tensor_state(cta).copies[warp.index].pending;
  std::erase_if(pending, [](const std::shared_ptr<CopyBatch>& batch) { return batch->done; });
  const auto copies = pending;
  add_late(cta, instr, [copies, barriers] {
    for (const std::shared_ptr<CopyBatch>& batch : copies) batch->run();
    for (const SharedPlace& place : barriers) {
      Mbarrier barrier = load_barrier(place);
      barrier.arrive();
      store_barrier(place, barrier);
    }
  });
  return Step::next;
}

}  // namespace

void CopyBatch::run() {
  if (done) return;
  done = true;
  for_each_lane(lanes, [&](uint32_t lane) {
    const Copy& one = copies[lane];
    if (one.read) std::memcpy(one.to, one.from, one.read);
    std::memset(one.to + one.read, 0, one.written - one.read);
    cta->writes.add(first_thread + lane, static_cast<size_t>(one.to - cta->shared.data()), one.written, true);
  });
}

Handler copy_handler(std::string_view opcode) {
  static const std::map<std::string_view, Handler> handlers = {
      {"cp.async.ca.shared.global", copy},
      {"cp.async.cg.shared.global.L2::64B", copy},
      {"cp.async.cg.shared.global.L2::128B", copy},
      {"cp.async.mbarrier.arrive.noinc.shared::cta.b64", arrive},
      {"cp.async.commit_group", commit},
      {"cp.async.wait_group", wait}};
  const auto found = handlers.find(opcode);
  return found == handlers.end() ? nullptr : found->second;
}

}  // namespace dgrt::emulator
