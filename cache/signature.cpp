#include "cache/signature.h"

#include <fcntl.h>
#include <sodium/crypto_sign.h>
#include <sodium/utils.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "runtime/base/fs.h"

namespace dgrt {
namespace {

constexpr std::string_view purpose = "dgrt bundle signature 1";
constexpr std::string_view line_start = "dgrt-ed25519 ";
constexpr size_t max_file_bytes = 4096;

using Signature = std::array<uint8_t, crypto_sign_BYTES>;

// The two hashes of a bundle's bytes and this code need no sodium_init(): see runtime/base/hash.cpp.
struct KeyPair {
  explicit KeyPair(const SecretKey& seed) {
    crypto_sign_seed_keypair(public_key.data(), expanded.data(), seed.data());
  }
  ~KeyPair() { sodium_memzero(expanded.data(), expanded.size()); }
  PublicKey public_key;
  std::array<uint8_t, crypto_sign_SECRETKEYBYTES> expanded;
};

using Message = std::array<uint8_t, purpose.size() + sizeof(Digest)>;

Message message_of(const Digest& digest) {
  Message message;
  std::memcpy(message.data(), purpose.data(), purpose.size());
  std::memcpy(message.data() + purpose.size(), digest.data(), digest.size());
  return message;
}

Result<std::string> read_text(const std::string& path, bool is_secret) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  FileInfo info;
  std::vector<std::byte> bytes;
  int code = file.is_open() ? real_fs().stat(file, &info) : errno;
  if (code == 0 && info.kind != FileInfo::Kind::regular)
    return error(DGRT_IO_ERROR, "{}: not a regular file", path);
  if (code == 0 && is_secret && (info.mode & 077) != 0)
    return error(DGRT_IO_ERROR, "{}: mode={:04o}: a secret key must be its owner's alone (0600)",
                 path, info.mode);
  if (code == 0) code = read_all(real_fs(), file, max_file_bytes, &bytes);
  if (code != 0) return error(DGRT_IO_ERROR, "{}: {}", path, errno_text(code));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::string_view without_newline(std::string_view text) {
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return text;
}

}  // namespace

PublicKey public_key_of(const SecretKey& secret) { return KeyPair(secret).public_key; }

Result<SecretKey> make_secret_key() {
  SecretKey secret;
  if (::getrandom(secret.data(), secret.size(), 0) != ssize_t{secret.size()})
    return error(DGRT_IO_ERROR, "random numbers: {}", errno_text(errno));
  return secret;
}

Status write_secret_key(const std::string& path, const SecretKey& secret) {
  const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  const std::string line = to_hex(secret) + "\n";
  int code = file.is_open() ? 0 : errno;
  if (code == 0) code = write_all(real_fs(), file, std::as_bytes(std::span(line)));
  if (code == 0) code = real_fs().sync(file);
  return code == 0 ? ok() : error(DGRT_IO_ERROR, "key={}: {}", path, errno_text(code));
}

Result<SecretKey> read_secret_key(const std::string& path) {
  DGRT_ASSIGN(const std::string text, read_text(path, true));
  const std::optional<SecretKey> secret = digest_from_hex(without_newline(text));
  if (!secret) return invalid("key={}: must hold 64 hex digits", path);
  return *secret;
}

std::string signature_path(const std::string& bundle_path) { return bundle_path + ".sig"; }

std::string make_signature(const Digest& digest, const SecretKey& secret) {
  const KeyPair keys(secret);
  const Message message = message_of(digest);
  Signature signature;
  crypto_sign_detached(signature.data(), nullptr, message.data(), message.size(),
                       keys.expanded.data());
  Digest halves[2];
  std::memcpy(halves[0].data(), signature.data(), 32);
  std::memcpy(halves[1].data(), signature.data() + 32, 32);
  return fmt::format("{}{} {}{}\n", line_start, to_hex(keys.public_key), to_hex(halves[0]),
                     to_hex(halves[1]));
}

Status check_signature(std::string_view line, const Digest& digest, const PublicKey& key) {
  const size_t key_at = line_start.size(), signature_at = key_at + 65;
  const Status malformed = invalid("signature: must be \"{}<public key> <signature>\"", line_start);
  if (line.size() != signature_at + 129 || !line.starts_with(line_start) ||
      line[key_at + 64] != ' ' || line.back() != '\n')
    return malformed;
  const std::optional<PublicKey> signer = digest_from_hex(line.substr(key_at, 64));
  const std::optional<Digest> halves[2] = {digest_from_hex(line.substr(signature_at, 64)),
                                           digest_from_hex(line.substr(signature_at + 64, 64))};
  if (!signer || !halves[0] || !halves[1]) return malformed;
  if (*signer != key)
    return invalid("signature: is by {}: must be by {}", to_hex(*signer), to_hex(key));
  Signature signature;
  std::memcpy(signature.data(), halves[0]->data(), 32);
  std::memcpy(signature.data() + 32, halves[1]->data(), 32);
  const Message message = message_of(digest);
  if (crypto_sign_verify_detached(signature.data(), message.data(), message.size(), key.data()) !=
      0)
    return invalid("signature: does not match digest {}", to_hex(digest));
  return ok();
}

Status check_signed(const Bundle& bundle, const PublicKey& key) {
  const std::string path = signature_path(bundle.path());
  const Result<std::string> line = read_text(path, false);
  if (!line.is_ok())
    return invalid("bundle {}: is not signed: {}", bundle.path(), line.status().message());
  if (const Status status = check_signature(line.value(), bundle.digest(), key); !status.is_ok())
    return invalid("bundle {}: {}", bundle.path(), status.message());
  return bundle.check_digest();
}

}  // namespace dgrt
