// Text forms of keys and compiler ids: they are file names in the cache, so they never change.
#include "runtime/base/kernel_id.h"

#include <span>

#include "runtime/base/format.h"

namespace dgrt {
namespace {

std::string hex_digits(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

// -1 unless a lower-case hex digit.
int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string Key::hex() const { return hex_digits(bytes); }

std::optional<Key> Key::from_hex(std::string_view text) {
  Key key;
  if (text.size() != 2 * key.bytes.size()) return std::nullopt;
  for (size_t i = 0; i < key.bytes.size(); ++i) {
    const int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    key.bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return key;
}

std::string CompilerId::name() const {
  return fmt::format("nvrtc-{}.{}-{}", major, minor, hex_digits(std::span(build_id).first(8)));
}

}  // namespace dgrt
