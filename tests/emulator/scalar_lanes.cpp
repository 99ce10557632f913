// Instructions by which lanes of a warp tell each other something: all members stand here.
#include <algorithm>

#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

enum class Shuffle { idx, up, down, bfly };

// d|p, a, b, clamp and segment mask, members
template <Shuffle mode>
Step shuffle(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t *a = source(warp, instr.operands[1]), *b = source(warp, instr.operands[2]);
  const uint64_t* c = source(warp, instr.operands[3]);
  Lanes values{}, valid{};
  each_lane(lanes, [&](uint32_t lane) {
    const auto by = static_cast<int32_t>(b[lane] & 31), at = static_cast<int32_t>(lane);
    const auto clamp = static_cast<int32_t>(c[lane] & 31), segment = static_cast<int32_t>(c[lane] >> 8 & 31);
    const int32_t last = (at & segment) | (clamp & ~segment), first = at & segment;
    int32_t from = 0;
    bool inside = false;
    if (mode == Shuffle::idx) from = first | (by & ~segment), inside = from <= last;
    if (mode == Shuffle::up) from = at - by, inside = from >= last;
    if (mode == Shuffle::down) from = at + by, inside = from <= last;
    if (mode == Shuffle::bfly) from = at ^ by, inside = from <= last;
    if (!inside) from = at;
    if ((lanes >> from & 1) == 0)
      fail_lane(warp, lane, "the value of lane " + std::to_string(from) + ", which does not take part");
    values[lane] = static_cast<uint32_t>(a[from]);
    valid[lane] = inside;
  });
  const Operand& to = instr.operands[0];
  if (to.kind == Operand::Kind::vector) {
    write(warp, to.elements[0], values, lanes);
    write(warp, to.elements[1], valid, lanes);
  } else {
    write(warp, to, values, lanes);
  }
  return Step::next;
}

void write_same(Warp& warp, const Operand& to, uint64_t value, uint32_t lanes) {
  Lanes values;
  values.fill(value);
  write(warp, to, values, lanes);
}

enum class Vote { any, all, uni, ballot };

template <Vote mode>
Step vote(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  uint32_t yes = 0;
  each_lane(lanes, [&](uint32_t lane) { yes |= static_cast<uint32_t>(a[lane] & 1) << lane; });
  uint64_t result = yes;
  if (mode == Vote::any) result = yes != 0;
  if (mode == Vote::all) result = yes == lanes;
  if (mode == Vote::uni) result = yes == 0 || yes == lanes;
  write_same(warp, instr.operands[0], result, lanes);
  return Step::next;
}

constexpr auto add = [](auto a, auto b) { return a + b; };
constexpr auto smaller = [](auto a, auto b) { return std::min(a, b); };
constexpr auto larger = [](auto a, auto b) { return std::max(a, b); };
constexpr auto bit_and = [](auto a, auto b) { return a & b; };
constexpr auto bit_or = [](auto a, auto b) { return a | b; };
constexpr auto bit_xor = [](auto a, auto b) { return a ^ b; };

template <class T, auto F>
Step reduce(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  T result = from_bits<T>(a[std::countr_zero(lanes)]);
  each_lane(lanes & (lanes - 1), [&](uint32_t lane) { result = F(result, from_bits<T>(a[lane])); });
  write_same(warp, instr.operands[0], to_bits(result), lanes);
  return Step::next;
}

template <class T>
Handler reduce_handler(const Instr& instr) {
  if (instr.has("add")) return reduce<T, add>;
  if (instr.has("min")) return reduce<T, smaller>;
  if (instr.has("max")) return reduce<T, larger>;
  if (instr.has("and")) return reduce<T, bit_and>;
  if (instr.has("or")) return reduce<T, bit_or>;
  return instr.has("xor") ? reduce<T, bit_xor> : nullptr;
}

template <class T>
Step match_any(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t* a = source(warp, instr.operands[1]);
  Lanes values{};
  each_lane(lanes, [&](uint32_t lane) {
    each_lane(lanes, [&](uint32_t other) {
      if (static_cast<T>(a[lane]) == static_cast<T>(a[other])) values[lane] |= 1u << other;
    });
  });
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

// The lowest lane, and whether it is this one.
Step elect(Warp& warp, const Instr& instr, uint32_t lanes) {
  const auto leader = static_cast<uint32_t>(std::countr_zero(lanes));
  const Operand& to = instr.operands[0];
  Lanes values{};
  values[leader] = 1;
  write_same(warp, to.elements[0], leader, lanes);
  write(warp, to.elements[1], values, lanes);
  return Step::next;
}

Step active_lanes(Warp& warp, const Instr& instr, uint32_t lanes) {
  write_same(warp, instr.operands[0], lanes, lanes);
  return Step::next;
}

Handler shuffle_handler(const Instr& instr) {
  if (instr.has("idx")) return shuffle<Shuffle::idx>;
  if (instr.has("up")) return shuffle<Shuffle::up>;
  if (instr.has("down")) return shuffle<Shuffle::down>;
  return instr.has("bfly") ? shuffle<Shuffle::bfly> : nullptr;
}

Handler vote_handler(const Instr& instr) {
  if (instr.has("ballot")) return vote<Vote::ballot>;
  if (instr.has("any")) return vote<Vote::any>;
  if (instr.has("all")) return vote<Vote::all>;
  return instr.has("uni") ? vote<Vote::uni> : nullptr;
}

}  // namespace

Handler lane_handler(const Instr& instr) {
  const std::string& name = instr.parts[0];
  const std::string& type = instr.parts.back();
  if (name == "activemask") return active_lanes;
  if (instr.control != Control::members) return nullptr;
  if (name == "shfl") return shuffle_handler(instr);
  if (name == "vote") return vote_handler(instr);
  if (name == "elect") return instr.operands[0].kind == Operand::Kind::vector ? elect : nullptr;
  if (name == "match" && instr.has("any")) return type == "b64" ? match_any<uint64_t> : match_any<uint32_t>;
  if (name == "redux" && type == "s32") return reduce_handler<int32_t>(instr);
  return name == "redux" && (type == "u32" || type == "b32") ? reduce_handler<uint32_t>(instr) : nullptr;
}

}  // namespace dgrt::emulator
