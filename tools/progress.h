// Progress of a long command on a terminal: one line that is redrawn, with count, rate, time left
// and what is being worked on. Off a terminal nothing is printed; the summary says it all.
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace dgrt {

struct ProgressState {
  uint32_t done = 0, total = 0;
  uint32_t skipped = 0;  // of done: were there already, and say nothing of how fast it goes
  double seconds = 0;    // since the start
  std::string current;   // what was finished last
};

// The line, cut to `columns`: "[=====>     ] 12/40  8.1/s  3 s left  sm90_gemm_fp8_128x128".
std::string progress_line(const ProgressState& state, size_t columns);

// Thread safe. Draws on standard error.
class ProgressBar {
 public:
  ProgressBar();   // on, if standard error is a terminal
  ~ProgressBar();  // erases the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(uint32_t done, uint32_t total, uint32_t skipped, std::string_view current);
  // A line of text above the bar, for warnings.
  void print(std::string_view line);

 private:
  void erase();  // requires mutex_

  const bool on_;
  const std::chrono::steady_clock::time_point start_;
  std::mutex mutex_;
  std::string drawn_;  // guarded by mutex_
};

}  // namespace dgrt
