// Ed25519 signatures of bundles: who made it, where the digest says only what is in it. Detached, in
// FILE.sig, so that bundles stay equal to the byte whoever signs them.
//
// FILE.sig is one line: "dgrt-ed25519 <public key, 64 hex digits> <signature, 128 hex digits>\n".
// What is signed is the text "dgrt bundle signature 1" and the bundle's digest (32 bytes).
// A secret key file is one line of 64 hex digits, the seed of RFC 8032.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cache/bundle.h"

namespace dgrt {

using PublicKey = std::array<uint8_t, 32>;
using SecretKey = std::array<uint8_t, 32>;

PublicKey public_key_of(const SecretKey& secret);

// From the operating system's random numbers.
Result<SecretKey> make_secret_key();
// Mode 0600; an existing file is not replaced.
Status write_secret_key(const std::string& path, const SecretKey& secret);
// IO_ERROR: not readable, or others may read it. INVALID_ARGUMENT: no key.
Result<SecretKey> read_secret_key(const std::string& path);

std::string signature_path(const std::string& bundle_path);  // FILE.sig

// The line of FILE.sig.
std::string make_signature(const Digest& digest, const SecretKey& secret);
// INVALID_ARGUMENT: malformed, by another key, or not of this digest.
Status check_signature(std::string_view line, const Digest& digest, const PublicKey& key);

// The bundle's content against its digest, and FILE.sig against that. INVALID_ARGUMENT: unsigned or
// wrongly signed. IO_ERROR: the content is damaged.
Status check_signed(const Bundle& bundle, const PublicKey& key);

}  // namespace dgrt
