// The `dgrt` command as its users meet it: exit codes, the last line of JSON, and that a cache made
// by prewarm is what the other commands see. Runs the built binary; needs no GPU and no driver.
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "cache/disk_cache.h"
#include "tests/support/cache_samples.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

namespace fs = std::filesystem;
using dgrt::test::TempDir;
using Json = nlohmann::json;

struct Run {
  int exit_code = -1;
  std::string out;  // standard output, or both if asked for

  Json last_json() const {
    const size_t end = out.find_last_not_of('\n');
    const size_t begin = out.rfind('\n', end);
    return Json::parse(out.substr(begin == std::string::npos ? 0 : begin + 1, end - begin), nullptr,
                       false);
  }
};

Run run_command(const std::string& command) {
  Run run;
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe);
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) run.out.append(buffer, n);
  const int status = pclose(pipe);
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

Run dgrt_command(const std::string& arguments) {
  return run_command(DGRT_CLI_PATH " " + arguments + " 2>/dev/null");
}

std::string errors_of(const std::string& arguments) {
  return run_command(DGRT_CLI_PATH " " + arguments + " 2>&1 >/dev/null").out;
}

void write(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// A model with one tiny product of each kind and short sequences, so that few kernels are compiled.
std::string tiny_config(const TempDir& dir) {
  const std::string path = dir.path() + "/config.json";
  write(path,
        R"({"model_type": "qwen3", "hidden_size": 128, "intermediate_size": 128, "vocab_size": 128,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 128, "num_hidden_layers": 1,
    "max_position_embeddings": 64})");
  return path;
}

std::string prewarm(const std::string& config, const std::string& cache) {
  return "prewarm --config " + config + " --engine plain --max-tokens 1 --cache-dir " + cache;
}

std::vector<fs::path> entries(const std::string& cache) {
  std::vector<fs::path> found;
  for (const auto& file : fs::recursive_directory_iterator(cache))
    if (file.path().extension() == ".dge") found.push_back(file.path());
  return found;
}

}  // namespace

TEST_CASE("Every command has help with an example", "[process]") {
  for (const char* command :
       {"", "prewarm", "cache", "cache ls", "cache show", "cache verify", "cache extract",
        "cache trim", "explain", "explain gemm", "explain quant_fp8", "explain scale_layout",
        "explain scale_pack_ue8m0", "explain gemm_grouped_k", "explain gemm_fused_linear",
        "explain attn_prefill", "explain attn_decode", "explain attn_extend", "explain attn_merge",
        "explain kv_append", "explain mla_decode", "explain mla_sparse_decode", "explain mla_sparse_prefill",
        "explain topk_transform", "explain mla_kv_append", "explain kv_dequant_paged", "explain build_swa_token_ids",
        "explain combine_topk_swa_indices", "explain mqa_logits",
        "explain paged_mqa_logits", "bench", "tune", "doctor", "version"}) {
    INFO(command);
    const Run run = dgrt_command(std::string(command) + " --help");
    CHECK(run.exit_code == 0);
    CHECK(run.out.find("Example: dgrt") != std::string::npos);
  }
  CHECK(dgrt_command("").exit_code != 0);
  CHECK(dgrt_command("frobnicate").exit_code != 0);
  CHECK(dgrt_command("version").out.starts_with("dgrt "));
  CHECK(dgrt_command("version --json").last_json().contains("version"));
}

