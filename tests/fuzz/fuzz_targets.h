// What the fuzzers feed: every parser of bytes that somebody else wrote. Each target aborts when an
// input breaks a promise of its parser; refusing an input is no failure. The unit tests run the
// same targets over tests/fuzz/corpus.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dgrt::fuzz {

using Bytes = std::span<const std::byte>;

// Cache entries and bundles, also with checksums and digest made right, or nothing behind them
// would ever be reached.
void entry(Bytes input);
void bundle(Bytes input);
void table(Bytes input);     // heuristics/tables/<stem>.json
void manifest(Bytes input);  // prewarm manifests and recordings, up to the choice of kernels
void model(Bytes input);     // a model's config.json

struct Target {
  std::string_view name;  // of the folder in tests/fuzz/corpus, too
  void (*run)(Bytes input);
};
std::span<const Target> targets();

}  // namespace dgrt::fuzz
