// Little-endian integers at fixed offsets of a file's bytes: what the formats in this folder share.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dgrt {

inline constexpr uint64_t file_alignment =
    64;  // lets a mapped file be handed to the driver in place

// Requires: value + 63 does not wrap around.
inline uint64_t align_up(uint64_t value) {
  return (value + file_alignment - 1) / file_alignment * file_alignment;
}

// Requires, like get(): the bytes lie inside the file.
template <class T>
void put(std::span<std::byte> file, size_t offset, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    file[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

template <class T>
T get(std::span<const std::byte> file, size_t offset) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<T>(std::to_integer<uint8_t>(file[offset + i])) << (8 * i);
  return value;
}

inline bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace dgrt
