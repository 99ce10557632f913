// Names and small helpers that the parts of DiskCache share: what its directory looks like.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/fs.h"
#include "runtime/base/status.h"

namespace dgrt {

inline constexpr const char* entries_dir = "v1";  // changes with the layout, not the entry format
inline constexpr const char* quarantine_dir = "quarantine";
inline constexpr const char* locks_dir = "locks";
inline constexpr std::string_view temp_prefix = "tmp-";
inline constexpr std::string_view entry_suffix = ".dge";
inline constexpr std::string_view lock_suffix = ".lock";

inline Status io_error(const std::string& what, int error) {
  return {DGRT_IO_ERROR, what + ": " + errno_text(error)};
}

// Seconds since a file was written or used. A time that lies in the future comes from a clock that
// jumped: a little is skew between hosts and counts as now, more tells nothing and counts as long
// ago, so that no file is kept for ever.
int64_t idle_s(const FileInfo& info);

}  // namespace dgrt
