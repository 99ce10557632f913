// `dgrt prewarm` at scale: whatever divides the work (workers, shards, an interruption), the
// kernels are the same to the byte; and what a live process recorded is what is made. Runs the
// built binary and compiles a few tiny kernels.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "runtime/engine/prepare.h"
#include "tests/support/bundle_samples.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/temp_dir.h"
#include "tools/prewarm_input.h"

namespace dgrt {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using namespace std::chrono_literals;

struct Run {
  int exit_code = -1;
  std::string out;  // standard output

  Json json() const { return Json::parse(out, nullptr, false); }
};

Run run_dgrt(const std::string& arguments, const std::string& redirect = " 2>/dev/null") {
  Run run;
  std::FILE* pipe = popen((DGRT_CLI_PATH " " + arguments + redirect).c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) run.out.append(buffer, n);
  const int status = pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

// Some kernels that are quickly compiled: input ops in their variants.
constexpr const char* manifest_text = R"([
  {"op": "quant_fp8", "k": 128, "max_m": 4096, "block": "1x128", "scale_major": "k"},
  {"op": "quant_fp8", "k": 7168, "max_m": 4096, "block": "1x128", "scale_major": "mn"},
  {"op": "quant_fp8", "k": 7168, "max_m": 4096, "block": "128x128", "scale_major": "k"},
  {"op": "quant_fp8", "k": 128, "max_m": 4096, "block": "128x128", "scale_major": "mn"},
  {"op": "scale_layout", "k_blocks": 56, "max_m": 4096}])";

struct Prewarm {
  Prewarm() { std::ofstream(manifest) << manifest_text; }
  const test::ScopedEnv log{"DGRT_LOG", "info"};
  std::string command(const std::string& name) const {
    return "prewarm --manifest " + manifest + " --json --cache-dir " + path(name) + " --bundle " +
           path(name) + ".dgb";
  }
  std::string path(const std::string& name) const { return dir.path() + "/" + name; }
  auto bundle(const std::string& name) const { return test::read_bytes(path(name) + ".dgb"); }

  const test::TempDir dir;
  const std::string manifest = dir.path() + "/manifest.json";
};

TEST_CASE_METHOD(Prewarm, "workers, threads and shards make the same bundle", "[process]") {
  const Run by_thread = run_dgrt(command("thread") + " --jobs 1");
  REQUIRE(by_thread.exit_code == 0);
  const auto num_kernels = by_thread.json()["kernels"].get<size_t>();
  CHECK(num_kernels >= 4);  // fewer are left to threads
  CHECK(by_thread.json()["compiled"] == num_kernels);
  CHECK(by_thread.json()["descs"] == 5);

  const Run by_workers = run_dgrt(command("workers") + " --jobs 3");
  CHECK(by_workers.exit_code == 0);
  CHECK(by_workers.json()["digest"] == by_thread.json()["digest"]);
  CHECK(bundle("workers") == bundle("thread"));
  fs::remove_all(path("workers"));
  const Run talking =
      run_dgrt("prewarm --jobs 3 --manifest " + manifest + " --cache-dir " + path("workers"),
               " 2>&1 >/dev/null");
  INFO(talking.out);
  CHECK(talking.out.find("by up to 3 worker processes") != std::string::npos);
  CHECK(talking.out.find("not by workers") == std::string::npos);

  size_t sum = 0;
  std::string parts;
  for (const char* i : {"0", "1", "2"}) {
    const Run shard = run_dgrt(command(i) + " --shard " + i + "/3");
    CHECK(shard.exit_code == 0);
    sum += shard.json()["compiled"].get<size_t>();
    parts += " " + path(i) + ".dgb";
  }
  CHECK(sum == num_kernels);
  CHECK(run_dgrt("bundle merge -o " + path("merged.dgb") + parts).exit_code == 0);
  CHECK(bundle("merged") == bundle("thread"));
}

