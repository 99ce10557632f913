#include "cache/entry.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "cache/file_bytes.h"
#include "runtime/base/hash.h"

namespace dgrt {
namespace {

// As in PNG: a byte above 127, both kinds of line ends and an end-of-file mark show a file that
// went through a text conversion.
constexpr std::array<uint8_t, 8> magic = {0x89, 'D', 'G', 'E', '\r', '\n', 0x1a, '\n'};
constexpr uint32_t format_version = 1;
constexpr size_t header_bytes = 128;

// Offsets of the table in entry.h.
constexpr size_t version_at = 8, header_size_at = 12, key_at = 16, major_at = 48, minor_at = 52,
                 build_id_at = 56, reserved_32_at = 76, metadata_size_at = 80, cubin_offset_at = 88,
                 cubin_size_at = 96, reserved_64_at = 104, checksum_at = 112;

template <size_t size>
void get_bytes(std::span<const std::byte> file, size_t offset, std::array<uint8_t, size>* out) {
  std::memcpy(out->data(), file.data() + offset, size);
}

// Requires: at least a header.
Checksum checksum_of(std::span<const std::byte> file) {
  return xxh3_128({file.first(checksum_at), file.subspan(header_bytes)});
}

}  // namespace

std::vector<std::byte> serialize(const Entry& entry) {
  assert(!entry.cubin.empty());
  const size_t cubin_offset = align_up(header_bytes + entry.metadata.size());
  std::vector<std::byte> file(cubin_offset + entry.cubin.size());  // zeros
  std::memcpy(file.data(), magic.data(), magic.size());
  put<uint32_t>(file, version_at, format_version);
  put<uint32_t>(file, header_size_at, header_bytes);
  std::memcpy(file.data() + key_at, entry.key.bytes.data(), entry.key.bytes.size());
  put<uint32_t>(file, major_at, entry.compiler.major);
  put<uint32_t>(file, minor_at, entry.compiler.minor);
  std::memcpy(file.data() + build_id_at, entry.compiler.build_id.data(),
              entry.compiler.build_id.size());
  put<uint64_t>(file, metadata_size_at, entry.metadata.size());
  put<uint64_t>(file, cubin_offset_at, cubin_offset);
  put<uint64_t>(file, cubin_size_at, entry.cubin.size());
  std::copy_n(reinterpret_cast<const std::byte*>(entry.metadata.data()), entry.metadata.size(),
              file.data() + header_bytes);
  std::copy(entry.cubin.begin(), entry.cubin.end(), file.begin() + cubin_offset);
  const Checksum checksum = checksum_of(file);
  std::memcpy(file.data() + checksum_at, checksum.data(), checksum.size());
  return file;
}

Result<Entry> parse_entry(std::span<const std::byte> file) {
  // Magic and version come before the size: a future version may have a shorter header.
  if (file.size() < header_size_at)
    return error(DGRT_IO_ERROR, "size={}: too short for a cache entry", file.size());
  if (std::memcmp(file.data(), magic.data(), magic.size()) != 0)
    return error(DGRT_IO_ERROR, "magic: not a cache entry");
  const uint32_t version = get<uint32_t>(file, version_at);
  if (version != format_version)
    return error(DGRT_IO_ERROR, "version={}: must be {}", version, format_version);
  if (file.size() < header_bytes)
    return error(DGRT_IO_ERROR, "size={}: the header alone has {} bytes", file.size(),
                 header_bytes);
  const uint32_t header_size = get<uint32_t>(file, header_size_at);
  if (header_size != header_bytes)
    return error(DGRT_IO_ERROR, "header size={}: must be {}", header_size, header_bytes);

  // Written so that no sum can wrap around: each size is bounded by what is left of the file.
  const uint64_t metadata_size = get<uint64_t>(file, metadata_size_at);
  if (metadata_size > file.size() - header_bytes)
    return error(DGRT_IO_ERROR, "metadata size={}: the file has {} bytes", metadata_size,
                 file.size());
  const uint64_t cubin_offset = get<uint64_t>(file, cubin_offset_at);
  if (cubin_offset != align_up(header_bytes + metadata_size))
    return error(DGRT_IO_ERROR, "cubin offset={}: must be {}", cubin_offset,
                 align_up(header_bytes + metadata_size));
  const uint64_t cubin_size = get<uint64_t>(file, cubin_size_at);
  if (cubin_size == 0 || cubin_offset > file.size() || cubin_size != file.size() - cubin_offset)
    return error(DGRT_IO_ERROR, "cubin size={}: offset {}, file {} bytes", cubin_size, cubin_offset,
                 file.size());
  if (get<uint32_t>(file, reserved_32_at) != 0 || get<uint64_t>(file, reserved_64_at) != 0 ||
      !is_zero(
          file.subspan(header_bytes + metadata_size, cubin_offset - header_bytes - metadata_size)))
    return error(DGRT_IO_ERROR, "padding: must be zero");
  Checksum stored;
  get_bytes(file, checksum_at, &stored);
  if (checksum_of(file) != stored)
    return error(DGRT_IO_ERROR, "checksum: does not match the content");

  Entry entry;
  get_bytes(file, key_at, &entry.key.bytes);
  entry.compiler.major = get<uint32_t>(file, major_at);
  entry.compiler.minor = get<uint32_t>(file, minor_at);
  get_bytes(file, build_id_at, &entry.compiler.build_id);
  entry.metadata.assign(reinterpret_cast<const char*>(file.data()) + header_bytes, metadata_size);
  const auto cubin = file.subspan(cubin_offset);
  entry.cubin.assign(cubin.begin(), cubin.end());
  return entry;
}

}  // namespace dgrt
