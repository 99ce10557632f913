// `dgrt bundle` as its users meet it: exit codes, JSON, files that are the same to the byte, and
// that the command line refuses what is damaged. Runs the built binary; needs neither GPU nor
// compiler.
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "cache/disk_cache.h"
#include "tests/support/bundle_samples.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

using Json = nlohmann::json;
using test::read_bytes;
using test::sample_entry;
using test::TempDir;

struct Run {
  int exit_code = -1;
  std::string out;

  Json json() const { return Json::parse(out, nullptr, false); }
};

Run bundle_command(const std::string& arguments) {
  Run run;
  std::FILE* pipe = popen((DGRT_CLI_PATH " bundle " + arguments + " 2>/dev/null").c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) run.out.append(buffer, n);
  const int status = pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

struct BundleDirs {
  TempDir temp;
  const std::string cache = temp.path() + "/cache", a = temp.path() + "/a.dgb",
                    b = temp.path() + "/b.dgb", both = temp.path() + "/both.dgb";

  // A bundle of what the cache holds, by the command.
  void create(const std::string& path) {
    REQUIRE(bundle_command("create --cache-dir " + cache + " -o " + path).exit_code == 0);
  }
  void publish(const Entry& entry) {
    const auto open = DiskCache::open(cache);
    REQUIRE(open.is_ok());
    REQUIRE(open.value()->publish(entry).is_ok());
  }
};

TEST_CASE("every bundle command has help with an example", "[process]") {
  for (const char* command : {"", "create", "verify", "list", "merge", "diff"}) {
    INFO(command);
    const Run run = bundle_command(std::string(command) + " --help");
    CHECK(run.exit_code == 0);
    CHECK(run.out.find("Example: dgrt bundle") != std::string::npos);
  }
  CHECK(bundle_command("").exit_code != 0);
  CHECK(bundle_command("create").exit_code != 0);
  CHECK(bundle_command("diff one").exit_code != 0);
}

TEST_CASE_METHOD(BundleDirs, "create, verify and list agree, to the byte", "[process]") {
  publish(sample_entry(1));
  publish(sample_entry(2, test::sample_compiler(12, 9)));
  create(a);
  create(b);
  CHECK(read_bytes(a) == read_bytes(b));
  CHECK(std::filesystem::status(a).permissions() == std::filesystem::perms(0644));
  const Run checked = bundle_command("verify " + a + " --json");
  CHECK(checked.exit_code == 0);
  CHECK(checked.json()["entries"] == 2);
  const std::string digest = checked.json()["digest"];
  CHECK(bundle_command("verify " + a + " --digest " + digest).exit_code == 0);
  CHECK(bundle_command("verify " + a + " --digest " + std::string(64, '0')).exit_code == 1);
  CHECK(bundle_command("verify " + a + " --digest 12").exit_code == 1);
  const Run listed = bundle_command("list " + a + " --json");
  CHECK(listed.exit_code == 0);
  CHECK(listed.json()["files"].size() == 2);
  CHECK(listed.json()["bad"] == 0);
  CHECK(bundle_command("list " + a).out.find(digest) != std::string::npos);
}

TEST_CASE_METHOD(BundleDirs, "merge holds what both held, diff tells them apart", "[process]") {
  publish(sample_entry(1));
  create(a);
  publish(sample_entry(2));
  create(b);
  const std::string pair = a + " " + b;
  const Run differ = bundle_command("diff " + pair + " --json");
  CHECK(differ.exit_code == 1);
  CHECK(differ.json()["only_in_a"].empty());
  REQUIRE(differ.json()["only_in_b"].size() == 1);
  CHECK(differ.json()["only_in_b"][0]["key"] == sample_entry(2).key.hex());
  CHECK(bundle_command("merge " + pair + " -o " + both).exit_code == 0);
  CHECK(read_bytes(both) == read_bytes(b));
  const Run same = bundle_command("diff --json " + both + " " + b);
  CHECK(same.exit_code == 0);
  CHECK(same.json()["same"] == true);

  Entry changed = sample_entry(1);  // same name, other content
  changed.cubin[0] ^= std::byte{1};
  test::write_bytes(b, test::bundle_bytes({changed}));
  CHECK(bundle_command("diff --json " + pair).json()["changed"].size() == 1);
  std::filesystem::remove(both);
  CHECK(bundle_command("merge " + pair + " -o " + both).exit_code == 1);
  CHECK_FALSE(std::filesystem::exists(both));
}

TEST_CASE_METHOD(BundleDirs, "what is damaged or absent is refused", "[process]") {
  CHECK(bundle_command("create --cache-dir " + cache + " -o " + a).exit_code == 1);
  CHECK_FALSE(std::filesystem::exists(cache));
  publish(sample_entry(1));
  create(a);
  std::vector<std::byte> bytes = read_bytes(a);
  bytes[400] ^= std::byte{1};  // in the entry
  test::write_bytes(b, bytes);
  CHECK(bundle_command("verify " + b).exit_code == 1);
  CHECK(bundle_command("verify --json " + b).json().contains("error"));
  CHECK(bundle_command("list " + b).exit_code == 1);
  CHECK(bundle_command("list --json " + b).json()["bad"] == 1);
  CHECK(bundle_command("merge " + a + " " + b + " -o " + both).exit_code == 1);
  CHECK(bundle_command("diff " + a + " " + b).exit_code == 1);
  for (const char* command : {"verify ", "list "})
    CHECK(bundle_command(command + temp.path() + "/none.dgb").exit_code == 1);

  // A cache with a bad file is not made into a bundle, and is left as it was.
  const std::string hex = sample_entry(1).key.hex();
  const std::string stray = cache + "/v1/" + hex.substr(0, 2) + "/stray.dge";
  test::write_bytes(stray, bytes);
  CHECK(bundle_command("create --cache-dir " + cache + " -o " + both).exit_code == 1);
  CHECK_FALSE(std::filesystem::exists(both));
  CHECK(std::filesystem::exists(stray));
}

}  // namespace
}  // namespace dgrt