TEST_CASE("prewarm fills a cache that the other commands read", "[process]") {
  const TempDir dir;
  const std::string config = tiny_config(dir), cache = dir.path() + "/cache";
  const std::string at = " --cache-dir " + cache;

  const Run cold = dgrt_command(prewarm(config, cache) + " --json");
  REQUIRE(cold.exit_code == 0);
  const Json first = cold.last_json();
  REQUIRE(first.is_object());
  const auto num_kernels = first["kernels"].get<size_t>();
  CHECK(num_kernels > 0);
  CHECK(first["compiled"] == num_kernels);
  CHECK(first["hits"] == 0);
  CHECK(first["failed"] == 0);
  CHECK(first["seconds"].is_number());
  CHECK(first["layers"].size() == 8);
  REQUIRE(first["attention"].size() == 1);
  CHECK(first["attention"][0]["head_dim"] == 128);
  CHECK_FALSE(first["missing"].empty());
  CHECK(entries(cache).size() == num_kernels);

  const Run warm = dgrt_command(prewarm(config, cache) + " --json");
  CHECK(warm.exit_code == 0);
  CHECK(warm.last_json()["compiled"] == 0);
  CHECK(warm.last_json()["hits"] == num_kernels);

  CHECK(dgrt_command("cache verify" + at).exit_code == 0);
  const Json listing = dgrt_command("cache ls --json" + at).last_json();
  REQUIRE(listing["files"].size() == num_kernels);
  const std::string key = listing["files"][0]["key"];
  CHECK(dgrt_command("cache ls" + at).out.find(key.substr(0, 12)) != std::string::npos);

  const Run show = dgrt_command("cache show " + key + at);
  CHECK(show.exit_code == 0);
  CHECK(show.out.find("sm_90a") != std::string::npos);
  const std::string cubin = dir.path() + "/kernel.cubin";
  CHECK(dgrt_command("cache extract " + key + " -o " + cubin + at).exit_code == 0);
  std::ifstream file(cubin, std::ios::binary);
  char magic[4] = {};
  file.read(magic, 4);
  CHECK(std::string(magic, 4) ==
        "\x7f"
        "ELF");

  // The kernels that explain names are among those that prewarm made.
  const Json why = dgrt_command("explain gemm --n 128 --k 128 --m 1 --json").last_json();
  std::set<std::string> keys;
  for (const Json& f : listing["files"]) keys.insert(f["key"]);
  CHECK(keys.count(why["key"]) == 1);
  const std::string heads = " --num-q-heads 1 --num-kv-heads 1 --head-dim 128 --m 1 --json";
  for (const char* op : {"attn_prefill", "attn_extend --page-size 1", "attn_decode --kv-len 50"})
    CHECK(keys.count(dgrt_command("explain " + (op + heads)).last_json()["key"]) == 1);
  CHECK(keys.count(dgrt_command("explain kv_append --num-kv-heads 1 --head-dim 128 --m 1 --json")
                       .last_json()["key"]) == 1);
  CHECK(why["candidates"].size() <= 10);
}

