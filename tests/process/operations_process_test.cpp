// The commands of docs/operations.md, taken from the page as they stand there and run on a tiny
// model, with the variables that Slurm and Kubernetes set. Not those of programs that are not ours
// (docker, umoci, skopeo, object stores): the page says how they were run.
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/bundle_samples.h"
#include "tests/support/catch.h"
#include "tests/support/fake_op.h"
#include "tests/support/temp_dir.h"

namespace dgrt {
namespace {

namespace stdfs = std::filesystem;
using test::ScopedEnv;

// The fenced block of the page that holds `marker`.
std::string block_with(const std::string& marker) {
  std::ifstream file(DGRT_SOURCE_DIR "/docs/operations.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  const size_t at = page.find(marker);
  REQUIRE(at != std::string::npos);
  const size_t fence = page.rfind("\n```", at), begin = page.find('\n', fence + 1) + 1;
  return page.substr(begin, page.find("\n```", at) + 1 - begin);
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

// A directory to work in, the model that the page's commands read, and the command on PATH. Its heads are too
// large for attention, whose kernels would take nine tenths of the time.
struct Operations {
  Operations() {
    std::ofstream(path("config.json")) << R"({"model_type": "qwen3", "hidden_size": 128,
      "intermediate_size": 1024, "vocab_size": 1024, "num_attention_heads": 8,
      "num_key_value_heads": 8, "head_dim": 768, "num_hidden_layers": 1})";
  }
  std::string path(const std::string& name) const { return dir.path() + "/" + name; }
  auto bytes(const std::string& name) const { return test::read_bytes(path(name)); }

  // The script's standard output; it must succeed.
  std::string run(const std::string& script) const {
    std::ofstream(path("script")) << "cd " << dir.path() << "\n" << script;
    std::FILE* pipe = popen(("sh -e " + path("script") + " 2>" + path("errors")).c_str(), "r");
    REQUIRE(pipe);
    std::string out;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) out.append(buffer, n);
    const int status = pclose(pipe);
    std::ifstream errors(path("errors"));
    INFO(script << "\n" << std::string(std::istreambuf_iterator<char>(errors), {}));
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return out;
  }
  void merge(const std::string& parts, const std::string& name) const {
    run("dgrt bundle merge " + parts + " -o " + name);
  }
  void prewarm_whole(const std::string& engine) const {
    run("dgrt prewarm --config config.json --engine " + engine +
        " --tp 8 --cache-dir whole --bundle " + engine + ".dgb");
  }

  const test::TempDir dir;
  const ScopedEnv program{"PATH", stdfs::path(DGRT_CLI_PATH).parent_path().string() + ":" +
                                      (getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin")};
  const ScopedEnv home{"XDG_CACHE_HOME", dir.path()};
};

TEST_CASE_METHOD(Operations, "operations: a Slurm array makes an unsharded run's bundle",
                 "[process]") {
  const std::string script = block_with("#SBATCH --array=0-7");
  const ScopedEnv model("MODEL", dir.path()), out("OUT", dir.path()), temp("TMPDIR", dir.path()),
      job("SLURM_JOB_ID", "4711"), count("SLURM_ARRAY_TASK_COUNT", "8");
  for (int i = 0; i < 8; ++i) {
    const ScopedEnv index("SLURM_ARRAY_TASK_ID", std::to_string(i));
    run(script);
  }
  CHECK(stdfs::exists(path("dgrt-4711")));
  merge("part-*.dgb", "merged.dgb");
  prewarm_whole("vllm");
  CHECK(bytes("merged.dgb") == bytes("vllm.dgb"));
}

TEST_CASE_METHOD(Operations, "operations: a Kubernetes Job makes an unsharded run's bundle",
                 "[process]") {
  const std::string job = block_with("kind: Job");
  const std::string args_start = "        - dgrt prewarm";
  const size_t begin = job.find(args_start), end = job.find("volumeMounts");
  REQUIRE((begin < end && end != std::string::npos));
  // A plain scalar of several lines is one line; volumes are directories here.
  std::string command = replaced(job.substr(begin + 10, end - begin - 10), "\n", " ");
  command = replaced(replaced(command, "/model/", dir.path() + "/"), "/out/", dir.path() + "/");
  for (int i = 0; i < 8; ++i) {
    const ScopedEnv index("JOB_COMPLETION_INDEX", std::to_string(i));
    run(command);
    if (i == 3) run(command);  // a pod that was evicted before it could say that it was done
  }
  merge("part-*.dgb", "merged.dgb");
  prewarm_whole("sglang");
  CHECK(bytes("merged.dgb") == bytes("sglang.dgb"));
}

TEST_CASE_METHOD(Operations, "operations: prewarm, shards, pins, watching and cleaning as told",
                 "[process]") {
  const auto here = [&](const std::string& marker) {
    return replaced(block_with(marker), "/models/dgrt", path("models"));
  };
  run(here("--cache-dir /models/dgrt --bundle kernels.dgb"));
  std::ofstream(path("plans.jsonl")) << R"({"op": "scale_layout", "k_blocks": 56, "max_m": 64})"
                                     << "\n";
  run(replaced(here("--recording plans.jsonl --arch"), "kernels.dgb", "recorded.dgb"));
  run(replaced(here("for i in 0 1 2 3"), "-o kernels.dgb", "-o merged.dgb"));

  std::string public_key, digest;
  std::istringstream pins(here("dgrt bundle keygen"));
  for (std::string line; std::getline(pins, line);) {
    const ScopedEnv key("PUBLIC_KEY", public_key), pinned("DIGEST", digest);
    std::istringstream words(run(line));
    for (std::string word; words >> word;) {
      if (word == "public_key") words >> public_key;
      if (word == "digest") words >> digest;
    }
  }
  CHECK(public_key.size() == 64);
  CHECK(digest.size() == 64);

  const std::string entry =
      stdfs::path(run("ls models/v1/*/*.dge")).filename().string().substr(0, 8);
  run(replaced(here("dgrt doctor"), "4e324e8f", entry));
  run(here("DGRT_EXPLAIN=miss dgrt prewarm"));
  run(here("dgrt cache trim"));
}

}  // namespace
}  // namespace dgrt
