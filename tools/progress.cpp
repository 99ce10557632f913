#include "tools/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/base/format.h"

namespace dgrt {
namespace {

constexpr size_t bar_columns = 24;

size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool is_terminal() { return isatty(STDERR_FILENO) == 1; }

}  // namespace

std::string progress_line(const ProgressState& state, size_t columns) {
  const size_t filled =
      state.total == 0 ? 0 : std::min<size_t>(bar_columns, bar_columns * state.done / state.total);
  std::string bar(filled, '=');
  if (filled < bar_columns) bar += '>';
  bar.resize(bar_columns, ' ');
  std::string line = fmt::format("[{}] {}/{}", bar, state.done, state.total);
  if (state.done > state.skipped && state.seconds > 0) {
    const double rate = (state.done - state.skipped) / state.seconds;
    const double left = (state.total - std::min(state.done, state.total)) / rate;
    line += fmt::format("  {:.1f}/s  {:.0f} s left", rate, std::ceil(left));
  }
  line += "  " + state.current;
  return line.substr(0, columns);
}

ProgressBar::ProgressBar() : on_(is_terminal()), start_(std::chrono::steady_clock::now()) {}

ProgressBar::~ProgressBar() {
  const std::lock_guard<std::mutex> guard(mutex_);
  erase();
}

void ProgressBar::erase() {
  if (!drawn_.empty()) fmt::print(stderr, "\r\x1b[K");
  drawn_.clear();
}

void ProgressBar::update(uint32_t done, uint32_t total, uint32_t skipped,
                         std::string_view current) {
  if (!on_) return;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  const std::lock_guard<std::mutex> guard(mutex_);
  // One column stays free: some terminals wrap when the last one is written.
  drawn_ = progress_line({done, total, skipped, seconds.count(), std::string(current)},
                         terminal_columns() - 1);
  fmt::print(stderr, "\r\x1b[K{}", drawn_);
  std::fflush(stderr);
}

void ProgressBar::print(std::string_view line) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const std::string drawn = drawn_;
  erase();
  fmt::print(stderr, "{}\n{}", line, drawn);
  drawn_ = drawn;
  std::fflush(stderr);
}

}  // namespace dgrt
