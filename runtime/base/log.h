// Log: the one place where dgrt talks. A context owns one; it writes to standard error or to the
// caller's callback, never to standard output. Messages are formatted only when their level is on.
#pragma once
#include <memory>
#include <string_view>
#include <utility>

#include "dgrt/dgrt.h"
#include "runtime/base/format.h"

namespace spdlog {
class logger;
}

namespace dgrt {

// Thread safe. The callback is called from whichever thread logs.
class Log {
 public:
  // DGRT_LOG_DEFAULT means warn. `fn` NULL: standard error.
  explicit Log(dgrt_log_level level = DGRT_LOG_DEFAULT, dgrt_log_fn fn = nullptr,
               void* user = nullptr);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  bool enabled(dgrt_log_level level) const { return level >= level_; }
  void write(dgrt_log_level level, std::string_view message);

  template <class... A>
  void debug(fmt::format_string<A...> text, A&&... args) {
    print(DGRT_LOG_DEBUG, text, std::forward<A>(args)...);
  }
  template <class... A>
  void info(fmt::format_string<A...> text, A&&... args) {
    print(DGRT_LOG_INFO, text, std::forward<A>(args)...);
  }
  template <class... A>
  void warn(fmt::format_string<A...> text, A&&... args) {
    print(DGRT_LOG_WARN, text, std::forward<A>(args)...);
  }
  template <class... A>
  void error(fmt::format_string<A...> text, A&&... args) {
    print(DGRT_LOG_ERROR, text, std::forward<A>(args)...);
  }

 private:
  template <class... A>
  void print(dgrt_log_level level, fmt::format_string<A...> text, A&&... args) {
    if (enabled(level)) write(level, fmt::format(text, std::forward<A>(args)...));
  }

  dgrt_log_level level_;
  std::unique_ptr<spdlog::logger> logger_;
};

}  // namespace dgrt
