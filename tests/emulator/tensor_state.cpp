#include "tests/emulator/tensor_state.h"

#include <cstring>
#include <map>

namespace dgrt::emulator {

TensorState& tensor_state(Cta& cta) {
  if (!cta.tensor) {
    cta.tensor = std::make_shared<TensorState>();
    cta.tensor->copies.resize(cta.warps.size());
    cta.tensor->stores.resize(cta.warps.size() * 32);
    cta.tensor->warpgroups.resize(cta.warps.size() / Warpgroup::num_warps);
  }
  return *cta.tensor;
}

SharedPlace shared_place(Cta& cta, uint32_t address) {
  const uint32_t rank = address >> 24;
  if (rank == 0) return {&cta, address};
  if (rank > cta.cluster->ctas.size()) throw Fault("a shared address of a CTA that the cluster has not");
  return {cta.cluster->ctas[rank - 1].get(), address & 0xff'ffff};
}

Mbarrier load_barrier(SharedPlace place) {
  if (!tensor_state(*place.cta).barriers.contains(place.offset))
    throw Fault("no mbarrier was initialised at shared address " + std::to_string(place.offset));
  uint64_t word;
  std::memcpy(&word, shared_at(*place.cta, place.offset, sizeof word), sizeof word);
  return Mbarrier(word);
}

void store_barrier(SharedPlace place, const Mbarrier& barrier) {
  const bool ends_phase = load_barrier(place).passed(0) != barrier.passed(0);
  init_barrier(place, barrier);
  if (ends_phase) place.cta->cluster->races.complete(key_of(place));
}

void init_barrier(SharedPlace place, const Mbarrier& barrier) {
  const uint64_t word = barrier.word();
  std::memcpy(shared_at(*place.cta, place.offset, sizeof word), &word, sizeof word);
}

std::string describe_barriers(Cta& cta) {
  std::string result;
  const auto& barriers = tensor_state(cta).barriers;
  const std::map<uint32_t, bool> sorted(barriers.begin(), barriers.end());
  for (const auto& [offset, published] : sorted)
    result += "\n  mbarrier at " + std::to_string(offset) + ": " + load_barrier({&cta, offset}).text();
  return result;
}

void add_late(Cta& cta, const Instr& instr, std::function<void()> work) {
  cta.cluster->async.add([line = instr.line, work = std::move(work)] {
    try {
      work();
    } catch (const Fault& fault) {
      throw Fault("asynchronous work of line " + std::to_string(line) + ": " + fault.what());
    }
  });
}

void require_running(const Cta& cta) {
  for (const Warp& warp : cta.warps)
    if (warp.live != 0) return;
  throw Fault("the CTA's threads have all returned before an engine was done with its shared memory");
}

void require_fenced(const Cta& cta, uint32_t offset, uint32_t bytes, uint32_t reader) {
  for (uint32_t at = offset; at < offset + bytes; at += 16)
    if (const auto writer = cta.writes.unfenced(at, reader))
      throw Fault("shared address " + std::to_string(at) + " was written by thread " + std::to_string(*writer) +
                  " without fence.proxy.async since");
}

Handler tensor_handler(const Instr& instr) {
  std::string opcode;
  for (const std::string& part : instr.parts) (opcode += opcode.empty() ? "" : ".") += part;
  for (const auto find : {barrier_handler, copy_handler, bulk_copy_handler, warp_matrix_handler})
    if (const Handler handler = find(opcode)) return handler;
  return wgmma_handler(opcode, instr);
}

}  // namespace dgrt::emulator
