#include "cache/bundle.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>

#include "cache/file_bytes.h"
#include "runtime/base/hash.h"

namespace dgrt {
namespace {

constexpr std::array<uint8_t, 8> magic = {0x89, 'D', 'G', 'B', '\r', '\n', 0x1a, '\n'};
constexpr uint32_t format_version = 1;
constexpr size_t header_bytes = 64, record_bytes = 80, digest_bytes = 32;

// Offsets of the tables in bundle.h.
constexpr size_t version_at = 8, header_size_at = 12, count_at = 16, file_size_at = 24,
                 reserved_at = 32, checksum_at = 48;
constexpr size_t major_at = 32, minor_at = 36, build_id_at = 40, zero_at = 60, offset_at = 64,
                 bytes_at = 72;

// Requires: header and index lie inside the file.
Checksum checksum_of(std::span<const std::byte> file, size_t num_entries) {
  return xxh3_128(
      {file.first(checksum_at), file.subspan(header_bytes, num_entries * record_bytes)});
}

auto order(const Bundle::Item& item) { return std::tie(item.key, item.compiler); }

// A path as the directory to open and the name in it.
struct Place {
  explicit Place(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash != std::string::npos) dir = path.substr(0, slash + 1);
    name = path.substr(slash + 1);  // npos + 1 is 0
  }
  std::string dir = ".", name;
};

// The open file, if nobody but this user and root can have written it.
Result<File> open_ours(FileSystem& fs, const std::string& path, uint64_t* bytes) {
  const Place place(path);
  File dir, file;
  FileInfo info;
  int code = fs.open_root(place.dir, &dir);
  if (code == 0) code = fs.open_read(dir, place.name, &file);
  if (code == 0) code = fs.stat(file, &info);
  if (code != 0) return error(DGRT_IO_ERROR, "bundle {}: {}", path, errno_text(code));
  if (info.kind != FileInfo::Kind::regular)
    return error(DGRT_IO_ERROR, "bundle {}: not a regular file", path);
  if (info.owner != geteuid() && info.owner != 0)
    return error(DGRT_IO_ERROR, "bundle {}: owner={}: must be the effective user {} or root", path,
                 info.owner, geteuid());
  if ((info.mode & 022) != 0)
    return error(DGRT_IO_ERROR, "bundle {}: mode={:04o}: must not be writable by group or others",
                 path, info.mode);
  *bytes = info.size;
  return file;
}

}  // namespace

std::string to_hex(const Digest& digest) { return Key{digest}.hex(); }

std::optional<Digest> digest_from_hex(std::string_view text) {
  const std::optional<Key> key = Key::from_hex(text);  // the same 32 bytes
  return key ? std::optional<Digest>(key->bytes) : std::nullopt;
}

Result<std::unique_ptr<Bundle>> Bundle::open(const std::string& path, const Digest* pinned,
                                             FileSystem& fs) {
  uint64_t bytes = 0;
  DGRT_ASSIGN(const File file, open_ours(fs, path, &bytes));
  if (bytes < header_bytes + digest_bytes)
    return error(DGRT_IO_ERROR, "bundle {}: size={}: too short for a bundle", path, bytes);
  void* const start = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (start == MAP_FAILED) return error(DGRT_IO_ERROR, "bundle {}: {}", path, errno_text(errno));
  std::unique_ptr<Bundle> bundle(new Bundle(path, {static_cast<const std::byte*>(start), bytes}));
  DGRT_TRY(bundle->check_header());
  DGRT_TRY(bundle->check_index());
  if (!pinned) return bundle;
  if (bundle->digest() != *pinned)
    return invalid("bundle {}: digest={}: must be {}", path, to_hex(bundle->digest()),
                   to_hex(*pinned));
  DGRT_TRY(bundle->check_digest());
  return bundle;
}

Bundle::~Bundle() { ::munmap(const_cast<std::byte*>(file_.data()), file_.size()); }

Status Bundle::bad(const std::string& why) const {
  return {DGRT_IO_ERROR, "bundle " + path_ + ": " + why};
}

