// What names a compiled kernel on disk: the key (everything that changes the binary but the compiler) and
// the compiler that made it.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dgrt {

struct Key {
  std::array<uint8_t, 32> bytes{};  // BLAKE2b-256, see runtime/compile/key.h
  std::string hex() const;          // 64 lower-case digits
  static std::optional<Key> from_hex(std::string_view text);
  auto operator<=>(const Key&) const = default;
};

// nvrtcVersion() has no patch number, so the ELF build id of libnvrtc stands beside it.
struct CompilerId {
  uint32_t major = 0, minor = 0;    // NVRTC 13.0
  std::array<uint8_t, 20> build_id{};
  std::string name() const;         // "nvrtc-13.0-<16 hex digits of the build id>"; part of the entry's file name
  auto operator<=>(const CompilerId&) const = default;  // orders by version first: newest is largest
};

}  // namespace dgrt
