// mov: registers, halves and vectors, special registers; addresses from one state space to another.
#include <chrono>

#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

constexpr auto same = [](auto value) { return value; };

// {a, b, ...}, the lowest first, to one register.
Step pack(Warp& warp, const Instr& instr, uint32_t lanes) {
  const std::vector<Operand>& parts = instr.operands[1].elements;
  const uint32_t width = instr.operands[0].bits / static_cast<uint32_t>(parts.size());
  const uint64_t mask = (uint64_t{1} << width) - 1;
  Lanes values{};
  for (uint32_t part = 0; part < parts.size(); ++part) {
    const uint64_t* a = source(warp, parts[part]);
    for (uint32_t i = 0; i < 32; ++i) values[i] |= (a[i] & mask) << part * width;
  }
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

Step unpack(Warp& warp, const Instr& instr, uint32_t lanes) {
  const std::vector<Operand>& parts = instr.operands[0].elements;
  const uint32_t width = instr.operands[1].bits / static_cast<uint32_t>(parts.size());
  const uint64_t mask = (uint64_t{1} << width) - 1;
  const uint64_t* from = source(warp, instr.operands[1]);
  Lanes whole, values;
  std::copy(from, from + 32, whole.begin());
  for (uint32_t part = 0; part < parts.size(); ++part) {
    for (uint32_t i = 0; i < 32; ++i) values[i] = whole[i] >> part * width & mask;
    write(warp, parts[part], values, lanes);
  }
  return Step::next;
}

// Of 128 bits, which are two registers in a row.
Step pack128(Warp& warp, const Instr& instr, uint32_t lanes) {
  Operand to = instr.operands[0];
  for (const Operand& half : instr.operands[1].elements) {
    write(warp, to, warp.regs[half.reg], lanes);
    ++to.reg;
  }
  return Step::next;
}

Step unpack128(Warp& warp, const Instr& instr, uint32_t lanes) {
  uint32_t from = instr.operands[1].reg;
  for (const Operand& half : instr.operands[0].elements) write(warp, half, warp.regs[from++], lanes);
  return Step::next;
}

uint64_t nanoseconds() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

uint64_t product(const std::array<uint32_t, 3>& dim) { return uint64_t{dim[0]} * dim[1] * dim[2]; }

uint64_t special_value(const Warp& warp, Special special, uint32_t lane) {
  using enum Special;
  const Cta& cta = *warp.cta;
  const Cluster& cluster = *cta.cluster;
  const auto index = static_cast<uint32_t>(special);
  const uint32_t axis = index % 3, thread = warp.index * 32 + lane;
  if (index < static_cast<uint32_t>(cluster_ctarank)) {
    switch (static_cast<Special>(index - axis)) {
      case tid:
        return axis == 0   ? thread % cluster.block[0]
               : axis == 1 ? thread / cluster.block[0] % cluster.block[1]
                           : thread / cluster.block[0] / cluster.block[1];
      case ntid:
        return cluster.block[axis];
      case ctaid:
        return cta.id[axis];
      case nctaid:
        return cluster.grid[axis];
      case clusterid:
        return cluster.id[axis];
      case nclusterid:
        return cluster.grid[axis] / cluster.shape[axis];
      case cluster_ctaid:
        return cta.id[axis] % cluster.shape[axis];
      default:
        return cluster.shape[axis];
    }
  }
  switch (special) {
    case cluster_ctarank:
      return cta.rank;
    case cluster_nctarank:
      return product(cluster.shape);
    case laneid:
      return lane;
    case warpid:
      return warp.index;
    case nwarpid:
      return 64;
    case smid:
      return (cluster.slot * product(cluster.shape) + cta.rank) % num_sms;
    case nsmid:
      return num_sms;
    case gridid:
      return 1;
    case clock:
      return static_cast<uint32_t>(nanoseconds());
    case clock64:
    case globaltimer:
      return nanoseconds();
    case lanemask_eq:
      return 1u << lane;
    case lanemask_le:
      return 2u * (1u << lane) - 1;
    case lanemask_lt:
      return (1u << lane) - 1;
    case lanemask_ge:
      return ~((1u << lane) - 1);
    case lanemask_gt:
      return ~(2u * (1u << lane) - 1);
    case dynamic_smem_size:
      return cluster.launch->dynamic_shared_bytes;
    default:
      return cta.shared.size();
  }
}

Step read_special(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto special = static_cast<Special>(instr.operands[1].value);
  Lanes values{};
  each_lane(lanes, [&](uint32_t lane) { values[lane] = special_value(warp, special, lane); });
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

Handler mov_handler(const Instr& instr) {
  const std::string& type = instr.parts.back();
  const Operand &to = instr.operands[0], &from = instr.operands[1];
  if (from.kind == Operand::Kind::special) return read_special;
  if (to.bits == 128 && from.elements.size() == 2) return pack128;
  if (from.bits == 128 && to.elements.size() == 2) return unpack128;
  if (from.kind == Operand::Kind::vector) return to.bits > 0 ? pack : nullptr;
  if (to.kind == Operand::Kind::vector) return from.bits > 0 ? unpack : nullptr;
  if (type == "pred") return map1<same, bool, bool>;
  if (type == "f32") return map1<same, uint32_t, uint32_t>;
  if (type == "f64") return map1<same, uint64_t, uint64_t>;
  return by_int(type, [&]<class T>(T) -> Handler { return map1<same, T, T>; });
}

constexpr auto into_window = [](uint64_t address) { return address + shared_window; };
constexpr auto out_of_window = [](uint64_t address) { return address - shared_window; };

Step address_of_param(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  const auto base = reinterpret_cast<uint64_t>(warp.cta->cluster->params);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) values[i] = base + a[i];
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

Handler cvta_handler(const Instr& instr) {
  const bool to = instr.has("to");
  if (instr.has("global") || instr.has("const")) return map1<same, uint64_t, uint64_t>;
  if (instr.has("param")) return to ? nullptr : address_of_param;
  if (instr.has("shared") || instr.has("shared::cta"))
    return to ? map1<out_of_window, uint64_t, uint64_t> : map1<into_window, uint64_t, uint64_t>;
  return nullptr;
}

constexpr auto is_shared = [](uint64_t address) { return in_shared_window(address); };
constexpr auto is_global_space = [](uint64_t address) { return !in_shared_window(address); };

// Of the CTA's own memory, or of another's in the cluster, in the one of a rank.
Step map_shared(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t *a = source(warp, instr.operands[1]), *rank = source(warp, instr.operands[2]);
  Lanes values{};
  each_lane(lanes, [&](uint32_t lane) {
    const auto owner = static_cast<uint32_t>(rank[lane]);
    if (owner >= warp.cta->cluster->ctas.size())
      fail_lane(warp, lane, "rank " + std::to_string(owner) + ": the cluster has " +
                                std::to_string(warp.cta->cluster->ctas.size()) + " blocks");
    values[lane] = (a[lane] & ~uint64_t{0xff00'0000}) | uint64_t{owner + 1} << 24;
  });
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

Step rank_of_address(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i) {
    const uint64_t owner = a[i] >> 24 & 255;
    values[i] = owner == 0 ? warp.cta->rank : owner - 1;
  }
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

// A cache policy is any number: nothing depends on it.
Step make_policy(Warp& warp, const Instr& instr, uint32_t lanes) {
  write(warp, instr.operands[0], Lanes{}, lanes);
  return Step::next;
}

}  // namespace

Handler move_handler(const Instr& instr) {
  const std::string& name = instr.parts[0];
  if (name == "mov") return mov_handler(instr);
  if (name == "cvta") return cvta_handler(instr);
  if (name == "mapa") return map_shared;
  if (name == "getctarank") return rank_of_address;
  if (name == "createpolicy") return make_policy;
  if (name == "isspacep") {
    if (instr.has("shared") || instr.has("shared::cta") || instr.has("shared::cluster"))
      return map1<is_shared, bool, uint64_t>;
    return instr.has("global") ? map1<is_global_space, bool, uint64_t> : nullptr;
  }
  return nullptr;
}

}  // namespace dgrt::emulator
