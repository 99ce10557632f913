// ld and st: every state space, up to four values per lane. One of 128 bits is two registers in a row.
#include <algorithm>
#include <cstring>

#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

enum class Space { generic, global, shared, param };

std::string in_hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

Lanes addresses_of(const Warp& warp, const Operand& operand) {
  Lanes result;
  if (operand.reg == no_reg) {
    result.fill(static_cast<uint64_t>(operand.value));
  } else {
    const Lanes& base = warp.regs[operand.reg];
    for (uint32_t i = 0; i < 32; ++i) result[i] = base[i] + static_cast<uint64_t>(operand.value);
  }
  return result;
}

void check_aligned(const Warp& warp, const Lanes& addresses, uint32_t lanes, uint32_t bytes) {
  uint64_t low = 0;
  for (uint32_t i = 0; i < 32; ++i) low |= lanes >> i & 1 ? addresses[i] : 0;
  if ((low & (bytes - 1)) == 0) return;
  each_lane(lanes, [&](uint32_t lane) {
    if ((addresses[lane] & (bytes - 1)) != 0)
      fail_lane(warp, lane, "address " + in_hex(addresses[lane]) + " is not aligned to " + std::to_string(bytes));
  });
}

template <Space space>
std::byte* memory_at(Warp& warp, uint32_t lane, uint64_t address, uint32_t bytes) {
  try {
    if constexpr (space == Space::shared) {
      return shared_at(*warp.cta, static_cast<uint32_t>(address), bytes);
    } else if constexpr (space == Space::param) {
      const Cluster& cluster = *warp.cta->cluster;
      if (address + bytes > cluster.launch->params.size()) throw Fault("beyond the parameters");
      return const_cast<std::byte*>(cluster.params) + address;
    } else if constexpr (space == Space::generic) {
      return generic_at(*warp.cta, address, bytes);
    } else {
      check_global(address, bytes);
      return reinterpret_cast<std::byte*>(address);
    }
  } catch (const Fault& fault) {
    fail_lane(warp, lane, fault.what());
  }
}

// For who reads it through another proxy. Other CTAs' memory is beyond that check.
void note_write(Warp& warp, uint32_t lane, uint64_t address, uint32_t bytes, bool changes) {
  if (in_shared_window(address)) address -= shared_window;
  if (address < warp.cta->shared.size()) warp.cta->writes.add(warp.index * 32 + lane, address, bytes, changes);
}

struct Extent {
  uint64_t first = ~uint64_t{0}, last = 0;
};

Extent extent_of(const Lanes& addresses, uint32_t lanes) {
  Extent result;
  for (uint32_t i = 0; i < 32; ++i) {
    const bool takes_part = lanes >> i & 1;
    result.first = std::min(result.first, takes_part ? addresses[i] : ~uint64_t{0});
    result.last = std::max(result.last, takes_part ? addresses[i] : 0);
  }
  return result;
}

// The memory of the extent's first address if all of it may be touched, so that lanes need not be checked one by
// one. Null: they must.
template <Space space>
std::byte* memory_of(Warp& warp, const Extent& extent, uint32_t bytes) {
  if constexpr (space == Space::shared) {
    std::vector<std::byte>& shared = warp.cta->shared;
    const bool inside = extent.last < shared.size() && extent.last + bytes <= shared.size();
    return inside ? shared.data() + extent.first : nullptr;
  } else if constexpr (space == Space::param) {
    const Cluster& cluster = *warp.cta->cluster;
    const size_t size = cluster.launch->params.size();
    const bool inside = extent.last < size && extent.last + bytes <= size;
    return inside ? const_cast<std::byte*>(cluster.params) + extent.first : nullptr;
  } else {
    const bool inside = is_global(extent.first, extent.last - extent.first + bytes);
    return inside ? reinterpret_cast<std::byte*>(extent.first) : nullptr;
  }
}