TEST_CASE("cache verify sees one flipped bit, and prewarm heals it", "[process]") {
  const TempDir dir;
  const std::string config = tiny_config(dir), cache = dir.path() + "/cache";
  REQUIRE(dgrt_command(prewarm(config, cache)).exit_code == 0);
  const fs::path victim = entries(cache).front();
  {
    std::fstream file(victim, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(-1, std::ios::end);
    const char last = static_cast<char>(file.get() ^ 1);
    file.seekp(-1, std::ios::end);
    file.put(last);
  }
  const Run verify = dgrt_command("cache verify --cache-dir " + cache);
  CHECK(verify.exit_code == 1);
  CHECK(verify.out.find("BAD " + fs::relative(victim, cache).string()) != std::string::npos);
  CHECK(dgrt_command("cache verify --json --cache-dir " + cache).last_json()["bad"] == 1);

  const Run healed = dgrt_command(prewarm(config, cache) + " --json");
  CHECK(healed.exit_code == 0);
  CHECK(healed.last_json()["compiled"] == 1);
  CHECK(dgrt_command("cache verify --cache-dir " + cache).exit_code == 0);
}

TEST_CASE("cache trim removes as much as asked for, oldest first", "[process]") {
  const TempDir dir;
  const std::string cache = dir.path() + "/cache", at = " --cache-dir " + cache;
  for (const uint8_t seed : {1, 2, 3})
    REQUIRE(dgrt::DiskCache::open(cache).value()->publish(dgrt::test::sample_entry(seed)).is_ok());
  const std::vector<fs::path> files = entries(cache);
  REQUIRE(files.size() == 3);
  const fs::path old = files[1];
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(72));
  const auto trim = [&](const std::string& options) {
    const Run run = dgrt_command("cache trim --json " + options + at);
    CHECK(run.exit_code == 0);
    return run.last_json();
  };
  CHECK(trim("")["evicted"] == 0);
  CHECK(trim("--older-than 4 --max-bytes 1GiB")["evicted"] == 0);
  const Json one = trim("--older-than 2");
  CHECK(one["evicted"] == 1);
  CHECK(one["entries"] == 2);
  CHECK_FALSE(fs::exists(old));
  const Run text = dgrt_command("cache trim --max-bytes 0" + at);
  CHECK(text.out.starts_with("2 kernels, 1 KiB removed; 0 kernels, 0 KiB stay\n"));
  CHECK(entries(cache).empty());
  CHECK(dgrt_command("cache verify" + at).exit_code == 0);
  for (const char* bad : {"--max-bytes -1", "--max-bytes many", "--older-than -1"}) {
    INFO(bad);
    CHECK(dgrt_command(std::string("cache trim ") + bad + at).exit_code != 0);
  }
  CHECK(dgrt_command("cache trim --cache-dir " + dir.path() + "/absent").exit_code == 1);
}

TEST_CASE("Caches that are empty, absent or impossible", "[process]") {
  const TempDir dir;
  const std::string empty = dir.path() + "/empty", absent = dir.path() + "/absent";
  fs::create_directory(empty);
  fs::permissions(empty, fs::perms::owner_all);
  CHECK(dgrt_command("cache verify --cache-dir " + empty).exit_code == 0);
  CHECK(dgrt_command("cache ls --cache-dir " + empty).exit_code == 0);
  CHECK(dgrt_command("cache verify --cache-dir " + absent).exit_code == 1);
  CHECK_FALSE(fs::exists(absent));
  CHECK(dgrt_command("cache show 12345678 --cache-dir " + empty).exit_code == 1);
  CHECK(errors_of("cache show 12 --cache-dir " + empty).find("at least 4") != std::string::npos);

  // A directory below a file can not be made, whoever asks.
  const std::string config = tiny_config(dir);
  const Run run = dgrt_command(prewarm(config, config + "/cache") + " --json");
  CHECK(run.exit_code == 1);
  CHECK(run.last_json().contains("error"));
}

TEST_CASE("prewarm says which input is wrong", "[process]") {
  const TempDir dir;
  const std::string config = tiny_config(dir), cache = dir.path() + "/cache";
  const auto failure = [&](const std::string& more) {
    CHECK(dgrt_command(prewarm(config, cache) + more).exit_code == 1);
    return errors_of(prewarm(config, cache) + more);
  };
  CHECK(failure(" --tp 3").find("num_attention_heads=1 tp=3") != std::string::npos);
  CHECK(failure(" --arch sm_80").find("sm_80") != std::string::npos);
  CHECK(errors_of("prewarm --max-tokens 0 --config " + config).find("max_tokens=0") !=
        std::string::npos);
  CHECK(errors_of("prewarm --config /nonexistent --engine plain").find("/nonexistent") !=
        std::string::npos);
  CHECK(errors_of("prewarm --config " + config + " --engine tgi").find("engine=tgi") !=
        std::string::npos);
  CHECK(dgrt_command("prewarm").exit_code != 0);
}

