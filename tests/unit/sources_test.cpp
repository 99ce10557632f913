// Embedded kernel files, the override directory, and include closures.
#include "runtime/compile/sources.h"

#include <fstream>
#include <sstream>

#include "tests/support/catch.h"
#include "tests/support/temp_kernels.h"

namespace dgrt {
namespace {

std::vector<std::string> paths_of(const Closure& closure) {
  std::vector<std::string> paths;
  for (const Closure::File& file : closure.files) paths.push_back(file.path);
  return paths;
}

bool mentions(const Status& status, const char* text) {
  return status.message().find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("sources: embedded files equal the tree, byte for byte", "[unit]") {
  REQUIRE(embedded_files().size() > 1);
  for (const EmbeddedFile& file : embedded_files()) {
    std::ifstream stream(std::string(DGRT_SOURCE_DIR) + "/" + file.path, std::ios::binary);
    std::stringstream text;
    text << stream.rdbuf();
    INFO(file.path << ": differs from the tree; edited since the build?");
    CHECK((text.str() == file.text));  // parentheses: files are too long to print
  }
}

TEST_CASE("sources: kernel files and tables are found by their paths", "[unit]") {
  const Sources sources;
  const auto interface = sources.text("device/common/interface.cuh");
  REQUIRE(interface.is_ok());
  CHECK(interface.value()->find("struct alignas(64) TensorMap") != std::string::npos);
  for (const std::string& path : sources.table_paths()) {
    INFO(path);
    REQUIRE(sources.text(path).is_ok());
    CHECK(sources.text(path).value()->front() == '{');
  }
}

TEST_CASE("sources: every embedded kernel's includes resolve", "[unit]") {
  const Sources sources;
  for (const EmbeddedFile& file : embedded_files()) {
    if (!file.path.starts_with("kernels/")) continue;
    const auto closure = sources.closure(file.path.substr(8));
    INFO(file.path << ": " << closure.status().message());
    CHECK(closure.is_ok());
  }
}

TEST_CASE("sources: the closure is sorted, unique and follows nested includes", "[unit]") {
  const TempKernels kernels{
      {"a.cuh", "#include \"z/b.cuh\"\n  #  include\t\"c.cuh\" // why\n#include <cstdint>\n"},
      {"z/b.cuh", "#include \"c.cuh\"\n// #include \"missing.cuh\"\n#include \"a.cuh\""},
      {"c.cuh", ""}};
  const Sources sources(kernels.path());
  const auto closure = sources.closure("a.cuh");
  REQUIRE(closure.is_ok());
  CHECK(paths_of(*closure.value()) == std::vector<std::string>{"a.cuh", "c.cuh", "z/b.cuh"});
  CHECK(*closure.value()->files[1].text == "");
  CHECK(sources.closure("a.cuh").value() == closure.value());  // made once
}

TEST_CASE("sources: a missing include names itself and who asked", "[unit]") {
  const TempKernels kernels{{"a.cuh", "#include \"b.cuh\"\n"},
                            {"b.cuh", "#include \"gone.cuh\"\n"}};
  const Sources sources(kernels.path());
  const Status status = sources.closure("a.cuh").status();
  CHECK(status.code() == DGRT_INTERNAL);
  CHECK(mentions(status, "gone.cuh"));
  CHECK(mentions(status, "included by b.cuh"));
}

TEST_CASE("sources: an overriding file wins, others stay embedded", "[unit]") {
  const TempKernels kernels{{"device/common/interface.cuh", "// mine\n"}};
  const Sources sources(kernels.path());
  CHECK(*sources.text("device/common/interface.cuh").value() == "// mine\n");
  for (const EmbeddedFile& file : embedded_files()) {
    if (!file.path.starts_with("kernels/") || file.path.ends_with("/interface.cuh")) continue;
    CHECK(*sources.text(file.path.substr(8)).value() == file.text);
  }
}

TEST_CASE("sources: a file is read once", "[unit]") {
  const TempKernels kernels{{"a.cuh", "one"}};
  const Sources sources(kernels.path());
  const std::string* text = sources.text("a.cuh").value();
  kernels.write("a.cuh", "two");
  CHECK(sources.text("a.cuh").value() == text);
  CHECK(*text == "one");
  CHECK(*Sources(kernels.path()).text("a.cuh").value() == "two");
}

TEST_CASE("sources: bad paths and directories are errors", "[unit]") {
  const TempKernels kernels{{"dir/a.cuh", "x"}};
  const Sources sources(kernels.path());
  for (const char* path : {"", "/etc/passwd", "../a.cuh", "dir/../../a.cuh"}) {
    INFO(path);
    CHECK(sources.text(path).status().code() == DGRT_INTERNAL);
  }
  CHECK(sources.text("dir").status().code() == DGRT_IO_ERROR);
  CHECK(sources.text("none.cuh").status().code() == DGRT_INTERNAL);
  const Status status = Sources("/nonexistent/kernels").text("a.cuh").status();
  CHECK(status.code() == DGRT_IO_ERROR);
  CHECK(mentions(status, "/nonexistent/kernels"));
}

}  // namespace dgrt
