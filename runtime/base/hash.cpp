#include "runtime/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace dgrt {
namespace {

// sodium_init() is left out on purpose: it opens the random device and aborts the process where
// there is none. Hashing works without it, on the portable implementation, and keys are short.
constexpr size_t digest_bytes = 32;

}  // namespace

Blake2b::Blake2b() { crypto_generichash_init(&state_, nullptr, 0, digest_bytes); }

void Blake2b::add_header(char type, uint64_t value) {
  unsigned char header[9];
  header[0] = static_cast<unsigned char>(type);
  for (int i = 0; i < 8; ++i) header[1 + i] = static_cast<unsigned char>(value >> (8 * i));
  crypto_generichash_update(&state_, header, sizeof(header));
}

Blake2b& Blake2b::add(std::span<const std::byte> bytes) {
  add_header('s', bytes.size());
  crypto_generichash_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()),
                            bytes.size());
  return *this;
}

Blake2b& Blake2b::add(std::string_view text) {
  return add(std::as_bytes(std::span(text.data(), text.size())));
}

Blake2b& Blake2b::add(uint64_t value) {
  add_header('u', value);
  return *this;
}

std::array<uint8_t, 32> Blake2b::digest() const {
  crypto_generichash_state state = state_;  // finalising ends a state
  std::array<uint8_t, digest_bytes> digest;
  crypto_generichash_final(&state, digest.data(), digest.size());
  return digest;
}

std::array<uint8_t, 32> blake2b_256(std::span<const std::byte> bytes) {
  std::array<uint8_t, digest_bytes> digest;
  crypto_generichash(digest.data(), digest.size(),
                     reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), nullptr,
                     0);
  return digest;
}

Checksum xxh3_128(std::initializer_list<std::span<const std::byte>> parts) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (const std::span<const std::byte> part : parts)
    XXH3_128bits_update(&state, part.data(), part.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  Checksum checksum;
  for (size_t i = 0; i < checksum.size(); ++i) checksum[i] = canonical.digest[i];
  return checksum;
}

}  // namespace dgrt
