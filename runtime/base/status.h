// Status and Result: how every function that can fail says so. The codes are the C API's; the message
// names field, value and rule. dgrt throws nothing; exceptions of libraries are turned into a Status
// where they arise.
#pragma once
#include <optional>
#include <string>
#include <utility>

#include "dgrt/dgrt.h"
#include "runtime/base/format.h"

namespace dgrt {

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(dgrt_status code, std::string message) : code_(code), message_(std::move(message)) {}
  bool is_ok() const { return code_ == DGRT_OK; }
  dgrt_status code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  dgrt_status code_ = DGRT_OK;
  std::string message_;
};

inline Status ok() { return {}; }

template <class... A>
Status error(dgrt_status code, fmt::format_string<A...> text, A&&... args) {
  return {code, fmt::format(text, std::forward<A>(args)...)};
}
template <class... A>
Status invalid(fmt::format_string<A...> text, A&&... args) {
  return {DGRT_INVALID_ARGUMENT, fmt::format(text, std::forward<A>(args)...)};
}

// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {}        // NOLINT; requires !status.is_ok()
  bool is_ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }                             // requires is_ok()
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace dgrt

#define DGRT_CONCAT_(a, b) a##b
#define DGRT_CONCAT(a, b) DGRT_CONCAT_(a, b)
// Returns from the calling function if `expr` (a Status) is not OK.
#define DGRT_TRY(expr)                                       \
  do {                                                       \
    if (::dgrt::Status dgrt_status_ = (expr); !dgrt_status_.is_ok()) return dgrt_status_; \
  } while (false)
// DGRT_ASSIGN(auto x, make_x()): x is the value of a Result, or the calling function returns its Status.
#define DGRT_ASSIGN(lhs, expr) DGRT_ASSIGN_(DGRT_CONCAT(dgrt_result_, __LINE__), lhs, expr)
#define DGRT_ASSIGN_(tmp, lhs, expr)       \
  auto tmp = (expr);                       \
  if (!tmp.is_ok()) return tmp.status();   \
  lhs = std::move(tmp).value()