Status Bundle::check_header() {
  if (std::memcmp(file_.data(), magic.data(), magic.size()) != 0) return bad("magic: not a bundle");
  const auto version = get<uint32_t>(file_, version_at);
  if (version != format_version)
    return bad(fmt::format("version={}: must be {}", version, format_version));
  const auto header_size = get<uint32_t>(file_, header_size_at);
  if (header_size != header_bytes)
    return bad(fmt::format("header size={}: must be {}", header_size, header_bytes));
  const auto file_size = get<uint64_t>(file_, file_size_at);
  if (file_size != file_.size())
    return bad(fmt::format("file size={}: the file has {} bytes", file_size, file_.size()));
  // Divided, so that no product can wrap around.
  const auto count = get<uint64_t>(file_, count_at);
  if (count > (file_.size() - header_bytes - digest_bytes) / record_bytes)
    return bad(fmt::format("entries={}: the file has {} bytes", count, file_.size()));
  if (!is_zero(file_.subspan(reserved_at, checksum_at - reserved_at)))
    return bad("reserved: must be zero");
  num_entries_ = count;
  Checksum stored;
  std::memcpy(stored.data(), file_.data() + checksum_at, stored.size());
  if (checksum_of(file_, num_entries_) != stored)
    return bad("checksum: does not match header and index");
  return ok();
}

// Accepts exactly what make_bundle() writes: after this every record can be used as it is.
Status Bundle::check_index() const {
  const uint64_t end_of_entries = file_.size() - digest_bytes;
  uint64_t end = header_bytes + num_entries_ * record_bytes;
  for (size_t i = 0; i < num_entries_; ++i) {
    const Item now = item(i);
    if (i > 0 && order(item(i - 1)) >= order(now)) return bad("index: must ascend strictly");
    if (get<uint32_t>(file_, header_bytes + i * record_bytes + zero_at) != 0)
      return bad("index: reserved bytes must be zero");
    if (now.offset != align_up(end))
      return bad(fmt::format("entry {}: offset={}: must be {}", i, now.offset, align_up(end)));
    if (now.offset > end_of_entries || now.bytes == 0 || now.bytes > end_of_entries - now.offset)
      return bad(
          fmt::format("entry {}: size={}: the file has {} bytes", i, now.bytes, file_.size()));
    end = now.offset + now.bytes;
  }
  if (align_up(end) != end_of_entries)
    return bad(fmt::format("digest: must lie at {}, lies at {}", align_up(end), end_of_entries));
  return ok();
}

Digest Bundle::digest() const {
  Digest digest;
  std::memcpy(digest.data(), file_.data() + file_.size() - digest.size(), digest.size());
  return digest;
}

Status Bundle::check_digest() const {
  return blake2b_256(file_.first(file_.size() - digest_bytes)) == digest()
             ? ok()
             : bad("digest: does not match the content");
}

Bundle::Item Bundle::item(size_t i) const {
  const auto record = file_.subspan(header_bytes + i * record_bytes, record_bytes);
  Item item;
  std::memcpy(item.key.bytes.data(), record.data(), item.key.bytes.size());
  item.compiler.major = get<uint32_t>(record, major_at);
  item.compiler.minor = get<uint32_t>(record, minor_at);
  std::memcpy(item.compiler.build_id.data(), record.data() + build_id_at,
              item.compiler.build_id.size());
  item.offset = get<uint64_t>(record, offset_at);
  item.bytes = get<uint64_t>(record, bytes_at);
  return item;
}

std::span<const std::byte> Bundle::entry_bytes(size_t i) const {
  const Item of = item(i);
  return file_.subspan(of.offset, of.bytes);
}

Result<Entry> Bundle::read(size_t i) const {
  Result<Entry> entry = parse_entry(entry_bytes(i));
  const Item of = item(i);
  if (!entry.is_ok())
    return bad(fmt::format("entry {} of {}: {}", of.key.hex(), of.compiler.name(),
                           entry.status().message()));
  if (entry.value().key != of.key || entry.value().compiler != of.compiler)
    return bad(fmt::format("entry {} of {}: holds {} of {}", of.key.hex(), of.compiler.name(),
                           entry.value().key.hex(), entry.value().compiler.name()));
  return entry;
}

std::optional<size_t> Bundle::find(const Key& key, const Want& want) const {
  size_t begin = 0, end = num_entries_;  // the first entry whose key is not less
  while (begin < end) {
    const size_t middle = begin + (end - begin) / 2;
    if (item(middle).key < key)
      begin = middle + 1;
    else
      end = middle;
  }
  std::optional<size_t> newest;
  for (size_t i = begin; i < num_entries_; ++i) {  // as many as there are compilers
    const Item now = item(i);
    if (now.key != key) break;
    if (want.first && now.compiler == *want.first) return i;
    newest = i;
  }
  return want.only_first ? std::nullopt : newest;
}

