// The real file layer: modes, links and errors that the cache's safety rests on; and that the
// faulty one of the tests does what the tests believe.
#include "runtime/base/fs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tests/support/catch.h"
#include "tests/support/fault_fs.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

std::vector<std::byte> pattern(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7);
  return bytes;
}

struct Fixture {
  Fixture() { REQUIRE(fs.open_root(temp.path(), &dir) == 0); }
  test::TempDir temp;
  FileSystem& fs = real_fs();
  File dir;
};

TEST_CASE_METHOD(Fixture, "files are created privately, once, and read back", "[unit]") {
  File file;
  REQUIRE(fs.create(dir, "a", &file) == 0);
  const std::vector<std::byte> bytes = pattern(100'000);
  REQUIRE(write_all(fs, file, bytes) == 0);
  CHECK(fs.sync(file) == 0);
  CHECK(fs.sync(dir) == 0);
  File again;
  CHECK(fs.create(dir, "a", &again) == EEXIST);
  CHECK_FALSE(again.is_open());

  File reader;
  REQUIRE(fs.open_read(dir, "a", &reader) == 0);
  FileInfo info, by_name;
  REQUIRE(fs.stat(reader, &info) == 0);
  CHECK(info.kind == FileInfo::Kind::regular);
  CHECK(info.mode == (0600u & ~0077u));
  CHECK(info.owner == geteuid());
  CHECK(info.size == bytes.size());
  REQUIRE(fs.stat_at(dir, "a", &by_name) == 0);
  CHECK(by_name.is_same_file(info));
  std::vector<std::byte> read;
  CHECK(read_all(fs, reader, bytes.size() - 1, &read) == EFBIG);
  REQUIRE(read_all(fs, reader, bytes.size(), &read) == 0);
  CHECK(read == bytes);
}

TEST_CASE_METHOD(Fixture, "directories are private, listed, and files in them move", "[unit]") {
  REQUIRE(fs.make_dir(dir, "sub") == 0);
  CHECK(fs.make_dir(dir, "sub") == EEXIST);
  File sub, file;
  REQUIRE(fs.open_dir(dir, "sub", &sub) == 0);
  FileInfo info;
  REQUIRE(fs.stat(sub, &info) == 0);
  CHECK(info.kind == FileInfo::Kind::directory);
  CHECK(info.mode == 0700u);
  REQUIRE(fs.create(dir, "x", &file) == 0);
  REQUIRE(fs.rename(dir, "x", sub, "y") == 0);
  std::vector<std::string> names;
  for (int i = 0; i < 2; ++i) {  // listing twice gives the same
    REQUIRE(fs.list(sub, &names) == 0);
    CHECK(names == std::vector<std::string>{"y"});
  }
  CHECK(fs.unlink(sub, "y") == 0);
  CHECK(fs.unlink(sub, "y") == ENOENT);
  REQUIRE(fs.list(sub, &names) == 0);
  CHECK(names.empty());
}

TEST_CASE_METHOD(Fixture, "symbolic links below the root are not followed", "[unit]") {
  File file;
  REQUIRE(fs.create(dir, "target", &file) == 0);
  REQUIRE(fs.make_dir(dir, "sub") == 0);
  REQUIRE(::symlink("target", (temp.path() + "/link").c_str()) == 0);
  REQUIRE(::symlink("sub", (temp.path() + "/dirlink").c_str()) == 0);
  REQUIRE(::symlink("nowhere", (temp.path() + "/dangling").c_str()) == 0);
  CHECK(fs.open_read(dir, "link", &file) == ELOOP);
  CHECK(fs.open_lock_file(dir, "link", &file) == ELOOP);
  CHECK(fs.create(dir, "dangling", &file) == EEXIST);
  const int error = fs.open_dir(dir, "dirlink", &file);
  CHECK((error == ENOTDIR || error == ELOOP));
  FileInfo info;
  REQUIRE(fs.stat_at(dir, "link", &info) == 0);
  CHECK(info.kind == FileInfo::Kind::symlink);
  // The root may be one: users link their caches to larger disks.
  CHECK(fs.open_root(temp.path() + "/dirlink", &file) == 0);
}

TEST_CASE_METHOD(Fixture, "a planted fifo does not block its reader", "[unit]") {
  REQUIRE(::mkfifo((temp.path() + "/fifo").c_str(), 0600) == 0);
  File file;
  REQUIRE(fs.open_read(dir, "fifo", &file) == 0);
  FileInfo info;
  REQUIRE(fs.stat(file, &info) == 0);
  CHECK(info.kind == FileInfo::Kind::other);
}

TEST_CASE_METHOD(Fixture, "a lock excludes every other open file, also of this process", "[unit]") {
  File first, second;
  REQUIRE(fs.open_lock_file(dir, "lock", &first) == 0);
  REQUIRE(fs.open_lock_file(dir, "lock", &second) == 0);
  REQUIRE(fs.lock(first, false) == 0);
  CHECK(fs.lock(second, false) == EWOULDBLOCK);
  REQUIRE(fs.unlock(first) == 0);
  CHECK(fs.lock(second, true) == 0);
  second.close();
  CHECK(fs.lock(first, false) == 0);
}

TEST_CASE_METHOD(Fixture, "files move their descriptor and close it once", "[unit]") {
  File a, b;
  REQUIRE(fs.create(dir, "a", &a) == 0);
  REQUIRE(fs.create(dir, "b", &b) == 0);
  const int fd = a.fd(), replaced = b.fd();
  b = std::move(a);
  CHECK_FALSE(a.is_open());
  CHECK(b.fd() == fd);
  CHECK(::close(replaced) == -1);  // closed already
  const File c(std::move(b));
  CHECK(c.fd() == fd);
  CHECK_FALSE(b.is_open());
}

TEST_CASE_METHOD(Fixture, "no program that the process starts inherits a file", "[unit]") {
  File file, lock, reader, sub;
  REQUIRE(fs.create(dir, "a", &file) == 0);
  REQUIRE(fs.open_lock_file(dir, "lock", &lock) == 0);
  REQUIRE(fs.open_read(dir, "a", &reader) == 0);
  REQUIRE(fs.make_dir(dir, "sub") == 0);
  REQUIRE(fs.open_dir(dir, "sub", &sub) == 0);
  for (const File* open : {&dir, &file, &lock, &reader, &sub})
    CHECK((::fcntl(open->fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("errors have a name and a text", "[unit]") {
  CHECK(errno_text(ENOSPC) == "No space left on device (ENOSPC)");
  CHECK(errno_text(123456) == "errno 123456");
}

TEST_CASE("the faulty file layer fails the call it was told to", "[unit]") {
  test::TempDir temp;
  test::FaultFs fs;
  fs.before = [](std::string_view call, int number) {
    return call == "create" && number == 2 ? ENOSPC : 0;
  };
  File dir, file;
  REQUIRE(fs.open_root(temp.path(), &dir) == 0);
  CHECK(fs.create(dir, "a", &file) == ENOSPC);
  CHECK(fs.create(dir, "a", &file) == 0);
  CHECK(fs.calls() == 3);

  // Short writes are continued; a disk that fills up is not success.
  const std::vector<std::byte> bytes = pattern(1000);
  fs.short_write = 1;
  CHECK(write_all(fs, file, bytes) == 0);
  FileInfo info;
  REQUIRE(fs.stat(file, &info) == 0);
  CHECK(info.size == bytes.size());
  fs.write_error = ENOSPC;
  CHECK(write_all(fs, file, bytes) == ENOSPC);

  // Nor is one that takes nothing and does not say why; it is not asked for ever.
  fs.short_write = fs.write_error = 0;
  fs.stalled_writes = 1000;
  CHECK(write_all(fs, file, bytes) == EIO);
  CHECK(fs.stalled_writes > 990);
}

}  // namespace
}  // namespace dgrt
