// A bundle: many cache entries in one file that is made once, shipped, and mapped read-only by
// every process that uses it.
//
// Bytes, all integers little-endian (docs/cache_format.md has the same table with the reasons):
//
//   offset  size  field
//        0     8  magic: 89 44 47 42 0d 0a 1a 0a ("\x89" "DGB" CR LF SUB LF)
//        8     4  format version: 1
//       12     4  header size: 64
//       16     8  number of entries, n
//       24     8  file size, F
//       32    16  zero
//       48    16  checksum: XXH3-128, canonical form, of bytes [0, 48) and [64, 64 + 80 n)
//       64  80 n  index: n records, strictly ascending by key, then by compiler
//       ..     .  entries (entry.h) in the order of the index, each at the first multiple of 64
//       after
//                 what lies before it; zero bytes between them
//   F - 32    32  digest: BLAKE2b-256 of bytes [0, F - 32), at the first multiple of 64 after the
//   last
//                 entry
//
// One record of the index:
//
//        0    32  key
//       32     4  compiler, major version
//       36     4  compiler, minor version
//       40    20  compiler, ELF build id
//       60     4  zero
//       64     8  offset of the entry in the file
//       72     8  its size in bytes
//
// Equal sets of entries give equal bytes. Opening checks header and index; an entry is checked when
// it is read, by its own checksum; the digest, which needs the whole file, only where somebody asks
// for it.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/entry.h"
#include "runtime/base/fs.h"
#include "runtime/base/status.h"

namespace dgrt {

using Digest = std::array<uint8_t, 32>;
std::string to_hex(const Digest& digest);  // 64 lower-case digits
std::optional<Digest> digest_from_hex(std::string_view text);

// Immutable after opening, thread safe.
class Bundle {
 public:
  struct Item {
    Key key;
    CompilerId compiler;
    uint64_t offset = 0, bytes = 0;
  };
  // Which compilers' entries a lookup takes.
  struct Want {
    const CompilerId* first = nullptr;  // this one's before all others'; null: newest first
    bool only_first = false;            // no others'
  };

  // Maps a file that is regular, owned by the effective user or root, and not writable by others; a
  // symbolic link is not followed. Like a shared library, a bundle is replaced by rename and never
  // written in place: whoever cuts a mapped file short kills its readers.
  // IO_ERROR: not accessible or no bundle. INVALID_ARGUMENT: `pinned` is not its digest.
  static Result<std::unique_ptr<Bundle>> open(const std::string& path,
                                              const Digest* pinned = nullptr,
                                              FileSystem& fs = real_fs());
  ~Bundle();
  Bundle(const Bundle&) = delete;
  Bundle& operator=(const Bundle&) = delete;

  const std::string& path() const { return path_; }
  size_t num_entries() const { return num_entries_; }
  uint64_t file_bytes() const { return file_.size(); }
  Digest digest() const;  // as stored; verify() says whether it is right
  Item item(size_t i) const;

  // The entry's file, as `dgrt cache` would have it; not checked.
  std::span<const std::byte> entry_bytes(size_t i) const;
  // IO_ERROR: damaged, or not what the index says.
  Result<Entry> read(size_t i) const;

  // Index of an entry; null if there is none. Binary search: touches a few pages.
  std::optional<size_t> find(const Key& key, const Want& want) const;

  // Only that the stored digest is the content's.
  Status check_digest() const;
  // Everything: digest, padding and each entry. The first fault found.
  Status verify() const;

 private:
  Bundle(std::string path, std::span<const std::byte> file) : path_(std::move(path)), file_(file) {}
  Status check_header();
  Status check_index() const;
  Status bad(const std::string& why) const;

  const std::string path_;
  const std::span<const std::byte> file_;  // mapped
  size_t num_entries_ = 0;
};

// The bytes of a bundle of these entry files, in any order. INVALID_ARGUMENT: one is no good entry,
// or two of the same key and compiler differ; the same entry twice counts once.
Result<std::vector<std::byte>> make_bundle(std::vector<std::span<const std::byte>> entry_files);

// Writes a file that appears complete, by rename, or not at all; mode 0644.
Status write_bundle(const std::string& path, std::span<const std::byte> bytes,
                    FileSystem& fs = real_fs());

}  // namespace dgrt