Status Bundle::verify() const {
  DGRT_TRY(check_digest());
  uint64_t end = header_bytes + num_entries_ * record_bytes;
  for (size_t i = 0; i < num_entries_; ++i) {
    const Item of = item(i);
    if (!is_zero(file_.subspan(end, of.offset - end))) return bad("padding: must be zero");
    DGRT_TRY(read(i).status());
    end = of.offset + of.bytes;
  }
  return is_zero(file_.subspan(end, file_.size() - digest_bytes - end))
             ? ok()
             : bad("padding: must be zero");
}

Result<std::vector<std::byte>> make_bundle(std::vector<std::span<const std::byte>> entry_files) {
  struct Part {
    Bundle::Item item;
    std::span<const std::byte> file;
  };
  std::vector<Part> parts;
  for (const std::span<const std::byte> file : entry_files) {
    DGRT_ASSIGN(const Entry entry, parse_entry(file));
    parts.push_back({{entry.key, entry.compiler, 0, file.size()}, file});
  }
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return order(a.item) < order(b.item); });
  std::vector<Part> once;
  for (const Part& part : parts) {
    if (once.empty() || order(once.back().item) != order(part.item))
      once.push_back(part);
    else if (!std::ranges::equal(once.back().file, part.file))
      return invalid("entry {} of {}: two with different content", part.item.key.hex(),
                     part.item.compiler.name());
  }
  uint64_t end = header_bytes + once.size() * record_bytes;
  for (Part& part : once) {
    part.item.offset = align_up(end);
    end = part.item.offset + part.item.bytes;
  }
  std::vector<std::byte> file(align_up(end) + digest_bytes);  // zeros
  std::memcpy(file.data(), magic.data(), magic.size());
  put<uint32_t>(file, version_at, format_version);
  put<uint32_t>(file, header_size_at, header_bytes);
  put<uint64_t>(file, count_at, once.size());
  put<uint64_t>(file, file_size_at, file.size());
  size_t record = header_bytes;
  for (const auto& [item, bytes] : once) {
    std::memcpy(file.data() + record, item.key.bytes.data(), item.key.bytes.size());
    put<uint32_t>(file, record + major_at, item.compiler.major);
    put<uint32_t>(file, record + minor_at, item.compiler.minor);
    std::memcpy(file.data() + record + build_id_at, item.compiler.build_id.data(),
                item.compiler.build_id.size());
    put<uint64_t>(file, record + offset_at, item.offset);
    put<uint64_t>(file, record + bytes_at, item.bytes);
    std::copy(bytes.begin(), bytes.end(), file.begin() + static_cast<ptrdiff_t>(item.offset));
    record += record_bytes;
  }
  const Checksum checksum = checksum_of(file, once.size());
  std::memcpy(file.data() + checksum_at, checksum.data(), checksum.size());
  const Digest digest = blake2b_256(std::span(file).first(file.size() - digest_bytes));
  std::memcpy(file.data() + file.size() - digest_bytes, digest.data(), digest.size());
  return file;
}

Status write_bundle(const std::string& path, std::span<const std::byte> bytes, FileSystem& fs) {
  const Place place(path);
  const auto failed = [&](int code) {
    return error(DGRT_IO_ERROR, "output={}: {}", path, errno_text(code));
  };
  File dir, file;
  if (const int code = fs.open_root(place.dir, &dir)) return failed(code);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const std::string temp =
      fmt::format("{}.tmp-{:x}{:08x}-{:x}", place.name, static_cast<uint64_t>(now.tv_sec),
                  static_cast<uint64_t>(now.tv_nsec), static_cast<uint32_t>(::getpid()));
  if (const int code = fs.create(dir, temp, &file)) return failed(code);
  int code = write_all(fs, file, bytes);
  if (code == 0 && ::fchmod(file.fd(), 0644) != 0) code = errno;
  if (code == 0) code = fs.sync(file);
  if (code == 0) code = fs.rename(dir, temp, dir, place.name);
  if (code != 0) {
    (void)fs.unlink(dir, temp);
    return failed(code);
  }
  code = fs.sync(dir);  // EINVAL: this file system cannot sync a directory
  return code == 0 || code == EINVAL ? ok() : failed(code);
}

}  // namespace dgrt
