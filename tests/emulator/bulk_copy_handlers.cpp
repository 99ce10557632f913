// The copy engine of tensor maps: cp.async.bulk.tensor and its relatives, and instructions that edit maps.
#include <cstring>
#include <map>
#include <vector>

#include "tests/emulator/tensor_box.h"
#include "tests/emulator/tensor_state.h"

namespace dgrt::emulator {
namespace {

using Coordinates = std::array<int32_t, 5>;

CUtensorMap read_map(Warp& warp, const Operand& operand, uint32_t lane) {
  const uint64_t address = lane_address(warp, operand, lane);
  if (address % 64) throw Fault("a tensor map must be 64-byte aligned");
  const Cluster& cluster = *warp.cta->cluster;
  const bool is_parameter = address - reinterpret_cast<uint64_t>(cluster.params) < cluster.launch->params.size();
  if (!is_parameter && !tensor_state(*warp.cta).acquired.contains({warp.index * 32 + lane, address}))
    throw Fault("a tensor map in memory without fence.proxy.tensormap acquire by the thread");
  CUtensorMap map;
  std::memcpy(&map, generic_at(*warp.cta, address, sizeof map), sizeof map);
  map_rank(map);  // throws unless it is one
  return map;
}

Coordinates read_coordinates(Warp& warp, const Operand& operand, uint32_t lane, const CUtensorMap& map) {
  if (operand.elements.size() != map_rank(map)) throw Fault("a tensor map of another number of dimensions");
  Coordinates coordinates{};
  for (size_t d = 0; d < operand.elements.size(); ++d)
    coordinates[d] = static_cast<int32_t>(lane_value(warp, operand.elements[d], lane));
  return coordinates;
}

void require_published(SharedPlace barrier) {
  load_barrier(barrier);  // throws unless there is one
  if (!tensor_state(*barrier.cta).barriers.at(barrier.offset))
    throw Fault("an mbarrier was initialised without fence.mbarrier_init before an engine is told of it");
}

void load_into(const Warp& warp, const Instr& instr, const CUtensorMap& map, const Coordinates& coordinates,
               SharedPlace to, SharedPlace barrier_place) {
  if (to.offset % 128) throw Fault("a box in shared memory must be 128-byte aligned");
  std::byte* shared = shared_at(*to.cta, to.offset, box_bytes(map));
  require_published(barrier_place);
  warp.cta->cluster->races.engine_write(warp, *to.cta, to.offset, box_bytes(map), key_of(barrier_place));
  add_late(*to.cta, instr, [=] {
    require_running(*to.cta);
    load_box(map, coordinates.data(), shared, to.offset);
    to.cta->writes.forget(to.offset, box_bytes(map));
    Mbarrier barrier = load_barrier(barrier_place);
    barrier.complete(box_bytes(map));
    store_barrier(barrier_place, barrier);
  });
}

Step load(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto& operands = instr.operands;
  for_each_lane(lanes, [&](uint32_t lane) {
    const CUtensorMap map = read_map(warp, operands[1], lane);
    const Coordinates coordinates = read_coordinates(warp, operands[2], lane, map);
    const SharedPlace to = shared_place(*warp.cta, static_cast<uint32_t>(lane_address(warp, operands[0], lane)));
    const SharedPlace barrier =
        shared_place(*warp.cta, static_cast<uint32_t>(lane_address(warp, operands[3], lane)));
    if (to.cta != barrier.cta) throw Fault("a load's mbarrier must be in the CTA that receives the box");
    if (operands.size() == 4) return load_into(warp, instr, map, coordinates, to, barrier);
    const auto mask = static_cast<uint16_t>(lane_value(warp, operands[4], lane));
    const auto& ctas = warp.cta->cluster->ctas;
    if (mask == 0 || mask >> ctas.size()) throw Fault("a multicast to CTAs that the cluster has not, or to none");
    for (size_t rank = 0; rank < ctas.size(); ++rank)
      if (mask >> rank & 1)
        load_into(warp, instr, map, coordinates, {ctas[rank].get(), to.offset}, {ctas[rank].get(), barrier.offset});
  });
  return Step::next;
}

// From this CTA's shared memory to that of one of the cluster: read some time, and written some time after that.
Step copy_to_cluster(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto& operands = instr.operands;
  for_each_lane(lanes, [&](uint32_t lane) {
    Cta& cta = *warp.cta;
    const SharedPlace to = shared_place(cta, static_cast<uint32_t>(lane_address(warp, operands[0], lane)));
    const auto from = static_cast<uint32_t>(lane_address(warp, operands[1], lane));
    const auto bytes = static_cast<uint32_t>(lane_value(warp, operands[2], lane));
    const SharedPlace place = shared_place(cta, static_cast<uint32_t>(lane_address(warp, operands[3], lane)));
    if (to.offset % 16 || from % 16 || bytes % 16)
      throw Fault("a bulk copy's addresses and size must be multiples of 16");
    if (to.cta != place.cta) throw Fault("a bulk copy's mbarrier must be in the CTA that receives it");
    const std::byte* source = shared_at(cta, from, bytes);
    std::byte* target = shared_at(*to.cta, to.offset, bytes);
    require_fenced(cta, from, bytes, warp.index * 32 + lane);
    require_published(place);
    cta.cluster->races.read(warp, from, bytes);
    cta.cluster->races.engine_write(warp, *to.cta, to.offset, bytes, key_of(place));
    add_late(cta, instr, [=, &cta] {
      require_running(cta);
      const std::vector<std::byte> data(source, source + bytes);
      add_late(cta, instr, [=] {
        require_running(*to.cta);
        std::memcpy(target, data.data(), data.size());
        to.cta->writes.forget(to.offset, bytes);
        Mbarrier barrier = load_barrier(place);
        barrier.complete(bytes);
        store_barrier(place, barrier);
      });
    });
  });
  return Step::next;
}

using Writer = void (*)(const CUtensorMap&, const int32_t*, const std::byte*, uint32_t);

// Reads the box some time, and writes it some time after that.
template <Writer write>
Step store(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto& operands = instr.operands;
  for_each_lane(lanes, [&](uint32_t lane) {
    Cta& cta = *warp.cta;
    const CUtensorMap map = read_map(warp, operands[0], lane);
    const Coordinates coordinates = read_coordinates(warp, operands[1], lane, map);
    const auto offset = static_cast<uint32_t>(lane_address(warp, operands[2], lane));
    if (offset % 128) throw Fault("a box in shared memory must be 128-byte aligned");
    const std::byte* shared = shared_at(cta, offset, box_bytes(map));
    require_fenced(cta, offset, box_bytes(map), warp.index * 32 + lane);
    ThreadStores& stores = tensor_state(cta).stores[warp.index * 32 + lane];
    const auto state = std::make_shared<BulkStore>();
    state->group = stores.committed;
    state->offset = offset, state->bytes = box_bytes(map);
    cta.cluster->races.begin_engine_read(warp, offset, state->bytes);
    stores.pending.push_back(state);
    add_late(cta, instr, [=, &cta, &instr] {
      require_running(cta);
      const auto box = std::make_shared<std::vector<std::byte>>(shared, shared + box_bytes(map));
      state->read = true;
      add_late(cta, instr, [=] {
        write(map, coordinates.data(), box->data(), offset);
        state->written = true;
      });
    });
  });
  return Step::next;
}

Step commit(Warp& warp, const Instr&, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) { ++tensor_state(*warp.cta).stores[warp.index * 32 + lane].committed; });
  return Step::next;
}

