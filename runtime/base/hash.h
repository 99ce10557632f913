// The two hashes of dgrt. Blake2b names things (keys, digests of what goes into a kernel):
// collisions must be out of reach. XXH3 finds damage in files: it must be fast, nobody trusts it
// against malice.
#pragma once
#include <sodium/crypto_generichash.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

namespace dgrt {

// BLAKE2b-256 over a sequence of fields. Each field is hashed as a type byte, its length or value
// as 8 little-endian bytes, and its bytes, so that no two different sequences share an encoding.
// One thread.
class Blake2b {
 public:
  Blake2b();
  Blake2b& add(std::string_view text);
  Blake2b& add(std::span<const std::byte> bytes);  // hashes like a string_view of the same bytes
  Blake2b& add(uint64_t value);
  // The hash of what was added so far; may be called at any point, add() may follow.
  std::array<uint8_t, 32> digest() const;

 private:
  void add_header(char type, uint64_t value);
  crypto_generichash_state state_;
};

// Plain BLAKE2b-256, what `b2sum -l 256` prints.
std::array<uint8_t, 32> blake2b_256(std::span<const std::byte> bytes);

using Checksum = std::array<uint8_t, 16>;

// XXH3-128 (seed 0) of the parts as if joined, in canonical (big-endian) form.
Checksum xxh3_128(std::initializer_list<std::span<const std::byte>> parts);
inline Checksum xxh3_128(std::span<const std::byte> bytes) { return xxh3_128({bytes}); }

}  // namespace dgrt
