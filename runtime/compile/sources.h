// Sources: the kernel templates and heuristics tables that travel inside the library. A development
// override (DGRT_KERNELS_DIR) replaces kernel files by those of a directory.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace dgrt {

struct EmbeddedFile {
  std::string
      path;  // relative to the project's root: "kernels/gemm/x.cuh", "heuristics/tables/x.json"
  std::string text;
};

// Defined by the source file that tools/embed_files.cmake generates.
const std::vector<EmbeddedFile>& embedded_files();

// A kernel header and everything that it includes, directly or not.
struct Closure {
  struct File {
    std::string path;  // relative to kernels/, as written in #include "..."
    const std::string* text;
  };
  std::vector<File> files;           // sorted by path
  std::array<uint8_t, 32> digest{};  // BLAKE2b-256 over paths and bytes
};

// Thread safe. A file is read once: the bytes that a key was made of are the bytes that are
// compiled.
class Sources {
 public:
  // `override_dir`: a directory laid out like kernels/; its files win over embedded ones. "": none.
  explicit Sources(std::string override_dir = {});
  Sources(const Sources&) = delete;
  Sources& operator=(const Sources&) = delete;

  // Text of a kernel file (path relative to kernels/) or a table ("heuristics/tables/x.json"). The
  // pointer is valid as long as this object. INTERNAL: no such file.
  Result<const std::string*> text(std::string_view path) const;

  // `#include "..."` is resolved against kernels/ alone; conditions around it are ignored, so a
  // file counts even if this compile skips it. INTERNAL: names the file that is missing and who
  // asks.
  Result<const Closure*> closure(const std::string& header) const;

  // Paths of all embedded tables, sorted.
  std::vector<std::string> table_paths() const;

 private:
  Result<const std::string*> find(std::string_view path) const;   // requires mutex_
  Result<Closure> make_closure(const std::string& header) const;  // requires mutex_

  std::string override_dir_;
  mutable std::mutex mutex_;
  // Both guarded by mutex_. Nodes of std::map do not move, so pointers into them stay valid.
  mutable std::map<std::string, std::string, std::less<>> texts_;
  mutable std::map<std::string, Closure, std::less<>> closures_;
};

}  // namespace dgrt
