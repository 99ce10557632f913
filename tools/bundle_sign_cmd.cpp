// dgrt bundle keygen and sign: Ed25519 signatures beside bundles. The secret key is a file that
// stays where bundles are built; engines are given the public key.
#include <nlohmann/json.hpp>

#include "cache/signature.h"
#include "tools/command.h"

namespace dgrt {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct SignOptions {
  std::string key, bundle;
  bool json = false;
};

void print_result(const OrderedJson& fields, bool json) {
  if (json) return print_json(fields);
  for (const auto& [name, value] : fields.items())
    fmt::print("{:10}  {}\n", name, value.get<std::string>());
}

int run_keygen(const SignOptions& options) {
  const Result<SecretKey> secret = make_secret_key();
  if (!secret.is_ok()) return report(secret.status(), options.json);
  if (const Status status = write_secret_key(options.key, secret.value()); !status.is_ok())
    return report(status, options.json);
  print_result({{"key", options.key}, {"public_key", to_hex(public_key_of(secret.value()))}},
               options.json);
  return 0;
}

Result<OrderedJson> sign(const SignOptions& options) {
  DGRT_ASSIGN(const SecretKey secret, read_secret_key(options.key));
  DGRT_ASSIGN(const std::unique_ptr<Bundle> bundle, Bundle::open(options.bundle));
  DGRT_TRY(bundle->verify());  // what is damaged is not vouched for
  const std::string line = make_signature(bundle->digest(), secret);
  const std::string path = signature_path(options.bundle);
  DGRT_TRY(write_bundle(path, std::as_bytes(std::span(line))));
  return OrderedJson{{"signature", path},
                     {"digest", to_hex(bundle->digest())},
                     {"public_key", to_hex(public_key_of(secret))}};
}

int run_sign(const SignOptions& options) {
  const Result<OrderedJson> made = sign(options);
  if (!made.is_ok()) return report(made.status(), options.json);
  print_result(made.value(), options.json);
  return 0;
}

}  // namespace

void add_bundle_signing(CLI::App& bundle, int& exit_code) {
  const auto add = [&](const char* name, const char* what, const char* example,
                       int (*run)(const SignOptions&)) {
    CLI::App* command = bundle.add_subcommand(name, what);
    command->footer(std::string("Example: ") + example);
    const auto options = std::make_shared<SignOptions>();
    command->add_option("--key", options->key, "Secret key file")->required();
    command->add_flag("--json", options->json, "One line of JSON");
    command->callback([options, run, &exit_code] { exit_code = run(*options); });
    return std::make_pair(command, options);
  };
  add("keygen", "Make a secret key file and print its public key",
      "dgrt bundle keygen --key release.key", run_keygen);
  const auto [signing, options] = add("sign", "Sign a bundle into FILE.sig",
                                      "dgrt bundle sign --key release.key kernels.dgb", run_sign);
  signing->add_option("file", options->bundle, "Bundle")->required();
}

}  // namespace dgrt
