// Small cache entries for the tests of entries and of the disk cache.
#pragma once
#include <cstdint>
#include <string>

#include "cache/entry.h"

namespace dgrt::test {

inline Key sample_key(uint8_t seed) {
  Key key;
  for (size_t i = 0; i < key.bytes.size(); ++i) key.bytes[i] = static_cast<uint8_t>(seed * 7 + i);
  return key;
}

inline CompilerId sample_compiler(uint32_t major = 13, uint32_t minor = 0, uint8_t build = 0xa0) {
  CompilerId compiler{major, minor, {}};
  for (size_t i = 0; i < compiler.build_id.size(); ++i)
    compiler.build_id[i] = static_cast<uint8_t>(build + i);
  return compiler;
}

// The code depends on the key, so that entries cannot be mistaken for one another.
inline Entry sample_entry(uint8_t seed, const CompilerId& compiler = sample_compiler(),
                          size_t cubin_bytes = 150) {
  Entry entry{sample_key(seed), compiler, R"({"entry":"sample","num_registers":168})", {}};
  entry.cubin.resize(cubin_bytes);
  for (size_t i = 0; i < cubin_bytes; ++i)
    entry.cubin[i] = static_cast<std::byte>((i * 31 + seed * 17 + compiler.minor) & 0xff);
  return entry;
}

}  // namespace dgrt::test