const Operand& element(const Operand& operand, uint32_t i) {
  return operand.kind == Operand::Kind::vector ? operand.elements[i] : operand;
}

uint32_t half_of(const Operand& operand, uint32_t i) { return operand.bits == 128 ? i : 0; }

// A lane's address in shared memory; false: in another.
template <Space space>
bool is_shared(uint64_t& address) {
  if (space == Space::generic && !in_shared_window(address)) return false;
  address = static_cast<uint32_t>(address);
  return space == Space::shared || space == Space::generic;
}

// Tells the detector of races, of neighbours at once. `tells`: the access is there for others to see, or to see others.
enum class Access : uint8_t { load, store, store_of_same };
template <Space space, Access access, bool tells>
void note_access(Warp& warp, const Lanes& addresses, uint32_t lanes, uint32_t bytes) {
  RaceCheck& races = warp.cta->cluster->races;
  if constexpr (tells) {
    each_lane(lanes, [&](uint32_t lane) {
      uint64_t address = addresses[lane];
      if (is_shared<space>(address)) address = RaceCheck::flag_in_shared(warp, static_cast<uint32_t>(address));
      if (access != Access::load)
        races.publish(warp, address);
      else
        races.observe(warp, address);
    });
  } else if constexpr (space == Space::shared || space == Space::generic) {
    uint64_t first = 0, end = 0;
    const auto flush = [&] {
      if (first == end) return;
      if (access == Access::store)
        races.write(warp, static_cast<uint32_t>(first), static_cast<uint32_t>(end - first));
      else if (access == Access::store_of_same)
        races.write_same(warp, static_cast<uint32_t>(first), static_cast<uint32_t>(end - first));
      else
        races.read(warp, static_cast<uint32_t>(first), static_cast<uint32_t>(end - first));
    };
    each_lane(lanes, [&](uint32_t lane) {
      uint64_t address = addresses[lane];
      if (!is_shared<space>(address) || (first != end && address + bytes == end)) return;
      if (address != end || first == end) flush(), first = address;
      end = address + bytes;
    });
    flush();
  }
}

template <class T, uint32_t count, Space space, bool tells>
Step load(Warp& warp, const Instr& instr, uint32_t lanes) {
  const Lanes addresses = addresses_of(warp, instr.operands[1]);
  constexpr uint32_t bytes = count * sizeof(T);
  check_aligned(warp, addresses, lanes, bytes);
  Lanes* to[count];
  uint64_t masks[count];
  Lanes dropped;
  for (uint32_t i = 0; i < count; ++i) {
    const Operand& operand = element(instr.operands[0], i);
    to[i] = operand.reg == no_reg ? &dropped : &warp.regs[operand.reg + half_of(operand, i)];
    masks[i] = operand.bits >= 64 || operand.bits == 0 ? ~uint64_t{0} : (uint64_t{1} << operand.bits) - 1;
  }
  const Extent extent = extent_of(addresses, lanes);
  const std::byte* memory = memory_of<space>(warp, extent, bytes);
  each_lane(lanes, [&](uint32_t lane) {
    T values[count];
    const uint64_t address = addresses[lane];
    std::memcpy(values, memory ? memory + (address - extent.first) : memory_at<space>(warp, lane, address, bytes),
                bytes);
    for (uint32_t i = 0; i < count; ++i) (*to[i])[lane] = static_cast<uint64_t>(values[i]) & masks[i];
  });
  note_access<space, Access::load, tells>(warp, addresses, lanes, bytes);
  return tells && count == 1 ? Step::yield : Step::next;  // it may poll
}