TEST_CASE("explain says why, or what is wrong", "[process]") {
  const Run fp8 = dgrt_command("explain gemm --dtype fp8 --n 7168 --k 2048 --m 64");
  CHECK(fp8.exit_code == 0);
  CHECK(fp8.out.find("sm90_gemm_fp8") != std::string::npos);
  CHECK(fp8.out.find("reason") != std::string::npos);
  CHECK(dgrt_command("explain quant_fp8 --k 7168 --m 64").exit_code == 0);
  CHECK(dgrt_command("explain scale_layout --k-blocks 56 --m 64").exit_code == 0);
  CHECK(dgrt_command("explain scale_pack_ue8m0 --k-blocks 56 --m 64").exit_code == 0);
  const Run wgrad = dgrt_command(
      "explain gemm_grouped_k --dtype fp8 --num-groups 4 --m 4096 --n 7168 --k 32768 --json");
  CHECK(wgrad.exit_code == 0);
  CHECK(wgrad.last_json()["op"] == "gemm_grouped_k_fp8");
  CHECK(wgrad.last_json()["decided_at_k"] == 32768);
  const Run fused =
      dgrt_command("explain gemm_fused_linear --n 1024,8,4 --k 2304 --m 32 --dtype-d fp32 --json");
  CHECK(fused.exit_code == 0);
  CHECK(fused.last_json()["op"] == "gemm_fused_linear_bf16");
  CHECK(fused.last_json()["decided_at_m"] == 32);
  const Json decode = dgrt_command("explain attn_decode --num-q-heads 8 --num-kv-heads 4 "
                                   "--head-dim 256 --batch 30 --m 4 --kv-len 1004 --json")
                          .last_json();
  CHECK((decode["op"] == "attn_decode" && decode["decided_at_batch"] == 32));
  CHECK((decode["decided_at_max_q_len"] == 4 && decode["decided_at_max_kv_len"] == 1024));
  CHECK(decode["num_candidates"].get<int>() > 1);
  const Json extend = dgrt_command("explain attn_extend --num-q-heads 8 --num-kv-heads 4 --softcap "
                                   "--head-dim 256 --m 512 --page-size 48 --json")
                          .last_json();
  CHECK(extend["decided_at_page_rows"] == 16);
  CHECK(extend["kernel"].get<std::string>().ends_with("_cap"));
  const Json merge =
      dgrt_command("explain attn_merge --num-heads 8 --head-dim 64 --parts 3 --m 9 --json")
          .last_json();
  CHECK((merge["decided_at_tokens"] == 16 && merge["decided_at_num_parts"] == 4));
  CHECK(dgrt_command("explain attn_decode --num-q-heads 8 --num-kv-heads 3 --head-dim 64 --m 1")
            .exit_code == 1);
  CHECK(dgrt_command("explain kv_append --num-kv-heads 8 --head-dim 64 --m 1 --dtype-cache int8")
            .exit_code != 0);
  CHECK(dgrt_command("explain gemm_fused_linear --n 1,1,1,1,1,1,1,1,1 --k 128 --m 1").exit_code ==
        1);
  CHECK(dgrt_command("explain gemm_grouped_k --num-groups 0 --m 1 --n 128 --k 64").exit_code == 1);
  CHECK(dgrt_command("explain gemm --n 0 --k 128 --m 1").exit_code == 1);
  CHECK(dgrt_command("explain gemm --dtype fp4 --n 128 --k 128 --m 1").exit_code != 0);
  CHECK(dgrt_command("explain gemm --n 128 --k 128 --m -1").exit_code != 0);
}

// CUDA_VISIBLE_DEVICES hides a GPU where there is one.
TEST_CASE("what needs a GPU says that there is none, and what is wrong with its options",
          "[process]") {
  for (const std::string command : {"bench", "tune"}) {
    const std::string hidden =
        "CUDA_VISIBLE_DEVICES= " DGRT_CLI_PATH " " + command + " --op gemm_fp8 --nk 128x128 --m 1";
    const Run run = run_command(hidden + " 2>&1 >/dev/null");
    INFO(run.out);
    CHECK(run.out.starts_with("dgrt: NO_DEVICE: " + command + " needs a GPU: "));
    CHECK(run_command(hidden + " >/dev/null 2>&1").exit_code == 1);

    CHECK(errors_of(command + " --op nothing").find("op=nothing") != std::string::npos);
    CHECK(errors_of(command + " --op gemm_fp8 --nk 128").find("nk=128") != std::string::npos);
    CHECK(errors_of(command + " --shapes /nonexistent").find("/nonexistent") != std::string::npos);
    CHECK(dgrt_command(command + " --m 0").exit_code != 0);
  }
}