TEST_CASE_METHOD(Prewarm, "an interrupted prewarm goes on where it was", "[process]") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    (void)!std::freopen("/dev/null", "w", stdout);
    const std::string cache = path("cut");
    ::execl(DGRT_CLI_PATH, "dgrt", "prewarm", "--manifest", manifest.c_str(), "--jobs", "2",
            "--cache-dir", cache.c_str(), nullptr);
    ::_exit(9);
  }
  const auto num_entries = [&] {
    size_t n = 0;
    std::error_code ignored;
    for (const auto& file : fs::recursive_directory_iterator(path("cut"), ignored))
      n += file.path().extension() == ".dge";
    return n;
  };
  int status = 0;
  while (num_entries() == 0 && ::waitpid(child, &status, WNOHANG) == 0)
    std::this_thread::sleep_for(5ms);
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  const size_t num_before = num_entries();
  CHECK(num_before > 0);
  const Run rest = run_dgrt(command("cut"));
  REQUIRE(rest.exit_code == 0);
  CHECK(rest.json()["hits"] >= num_before);
  CHECK(rest.json()["compiled"] ==
        rest.json()["kernels"].get<size_t>() - rest.json()["hits"].get<size_t>());
  CHECK(run_dgrt("cache verify --cache-dir " + path("cut")).exit_code == 0);
}

TEST_CASE_METHOD(Prewarm, "what a process records is what prewarm makes", "[process]") {
  const std::string recording = path("plans.jsonl");
  std::vector<std::string> planned;
  {
    const test::ScopedEnv record("DGRT_RECORD", recording);
    const std::string cache = path("live");
    dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
    options.device = DGRT_DEVICE_NONE;
    options.arch = "sm_90a";
    options.sm_count = 132;
    options.cache_dir = cache.c_str();
    const auto context = Context::create(options);
    REQUIRE(context.is_ok());
    dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
    desc.k = 512;
    desc.max_m = 64;
    const auto plan = Plan::create(*context.value(), &desc.op);
    REQUIRE(plan.is_ok());
    for (const dgrt_kernel_info& kernel : plan.value()->kernels()) planned.push_back(kernel.key);
  }
  const Run run = run_dgrt("prewarm --json --recording " + recording + " --cache-dir " +
                           path("canary") + " --bundle " + path("canary.dgb"));
  REQUIRE(run.exit_code == 0);
  const Json files = run_dgrt("bundle list --json " + path("canary.dgb")).json()["files"];
  REQUIRE(files.size() == planned.size());
  for (const Json& file : files)
    CHECK(std::count(planned.begin(), planned.end(), file["key"].get<std::string>()) == 1);
}

TEST_CASE_METHOD(Prewarm, "signed bundles are checked by the command line", "[process]") {
  test::write_bytes(path("a.dgb"), test::bundle_bytes(test::bundle_entries()));
  const std::string key = path("key"), file = path("a.dgb");
  const Run made = run_dgrt("bundle keygen --json --key " + key);
  REQUIRE(made.exit_code == 0);
  const std::string public_key = made.json()["public_key"];
  CHECK(run_dgrt("bundle keygen --key " + key).exit_code == 1);
  const std::string verify = "bundle verify " + file + " --public-key ";
  CHECK(run_dgrt(verify + public_key).exit_code == 1);
  const auto bytes = test::read_bytes(file);
  CHECK(run_dgrt("bundle sign --key " + key + " " + file).exit_code == 0);
  CHECK(test::read_bytes(file) == bytes);  // the signature stands beside it
  CHECK(run_dgrt(verify + public_key).exit_code == 0);
  CHECK(run_dgrt(verify + std::string(64, '1')).exit_code == 1);
  CHECK(run_dgrt(verify + "12").exit_code == 1);
  CHECK(run_dgrt("bundle sign --key /nonexistent " + file).exit_code == 1);
}

TEST_CASE_METHOD(Prewarm, "wrong lists and shards are named", "[process]") {
  const auto error_of = [](const std::string& arguments) {
    return run_dgrt(arguments, " 2>&1 >/dev/null").out;
  };
  CHECK(error_of("prewarm").find("nothing to make") != std::string::npos);
  CHECK(error_of(command("x") + " --shard 3/3").find("shard=3/3") != std::string::npos);
  std::ofstream(manifest) << R"([{"op": "gemm", "dtype_ab": "e5m2"}])";
  CHECK(error_of(command("x")).find("manifest[0]: dtype_ab=\"e5m2\"") != std::string::npos);
  std::ofstream(manifest) << R"([{"op": "gemm", "n": 128, "k": 128, "max_m": 1}])";
  CHECK(run_dgrt(command("x")).exit_code == 1);  // no types
  CHECK(run_dgrt(command("x")).json().contains("error"));
  CHECK_FALSE(fs::exists(path("x.dgb")));
}

}  // namespace
}  // namespace dgrt
