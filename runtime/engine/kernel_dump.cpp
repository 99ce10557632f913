#include "runtime/engine/kernel_dump.h"

#include <cerrno>
#include <span>

#include "runtime/base/fs.h"

namespace dgrt {
namespace {

Status write_file(const std::string& dir, const File& root, const std::string& name,
                  std::span<const std::byte> bytes) {
  FileSystem& fs = real_fs();
  File file;
  int error = fs.unlink(root, name);
  if (error == 0 || error == ENOENT) error = fs.create(root, name, &file);
  if (error == 0) error = write_all(fs, file, bytes);
  if (error == 0) return ok();
  return dgrt::error(DGRT_IO_ERROR, "DGRT_DUMP: {}/{}: {}", dir, name, errno_text(error));
}

}  // namespace

Status dump_kernel(const std::string& dir, const Key& key, const Instance& instance,
                   const Compiled& compiled) {
  FileSystem& fs = real_fs();
  File root;
  const int made = fs.make_root(dir);
  if (made != 0 && made != EEXIST)
    return error(DGRT_IO_ERROR, "DGRT_DUMP={}: {}", dir, errno_text(made));
  if (const int opened = fs.open_root(dir, &root); opened != 0)
    return error(DGRT_IO_ERROR, "DGRT_DUMP={}: {}", dir, errno_text(opened));
  const std::string stem = fmt::format("{}.{}", instance.entry, key.hex().substr(0, 8));
  const std::string source = source_text(instance);
  DGRT_TRY(write_file(dir, root, stem + ".cu", std::as_bytes(std::span(source))));
  DGRT_TRY(write_file(dir, root, stem + ".cubin", std::as_bytes(std::span(compiled.cubin))));
  return write_file(dir, root, stem + ".log", std::as_bytes(std::span(compiled.log)));
}

}  // namespace dgrt
