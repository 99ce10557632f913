#include "tests/support/gpu_record.h"

#include <fmt/chrono.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "runtime/base/hash.h"

namespace dgrt::test {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 3> hashed_folders = {"heuristics/tables", "kernels",
                                                       "runtime/ops"};

std::string to_hex(const std::array<uint8_t, 32>& bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace

Result<std::string> kernel_tree_hash(const std::string& root) {
  std::vector<std::string> paths;
  for (const char* folder : hashed_folders) {
    std::error_code failure;
    fs::recursive_directory_iterator it(fs::path(root) / folder, failure), end;
    for (; !failure && it != end; it.increment(failure))
      if (it->is_regular_file())
        paths.push_back(it->path().lexically_relative(root).generic_string());
    if (failure) return error(DGRT_IO_ERROR, "{}/{}: {}", root, folder, failure.message());
  }
  std::sort(paths.begin(), paths.end());
  Blake2b hash;
  for (const std::string& path : paths) {
    std::ifstream file(fs::path(root) / path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file.good() && !file.eof())
      return error(DGRT_IO_ERROR, "{}/{}: cannot be read", root, path);
    hash.add(path).add(bytes);
  }
  return to_hex(hash.digest());
}

std::string source_root() {
  return fs::is_directory(fs::path(DGRT_SOURCE_DIR) / "kernels") ? DGRT_SOURCE_DIR : ".";
}

GpuRecord& GpuRecord::instance() {
  static GpuRecord record;
  return record;
}

GpuRecord::GpuRecord() {
  const char* path = getenv("DGRT_GPU_RECORD");
  if (path) path_ = path;
}

GpuRecord::~GpuRecord() {
  if (path_.empty()) return;
  if (device_.starts_with("Emulated")) {
    fprintf(stderr, "GPU record %s: not written, as nothing ran on a GPU\n", path_.c_str());
    return;
  }
  std::ofstream file(path_, std::ios::binary);
  file << to_json();
  file.close();
  if (file.fail()) fprintf(stderr, "GPU record %s: cannot be written\n", path_.c_str());
}

void GpuRecord::set_device(std::string name, std::string driver, std::string compiler) {
  const std::lock_guard lock(mutex_);
  device_ = std::move(name);
  driver_ = std::move(driver);
  compiler_ = std::move(compiler);
}

void GpuRecord::add_kernel(const std::string& name, const std::string& key) {
  const std::lock_guard lock(mutex_);
  kernels_.emplace(key, name);
}

void GpuRecord::add_case(std::string name, std::string result, std::string detail) {
  const std::lock_guard lock(mutex_);
  cases_.push_back({std::move(name), std::move(result), std::move(detail)});
}

std::string GpuRecord::to_json() const {
  using Json = nlohmann::ordered_json;
  const std::lock_guard lock(mutex_);
  const Result<std::string> hash = kernel_tree_hash(source_root());
  const auto count = [this](const char* result) {
    return std::count_if(cases_.begin(), cases_.end(),
                         [result](const Case& c) { return c.result == result; });
  };
  Json json;
  json["schema"] = 1;
  json["hash"] = hash.is_ok() ? hash.value() : "unknown: " + hash.status().message();
  json["date"] = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", ::fmt::gmtime(std::time(nullptr)));
  json["device"] = device_;
  json["driver"] = driver_;
  json["compiler"] = compiler_;
  json["passed"] = count("passed");
  json["failed"] = count("failed");
  json["skipped"] = count("skipped");
  json["kernels"] = Json::array();
  for (const auto& [key, name] : kernels_)
    json["kernels"].push_back({{"name", name}, {"key", key}});
  json["cases"] = Json::array();
  for (const Case& c : cases_)
    json["cases"].push_back({{"name", c.name}, {"result", c.result}, {"detail", c.detail}});
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dgrt::test