template <bool BulkStore::* done>
Step wait(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto most = static_cast<uint32_t>(instr.operands[0].value);
  bool ready = true;
  for_each_lane(lanes, [&](uint32_t lane) {
    ThreadStores& stores = tensor_state(*warp.cta).stores[warp.index * 32 + lane];
    for (const auto& one : stores.pending) {
      if (one->group + most >= stores.committed) continue;
      if (!((*one).*done)) ready = false;
      if (one->read && !one->waited) {
        warp.cta->cluster->races.end_engine_read(warp, one->offset, one->bytes);
        one->waited = true;
      }
    }
    std::erase_if(stores.pending, [](const auto& one) { return one->written && one->waited; });
  });
  return ready ? Step::next : Step::retry;
}

// Prefetches do nothing that a program could see, but must be right. A map may be none, if it is not used: products
// over no k have none.
Step prefetch_map(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    const uint64_t address = lane_address(warp, instr.operands[0], lane);
    if (address % 64) throw Fault("a tensor map must be 64-byte aligned");
    generic_at(*warp.cta, address, sizeof(CUtensorMap));
  });
  return Step::next;
}

Step prefetch_box(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    read_coordinates(warp, instr.operands[1], lane, read_map(warp, instr.operands[0], lane));
  });
  return Step::next;
}

