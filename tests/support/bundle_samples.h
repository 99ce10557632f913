// Small bundles for tests: their entries, bytes and files.
#pragma once
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cache/bundle.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"

namespace dgrt::test {

// Two kernels, one of them by two compilers.
inline std::vector<Entry> bundle_entries() {
  return {sample_entry(2), sample_entry(1, sample_compiler(12, 9)), sample_entry(1)};
}

inline std::vector<std::byte> bundle_bytes(const std::vector<Entry>& entries) {
  std::vector<std::vector<std::byte>> files;
  for (const Entry& entry : entries) files.push_back(serialize(entry));
  Result<std::vector<std::byte>> bytes = make_bundle({files.begin(), files.end()});
  INFO(bytes.status().message());
  REQUIRE(bytes.is_ok());
  return std::move(bytes).value();
}

inline void write_bytes(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

inline std::vector<std::byte> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace dgrt::test
