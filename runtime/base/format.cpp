#include "runtime/base/format.h"

namespace dgrt::fmt {

std::string vformat(::fmt::string_view text, ::fmt::format_args args) {
  return ::fmt::vformat(text, args);
}

void vprint(std::FILE* file, ::fmt::string_view text, ::fmt::format_args args) {
  ::fmt::vprint(file, text, args);
}

}  // namespace dgrt::fmt
