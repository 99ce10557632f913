// Bits of integers, and choices between two values.
#include <algorithm>

#include "tests/emulator/scalar.h"

namespace dgrt::emulator {
namespace {

constexpr auto bit_and = []<class T>(T a, T b) { return static_cast<T>(a & b); };
constexpr auto bit_or = []<class T>(T a, T b) { return static_cast<T>(a | b); };
constexpr auto bit_xor = []<class T>(T a, T b) { return static_cast<T>(a ^ b); };
constexpr auto bit_not = []<class T>(T a) {
  if constexpr (std::is_same_v<T, bool>)
    return !a;
  else
    return static_cast<T>(~a);
};
constexpr auto is_zero = []<class T>(T a) { return static_cast<T>(a == 0); };

// Shifts by more than the width are by the width.
constexpr auto shift_left = []<class T>(T a, uint32_t n) {
  return n >= 8 * sizeof(T) ? T{0} : static_cast<T>(static_cast<uint64_t>(a) << n);
};
constexpr auto shift_right = []<class T>(T a, uint32_t n) {
  const uint32_t most = 8 * sizeof(T) - 1;
  if (n > most) return static_cast<T>(a < 0 ? -1 : 0);
  return static_cast<T>(a >> n);
};
constexpr auto funnel_left = [](uint32_t a, uint32_t b, uint32_t n) {
  return static_cast<uint32_t>((static_cast<uint64_t>(b) << 32 | a) << n >> 32);
};
constexpr auto funnel_right = [](uint32_t a, uint32_t b, uint32_t n) {
  return static_cast<uint32_t>((static_cast<uint64_t>(b) << 32 | a) >> n);
};
template <auto F>
constexpr auto wrapped = [](uint32_t a, uint32_t b, uint32_t n) { return F(a, b, n & 31); };
template <auto F>
constexpr auto clamped = [](uint32_t a, uint32_t b, uint32_t n) { return F(a, b, std::min(n, 32u)); };

constexpr auto count_ones = []<class T>(T a) { return static_cast<uint32_t>(std::popcount(a)); };
constexpr auto count_leading_zeros = []<class T>(T a) { return static_cast<uint32_t>(std::countl_zero(a)); };
constexpr auto reversed = []<class T>(T a) {
  T result = 0;
  for (uint32_t i = 0; i < 8 * sizeof(T); ++i) result = static_cast<T>(result << 1 | (a >> i & 1));
  return result;
};
// Position of the highest bit that is no sign, or its distance from the top.
template <bool shift_amount>
constexpr auto find_highest = []<class T>(T a) {
  using U = std::make_unsigned_t<T>;
  const U bits = a < 0 ? static_cast<U>(~a) : static_cast<U>(a);
  if (bits == 0) return ~0u;
  const auto zeros = static_cast<uint32_t>(std::countl_zero(bits));
  return shift_amount ? zeros : 8 * static_cast<uint32_t>(sizeof(T)) - 1 - zeros;
};

constexpr auto low_bits = []<class T>(uint32_t count, T) {
  return count >= 8 * sizeof(T) ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << count) - 1);
};
constexpr auto extract = []<class T>(T a, uint32_t position, uint32_t length) {
  using U = std::make_unsigned_t<T>;
  const uint32_t width = 8 * sizeof(T), at = position & 255, count = length & 255;
  const U mask = low_bits(count, U{});
  const U field = shift_right(static_cast<U>(a), at) & mask;
  if (!std::is_signed_v<T> || count == 0) return static_cast<T>(field);
  const uint32_t sign_at = std::min(at + count - 1, width - 1);
  const bool negative = (static_cast<U>(a) >> sign_at & 1) != 0;
  const U valid = low_bits(std::min(count, at < width ? width - at : 0), U{});
  return static_cast<T>(negative ? (field & valid) | static_cast<U>(~valid) : field);
};
constexpr auto insert = []<class T>(T a, T b, uint32_t position, uint32_t length) {
  const uint32_t at = position & 255;
  const T mask = shift_left(low_bits(length & 255, T{}), at);
  return static_cast<T>((b & ~mask) | (shift_left(a, at) & mask));
};
constexpr auto permute = [](uint32_t a, uint32_t b, uint32_t selectors) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t selector = selectors >> 4 * i & 15;
    const auto byte = static_cast<uint8_t>(bytes >> 8 * (selector & 7));
    const uint8_t value = selector & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
    result |= static_cast<uint32_t>(value) << 8 * i;
  }
  return result;
};
constexpr auto choose = []<class T>(T a, T b, bool first) { return first ? a : b; };
constexpr auto choose_by_sign = []<class T, class C>(T a, T b, C c) { return c >= 0 ? a : b; };

