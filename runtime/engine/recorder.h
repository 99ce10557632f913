// Recorder: writes down which plans a live process creates (DGRT_RECORD), so that `dgrt prewarm
// --recording` can make exactly their kernels elsewhere. Called at plan creation, never by a launch.
#pragma once
#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "dgrt/dgrt.h"
#include "runtime/base/fs.h"
#include "runtime/base/log.h"

namespace dgrt {

// Appends one line of JSON (desc_json.h) per distinct desc to a file that any number of processes
// may share. Trouble is one warning; plans are created all the same. Thread safe.
class Recorder {
 public:
  // "": records nothing. `log` outlives the recorder.
  Recorder(const std::string& path, Log& log);

  void add(const dgrt_desc* desc);

 private:
  int append(const std::string& line);  // requires mutex_
  int read_new_lines(uint64_t* end);    // requires mutex_ and the file's lock
  void fail(const std::string& why);    // requires mutex_

  const std::string path_;
  Log& log_;
  std::mutex mutex_;
  File file_;                   // guarded by mutex_; closed: off
  uint64_t read_bytes_ = 0;     // guarded by mutex_: of the file, all in seen_
  std::set<std::string> seen_;  // guarded by mutex_: its lines
};

}  // namespace dgrt