template <class T, uint32_t count, Space space, bool tells>
Step store(Warp& warp, const Instr& instr, uint32_t lanes) {
  const Lanes addresses = addresses_of(warp, instr.operands[0]);
  constexpr uint32_t bytes = count * sizeof(T);
  check_aligned(warp, addresses, lanes, bytes);
  const uint64_t* from[count];
  for (uint32_t i = 0; i < count; ++i) {
    const Operand& operand = element(instr.operands[1], i);
    const uint32_t half = half_of(operand, i);
    from[i] = half == 0 ? source(warp, operand) : warp.regs[operand.reg + half].data();
  }
  const Extent extent = extent_of(addresses, lanes);
  std::byte* memory = memory_of<space>(warp, extent, bytes);
  uint32_t changing = 0;
  each_lane(lanes, [&](uint32_t lane) {
    T values[count];
    for (uint32_t i = 0; i < count; ++i) values[i] = static_cast<T>(from[i][lane]);
    const uint64_t address = addresses[lane];
    std::byte* to = memory ? memory + (address - extent.first) : memory_at<space>(warp, lane, address, bytes);
    const bool changes = std::memcmp(to, values, bytes) != 0;
    changing |= static_cast<uint32_t>(changes) << lane;
    std::memcpy(to, values, bytes);
    if constexpr (space == Space::shared || space == Space::generic) note_write(warp, lane, address, bytes, changes);
  });
  note_access<space, Access::store, tells>(warp, addresses, lanes & changing, bytes);
  note_access<space, Access::store_of_same, tells>(warp, addresses, lanes & ~changing, bytes);
  return Step::next;
}

template <class T, uint32_t count, Space space>
Handler of_space(const Instr& instr) {
  bool tells = false;
  for (const char* part : {"acquire", "release", "relaxed", "volatile"}) tells |= instr.has(part);
  if (instr.parts[0] == "ld") return tells ? load<T, count, space, true> : load<T, count, space, false>;
  if (space == Space::param) return nullptr;
  return tells ? store<T, count, space, true> : store<T, count, space, false>;
}

template <class T, uint32_t count>
Handler of_count(const Instr& instr) {
  if (instr.has("global") || instr.has("const")) return of_space<T, count, Space::global>(instr);
  if (instr.has("shared") || instr.has("shared::cta") || instr.has("shared::cluster"))
    return of_space<T, count, Space::shared>(instr);
  if (instr.has("param") || instr.has("param::entry")) return of_space<T, count, Space::param>(instr);
  return instr.has("local") ? nullptr : of_space<T, count, Space::generic>(instr);
}

template <class T>
Handler of_type(const Instr& instr) {
  const bool is_load = instr.parts[0] == "ld";
  const Operand& value = instr.operands[is_load ? 0 : 1];
  const size_t count = value.kind == Operand::Kind::vector ? value.elements.size() : 1;
  if (instr.has("v2")) return count == 2 ? of_count<T, 2>(instr) : nullptr;
  if constexpr (sizeof(T) <= 4) {
    if (instr.has("v4")) return count == 4 ? of_count<T, 4>(instr) : nullptr;
  }
  return count == 1 ? of_count<T, 1>(instr) : nullptr;
}

}  // namespace

Handler memory_handler(const Instr& instr) {
  if (instr.parts[0] != "ld" && instr.parts[0] != "st") return nullptr;
  if (instr.operands.size() < 2 || instr.has("async")) return nullptr;
  const std::string& type = instr.parts.back();
  if (type == "b32" || type == "u32" || type == "f32") return of_type<uint32_t>(instr);
  if (type == "b64" || type == "u64" || type == "s64" || type == "f64") return of_type<uint64_t>(instr);
  if (type == "b128") return of_count<uint64_t, 2>(instr);
  if (type == "s32") return of_type<int32_t>(instr);
  if (type == "b16" || type == "u16" || type == "f16" || type == "bf16") return of_type<uint16_t>(instr);
  if (type == "s16") return of_type<int16_t>(instr);
  if (type == "b8" || type == "u8") return of_type<uint8_t>(instr);
  return type == "s8" ? of_type<int8_t>(instr) : nullptr;
}

}  // namespace dgrt::emulator
