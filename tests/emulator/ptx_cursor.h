// A place in a PTX text, and the words from there on.
#pragma once
#include <cctype>
#include <string>
#include <string_view>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {

class Cursor {
 public:
  explicit Cursor(std::string_view text, size_t at = 0, uint32_t line = 1)
      : text_(text), at_(at), line_(line) {}

  // Over blanks and comments.
  void skip() {
    while (at_ < text_.size()) {
      if (text_[at_] == '\n') {
        ++line_, ++at_;
      } else if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
        ++at_;
      } else if (text_.substr(at_, 2) == "//") {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (text_.substr(at_, 2) == "/*") {
        const size_t end = std::min(text_.find("*/", at_), text_.size() - 2) + 2;
        while (at_ < end) line_ += text_[at_++] == '\n';
      } else {
        return;
      }
    }
  }
  bool done() {
    skip();
    return at_ == text_.size();
  }
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("expected '") + c + "'");
  }
  // Letters, digits and _ $ %, and whatever else is among `more`. May be empty.
  std::string_view word(std::string_view more = "") {
    skip();
    const size_t from = at_;
    while (at_ < text_.size() && (is_name(text_[at_]) || more.find(text_[at_]) != more.npos)) ++at_;
    return text_.substr(from, at_ - from);
  }
  // Up to the character, which is taken but not returned.
  std::string_view until(char c) {
    const size_t from = at_;
    const size_t end = text_.find(c, at_);
    if (end == text_.npos) fail(std::string("no '") + c + "' follows");
    while (at_ <= end) line_ += text_[at_++] == '\n';
    return text_.substr(from, end - from);
  }
  [[noreturn]] void fail(const std::string& message) const {
    throw Fault("PTX line " + std::to_string(line_) + ": " + message);
  }

  std::string_view text() const { return text_; }
  size_t at() const { return at_; }
  uint32_t line() const { return line_; }

 private:
  static bool is_name(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%';
  }
  std::string_view text_;
  size_t at_;
  uint32_t line_;
};

}  // namespace dgrt::emulator
