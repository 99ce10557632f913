// Ed25519 signatures of bundles: RFC 8032's own example fixes the algorithm, every flipped bit is
// seen, and a context with a key takes signed bundles alone.
#include "cache/signature.h"

#include <filesystem>

#include "tests/support/bundle_samples.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

namespace fs = std::filesystem;

// RFC 8032, 7.1, test 1: seed and public key.
constexpr const char* seed_hex = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
constexpr const char* public_hex =
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

SecretKey seed() { return *digest_from_hex(seed_hex); }

void write_text(const std::string& path, const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  test::write_bytes(path, {bytes.begin(), bytes.end()});
}

TEST_CASE("signature: keys are RFC 8032's, signatures are checked to the bit", "[unit]") {
  CHECK(to_hex(public_key_of(seed())) == public_hex);
  const PublicKey key = public_key_of(seed());
  Digest digest{};
  digest[0] = 1;
  const std::string line = make_signature(digest, seed());
  CHECK(line == make_signature(digest, seed()));
  CHECK(line.substr(0, 78) == std::string("dgrt-ed25519 ") + public_hex + " ");
  CHECK(check_signature(line, digest, key).is_ok());
  Digest other = digest;
  other[31] ^= 1;
  CHECK(check_signature(line, other, key).message().find("does not match") != std::string::npos);
  for (size_t i = 0; i < line.size(); ++i) {
    std::string bad = line;
    bad[i] = bad[i] == '0' ? '1' : '0';
    CHECK_FALSE(check_signature(bad, digest, key).is_ok());
    CHECK_FALSE(check_signature(line.substr(0, i), digest, key).is_ok());
  }
  CHECK_FALSE(check_signature(line + "\n", digest, key).is_ok());
  const PublicKey foreign = public_key_of(make_secret_key().value());
  CHECK(check_signature(line, digest, foreign).message().find("must be by " + to_hex(foreign)) !=
        std::string::npos);
}

TEST_CASE("signature: a secret key is its owner's, and is not overwritten", "[unit]") {
  test::TempDir dir;
  const std::string path = dir.path() + "/key";
  const SecretKey secret = make_secret_key().value();
  CHECK(secret != make_secret_key().value());
  REQUIRE(write_secret_key(path, secret).is_ok());
  CHECK(fs::status(path).permissions() == fs::perms(0600));
  CHECK(read_secret_key(path).value() == secret);
  CHECK(write_secret_key(path, secret).code() == DGRT_IO_ERROR);
  fs::permissions(path, fs::perms(0640));
  CHECK(read_secret_key(path).status().message().find("mode=0640") != std::string::npos);
  write_text(dir.path() + "/short", "12\n");
  fs::permissions(dir.path() + "/short", fs::perms(0600));
  CHECK(read_secret_key(dir.path() + "/short").status().code() == DGRT_INVALID_ARGUMENT);
  CHECK(read_secret_key(dir.path() + "/none").status().code() == DGRT_IO_ERROR);
}

TEST_CASE("signature: a context with a key refuses bundles that it did not sign", "[unit]") {
  test::EngineFixture fixture;
  const std::string path = fixture.dir.path() + "/a.dgb";
  test::write_bytes(path, test::bundle_bytes(test::bundle_entries()));
  const Digest digest = Bundle::open(path).value()->digest();
  fixture.options.bundle_path = path.c_str();
  fixture.options.bundle_public_key = public_hex;
  const auto check = [&](dgrt_status code, const std::string& words) {
    const auto context = Context::create(fixture.options, fixture.parts);
    INFO(context.status().message());
    CHECK(context.status().code() == code);
    CHECK(context.status().message().find(words) != std::string::npos);
  };
  check(DGRT_INVALID_ARGUMENT, "is not signed");
  write_text(signature_path(path), make_signature(digest, make_secret_key().value()));
  check(DGRT_INVALID_ARGUMENT, "signature: is by");
  write_text(signature_path(path), make_signature(digest, seed()));
  check(DGRT_OK, "");
  fixture.options.bundle_public_key = "12";
  check(DGRT_INVALID_ARGUMENT, "bundle_public_key=12");
  fixture.options.bundle_public_key = public_hex;

  // The digest is what is signed, so content that does not match it is refused, too.
  auto bytes = test::read_bytes(path);
  bytes[400] ^= std::byte{1};
  test::write_bytes(path, bytes);
  check(DGRT_IO_ERROR, "digest: does not match");
  fs::remove(path);
  check(DGRT_IO_ERROR, "a.dgb");
}

}  // namespace
}  // namespace dgrt
