// The record of a GPU run: what was tested, on which sources, on which device. A run of the [gpu]
// layer writes it to the file named by DGRT_GPU_RECORD, if set and the device is not emulated;
// tests/gpu/record.json is such a file, and tests/unit says so loudly when the sources have changed since.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace dgrt::test {

// Hex BLAKE2b-256 over path and bytes of every file in kernels/, runtime/ops/ and
// heuristics/tables/ below `root`, sorted by path. IO_ERROR: a folder is missing or a file cannot
// be read.
Result<std::string> kernel_tree_hash(const std::string& root);

// The source tree of this binary, or the current directory if the binary was carried elsewhere.
std::string source_root();

// Thread safe. One per process; writes the file when the process ends.
class GpuRecord {
 public:
  static GpuRecord& instance();

  void set_device(std::string name, std::string driver, std::string compiler);
  void add_kernel(const std::string& name, const std::string& key);
  void add_case(std::string name, std::string result, std::string detail);
  std::string to_json() const;

 private:
  struct Case {
    std::string name, result, detail;  // result: "passed", "failed" or "skipped"
  };

  GpuRecord();
  ~GpuRecord();

  mutable std::mutex mutex_;
  std::string path_;  // "": nothing is written
  // Guarded by mutex_.
  std::string device_, driver_, compiler_;
  std::map<std::string, std::string> kernels_;  // key -> entry name
  std::vector<Case> cases_;
};

// One case: failed, unless pass() is reached before the scope ends.
class CaseRecord {
 public:
  explicit CaseRecord(std::string name) : name_(std::move(name)) {}
  ~CaseRecord() { GpuRecord::instance().add_case(name_, passed_ ? "passed" : "failed", detail_); }
  CaseRecord(const CaseRecord&) = delete;
  CaseRecord& operator=(const CaseRecord&) = delete;

  void pass(std::string detail = {}) {
    passed_ = true;
    detail_ = std::move(detail);
  }
  void fail(std::string detail) { detail_ = std::move(detail); }

 private:
  std::string name_, detail_;
  bool passed_ = false;
};

}  // namespace dgrt::test