Step prefetch_bytes(Warp& warp, const Instr& instr, uint32_t lanes) {
  for_each_lane(lanes, [&](uint32_t lane) {
    const auto bytes = static_cast<uint32_t>(lane_value(warp, instr.operands[1], lane));
    if (lane_address(warp, instr.operands[0], lane) % 16 || bytes % 16)
      throw Fault("a prefetch's address and size must be multiples of 16");
  });
  return Step::next;
}

template <class Edit>
void edit_map(Warp& warp, const Instr& instr, uint32_t lanes, Edit edit) {
  for_each_lane(lanes, [&](uint32_t lane) {
    const auto at = static_cast<uint32_t>(lane_address(warp, instr.operands[0], lane));
    std::byte* bytes = shared_at(*warp.cta, at, sizeof(CUtensorMap));
    CUtensorMap map;
    std::memcpy(&map, bytes, sizeof map);
    edit(map, lane_value(warp, instr.operands.back(), lane));
    std::memcpy(bytes, &map, sizeof map);
  });
}

Step replace_address(Warp& warp, const Instr& instr, uint32_t lanes) {
  edit_map(warp, instr, lanes, [](CUtensorMap& map, uint64_t base) { replace_map_address(map, base); });
  return Step::next;
}

Step replace_dim(Warp& warp, const Instr& instr, uint32_t lanes) {
  edit_map(warp, instr, lanes, [&](CUtensorMap& map, uint64_t elements) {
    replace_map_dim(map, static_cast<uint32_t>(instr.operands[1].value), static_cast<uint32_t>(elements));
  });
  return Step::next;
}

Step replace_stride(Warp& warp, const Instr& instr, uint32_t lanes) {
  edit_map(warp, instr, lanes, [&](CUtensorMap& map, uint64_t bytes) {
    replace_map_stride(map, static_cast<uint32_t>(instr.operands[1].value), bytes);
  });
  return Step::next;
}

// The warp's lanes give the same addresses.
Step publish_map(Warp& warp, const Instr& instr, uint32_t lanes) {
  require_whole_warp(lanes);
  const uint64_t to = lane_address(warp, instr.operands[0], 0);
  const auto from = static_cast<uint32_t>(lane_address(warp, instr.operands[1], 0));
  if (to % 64 || from % 64) throw Fault("a tensor map must be 64-byte aligned");
  check_global(to, sizeof(CUtensorMap));
  std::erase_if(tensor_state(*warp.cta).acquired, [to](const auto& one) { return one.second == to; });
  std::memcpy(reinterpret_cast<void*>(to), shared_at(*warp.cta, from, sizeof(CUtensorMap)), sizeof(CUtensorMap));
  return Step::next;
}

std::map<std::string, Handler, std::less<>> all_handlers() {
  std::map<std::string, Handler, std::less<>> handlers = {
      {"cp.async.bulk.commit_group", commit},
      {"cp.async.bulk.wait_group", wait<&BulkStore::written>},
      {"cp.async.bulk.wait_group.read", wait<&BulkStore::read>},
      {"cp.async.bulk.prefetch.L2.global", prefetch_bytes},
      {"cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes", copy_to_cluster},
      {"prefetch.tensormap", prefetch_map},
      {"tensormap.replace.tile.global_address.shared::cta.b1024.b64", replace_address},
      {"tensormap.replace.tile.global_dim.shared::cta.b1024.b32", replace_dim},
      {"tensormap.replace.tile.global_stride.shared::cta.b1024.b64", replace_stride},
      {"tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned", publish_map}};
  for (uint32_t rank = 1; rank <= 5; ++rank) {
    const std::string dim = std::to_string(rank) + "d.";
    const std::string load_opcode =
        "cp.async.bulk.tensor." + dim + "shared::cluster.global.mbarrier::complete_tx::bytes";
    handlers[load_opcode] = load;
    handlers[load_opcode + ".multicast::cluster"] = load;
    handlers["cp.async.bulk.tensor." + dim + "global.shared::cta.bulk_group"] = store<store_box>;
    handlers["cp.reduce.async.bulk.tensor." + dim + "global.shared::cta.add.bulk_group"] = store<reduce_add_box>;
    handlers["cp.async.bulk.prefetch.tensor." + dim + "L2.global"] = prefetch_box;
  }
  return handlers;
}

}  // namespace

Handler bulk_copy_handler(std::string_view opcode) {
  static const std::map<std::string, Handler, std::less<>> handlers = all_handlers();
  const auto found = handlers.find(opcode);
  return found == handlers.end() ? nullptr : found->second;
}

}  // namespace dgrt::emulator