TEST_CASE("doctor's exit code says whether prewarm would work", "[process]") {
  const TempDir dir;
  const Run good = dgrt_command("doctor --json --cache-dir " + dir.path() + "/new");
  const Json json = good.last_json();
  REQUIRE(json.is_object());
  CHECK(good.exit_code == (json["prewarm_works"] == true ? 0 : 1));
  std::set<std::string> checks;
  for (const Json& finding : json["findings"]) {
    checks.insert(finding["check"].get<std::string>());
    if (finding["level"] == "FAIL") CHECK_FALSE(finding["remedy"].get<std::string>().empty());
  }
  for (const char* check : {"compiler", "cache", "driver", "kernels", "table"})
    CHECK(checks.count(check) == 1);
  CHECK_FALSE(fs::exists(dir.path() + "/new"));

  write(dir.path() + "/file", "");
  const Run bad = dgrt_command("doctor --json --cache-dir " + dir.path() + "/file/cache");
  CHECK(bad.exit_code == 1);
  CHECK(bad.last_json()["prewarm_works"] == false);
}

TEST_CASE("check_tree names each breach", "[process]") {
  const TempDir dir;
  const auto check = [&] {
    return run_command("python3 " DGRT_SOURCE_DIR "/tools/check_tree.py --root " + dir.path());
  };
  const auto path = [&](const char* name) { return dir.path() + "/" + name; };
  write(path("runtime/base/low.h"), "#pragma once\n");
  CHECK(check().exit_code == 0);

  write(path("runtime/base/high.cpp"), "#include \"runtime/ops/some_op.h\"\n");
  write(path("runtime/ops/some_op.h"), "#pragma once\n");
  write(path("runtime/ops/some_op.cpp"), "DGRT_OP(SomeOp, some_op);\n");
  write(path("tests/low.h"), "");
  write(path("bench/long.cpp"), std::string(601, '\n'));
  write(path("bench/long_table.gen.h"), std::string(601, '\n'));
  write(path("kernels/gemm/sm90_x.cuh"), "#include <cuda/std/cstdint>\nasm volatile (\"\");\n");
  write(path("kernels/device/common/a.cuh"), "#include \"device/ptx/b.cuh\"\n");
  write(path("kernels/device/ptx/b.cuh"), "#include \"device/common/a.cuh\"\n");
  const Run run = check();
  CHECK(run.exit_code == 1);
  for (const char* breach :
       {"runtime/base/high.cpp:1: runtime/base must not include runtime/ops/some_op.h",
        "stem some_op lacks heuristics/tables/some_op.json",
        "stem some_op lacks kernels/<family>/<arch>_some_op.cuh",
        "stem some_op lacks tests/gpu/some_op_test.cpp",
        "stem some_op lacks bench/shapes/some_op.json",
        "low.h: two files of one name: runtime/base/low.h, tests/low.h",
        "bench/long.cpp: 601 lines", "kernels/gemm/sm90_x.cuh:1: cuda/std/cstdint",
        "kernels/gemm/sm90_x.cuh:2: inline PTX",
        "kernels/device/common/a.cuh:1: must not include device/ptx/b.cuh"}) {
    INFO(run.out);
    CHECK(run.out.find(breach) != std::string::npos);
  }
  CHECK(run.out.find("long_table.gen.h") == std::string::npos);
  CHECK(run.out.find("ptx/b.cuh:1") == std::string::npos);
  CHECK(run.out.find("10 breaches") != std::string::npos);
}