template <class T>
Step insert_bits(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t *a = source(warp, instr.operands[1]), *b = source(warp, instr.operands[2]);
  const uint64_t *at = source(warp, instr.operands[3]), *count = source(warp, instr.operands[4]);
  Lanes values;
  for (uint32_t i = 0; i < 32; ++i)
    values[i] = insert(static_cast<T>(a[i]), static_cast<T>(b[i]), static_cast<uint32_t>(at[i]),
                       static_cast<uint32_t>(count[i]));
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

// Any function of three bits, given as its values for 000 to 111.
Step logic3(Warp& warp, const Instr& instr, uint32_t lanes) {
  const uint64_t *a = source(warp, instr.operands[1]), *b = source(warp, instr.operands[2]);
  const uint64_t* c = source(warp, instr.operands[3]);
  const auto table = static_cast<uint32_t>(instr.operands[4].value);
  Lanes values{};
  for (uint32_t row = 0; row < 8; ++row) {
    if ((table >> row & 1) == 0) continue;
    for (uint32_t i = 0; i < 32; ++i) {
      const uint64_t bits = (row & 4 ? a[i] : ~a[i]) & (row & 2 ? b[i] : ~b[i]) & (row & 1 ? c[i] : ~c[i]);
      values[i] |= static_cast<uint32_t>(bits);
    }
  }
  write(warp, instr.operands[0], values, lanes);
  return Step::next;
}

Handler predicate_handler(std::string_view name) {
  if (name == "and") return map2<bit_and, bool, bool, bool>;
  if (name == "or") return map2<bit_or, bool, bool, bool>;
  if (name == "xor") return map2<bit_xor, bool, bool, bool>;
  return name == "not" ? map1<bit_not, bool, bool> : nullptr;
}

Handler funnel_handler(const Instr& instr) {
  const bool wraps = instr.has("wrap");
  if (instr.has("l"))
    return wraps ? map3<wrapped<funnel_left>, uint32_t, uint32_t, uint32_t, uint32_t>
                 : map3<clamped<funnel_left>, uint32_t, uint32_t, uint32_t, uint32_t>;
  return wraps ? map3<wrapped<funnel_right>, uint32_t, uint32_t, uint32_t, uint32_t>
               : map3<clamped<funnel_right>, uint32_t, uint32_t, uint32_t, uint32_t>;
}

Handler choice_handler(const Instr& instr) {
  const auto choice = [&]<class T>(T) -> Handler {
    if (instr.parts[0] == "selp") return map3<choose, T, T, T, bool>;
    return instr.parts.back() == "s32" ? map3<choose_by_sign, T, T, T, int32_t>
                                       : map3<choose_by_sign, T, T, T, float>;
  };
  const std::string& type = instr.parts[1];
  if (const Handler handler = by_int(type, choice)) return handler;
  return by_float(type, choice);
}

}  // namespace

Handler bit_handler(const Instr& instr) {
  const std::string& name = instr.parts[0];
  const std::string& type = instr.parts.back();
  if (type == "pred") return predicate_handler(name);
  if (name == "selp" || name == "slct") return choice_handler(instr);
  if (name == "shf") return funnel_handler(instr);
  if (name == "lop3") return logic3;
  if (name == "prmt") return type == "b32" ? map3<permute, uint32_t, uint32_t, uint32_t, uint32_t> : nullptr;
  return by_int(type, [&]<class T>(T) -> Handler {
    using U = std::make_unsigned_t<T>;
    if (name == "and") return map2<bit_and, T, T, T>;
    if (name == "or") return map2<bit_or, T, T, T>;
    if (name == "xor") return map2<bit_xor, T, T, T>;
    if (name == "not") return map1<bit_not, T, T>;
    if (name == "cnot") return map1<is_zero, T, T>;
    if (name == "shl") return map2<shift_left, T, T, uint32_t>;
    if (name == "shr") return map2<shift_right, T, T, uint32_t>;
    if (name == "popc") return map1<count_ones, uint32_t, U>;
    if (name == "clz") return map1<count_leading_zeros, uint32_t, U>;
    if (name == "brev") return map1<reversed, U, U>;
    if (name == "bfe") return map3<extract, T, T, uint32_t, uint32_t>;
    if (name == "bfi") return insert_bits<U>;
    if (name == "bfind")
      return instr.has("shiftamt") ? map1<find_highest<true>, uint32_t, T> : map1<find_highest<false>, uint32_t, T>;
    return nullptr;
  });
}

}  // namespace dgrt::emulator
