// The file format of one cached kernel: a single immutable file that holds everything needed to use
// it, so that no two files can ever disagree, and that proves its own integrity.
//
// Bytes, all integers little-endian (docs/cache_format.md has the same table with the reasons):
//
//   offset  size  field
//        0     8  magic: 89 44 47 45 0d 0a 1a 0a ("\x89" "DGE" CR LF SUB LF)
//        8     4  format version: 1
//       12     4  header size H: 128
//       16    32  key (BLAKE2b-256)
//       48     4  compiler, major version
//       52     4  compiler, minor version
//       56    20  compiler, ELF build id
//       76     4  zero
//       80     8  metadata size M
//       88     8  cubin offset C: H + M rounded up to a multiple of 64
//       96     8  cubin size N, at least 1
//      104     8  zero
//      112    16  checksum: XXH3-128, canonical form, of bytes [0, 112) and [128, C + N)
//      128     M  metadata: deterministic JSON text; this layer does not look inside
//    H + M     .  zero bytes up to C
//        C     N  cubin; the file ends with it
//
// Equal entries give equal bytes: no times, host names or paths. Does no file access.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"

namespace dgrt {

struct Entry {
  Key key;
  CompilerId compiler;
  std::string metadata;          // JSON text
  std::vector<std::byte> cubin;  // never empty in a file

  bool operator==(const Entry& other) const = default;
};

// Requires: entry.cubin is not empty.
std::vector<std::byte> serialize(const Entry& entry);

// Accepts exactly what serialize() writes; every length is checked before it is used. On failure
// the message names the field, its value and the rule.
Result<Entry> parse_entry(std::span<const std::byte> file);

}  // namespace dgrt
