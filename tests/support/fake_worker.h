// A compile worker that compiles nothing: the test program, started again with fake_worker_word,
// plays one. What it does to a request stands in the entry name of the kernel asked for.
#pragma once
#include <string>
#include <vector>

#include "runtime/compile/compile_message.h"

namespace dgrt::test {

inline constexpr const char* fake_worker_word = "fake-worker";

// What a worker of a test answers: the key's bytes as code.
Compiled fake_compiled(const Key& key);

// Arguments: parent's pid, a directory for marks, and, optional, "mute" or "other-compiler".
// Entry names: "fail", "crash", "crash_once", "hang", "garbage", "huge", "other_build",
// "descriptors" (the log lists what is open), anything else is compiled.
int run_fake_worker(const std::vector<std::string>& arguments);

CompilerId fake_worker_compiler();

}  // namespace dgrt::test
