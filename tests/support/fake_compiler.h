// A compiler for tests: as slow as asked for, and it writes down what it compiles. Its code is a
// function of the source, so that a wrong kernel shows.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "runtime/compile/nvrtc.h"
#include "runtime/compile/nvrtc_library.h"

namespace dgrt::test {

// One per process, because the entry points of a compiler have no user argument.
struct FakeCompiler {
  static inline std::string log_path;  // one line, the kernel's name, per compile
  static inline std::chrono::milliseconds delay{0};

  static std::shared_ptr<const Nvrtc> make(uint32_t minor = 0) {
    auto library = std::make_shared<NvrtcLibrary>();
    library->nvrtcGetErrorString = [](NvrtcResult) { return "fake error"; };
    library->nvrtcCreateProgram = create;
    library->nvrtcDestroyProgram = [](NvrtcProgram* program) {
      delete from(*program);
      return NvrtcResult::success;
    };
    library->nvrtcCompileProgram = compile;
    library->nvrtcGetCUBINSize = [](NvrtcProgram program, size_t* bytes) {
      *bytes = from(program)->source.size();
      return NvrtcResult::success;
    };
    library->nvrtcGetCUBIN = [](NvrtcProgram program, char* cubin) {
      std::memcpy(cubin, from(program)->source.data(), from(program)->source.size());
      return NvrtcResult::success;
    };
    library->nvrtcGetProgramLogSize = [](NvrtcProgram, size_t* bytes) {
      *bytes = 1;
      return NvrtcResult::success;
    };
    library->id = {99, minor, {}};
    return Nvrtc::with(std::move(library));
  }

 private:
  struct Program {
    std::string source, name;
  };
  static Program* from(NvrtcProgram program) { return reinterpret_cast<Program*>(program); }

  static NvrtcResult create(NvrtcProgram* program, const char* source, const char* name, int,
                            const char* const*, const char* const*) {
    *program = reinterpret_cast<NvrtcProgram>(new Program{source, name});
    return NvrtcResult::success;
  }
  static NvrtcResult compile(NvrtcProgram program, int, const char* const*) {
    std::this_thread::sleep_for(delay);
    if (log_path.empty()) return NvrtcResult::success;
    const int fd = ::open(log_path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    const std::string line = from(program)->name + "\n";
    const bool is_written = ::write(fd, line.data(), line.size()) == ssize_t(line.size());
    ::close(fd);
    return is_written ? NvrtcResult::success : NvrtcResult{1};
  }
};

}  // namespace dgrt::test
