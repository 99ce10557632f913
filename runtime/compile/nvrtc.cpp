#include "runtime/compile/nvrtc.h"

#include <sys/mman.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstring>
#include <string_view>

#include "runtime/compile/key.h"
#include "runtime/compile/nvrtc_library.h"
#include "runtime/compile/ptxas_report.h"
#include "runtime/compile/unused_variables.h"

namespace dgrt {
namespace {

constexpr size_t max_log_chars = 4000;  // of a failure's message

// Owner of one NVRTC program.
class Program {
 public:
  explicit Program(const NvrtcLibrary& library) : library_(library) {}
  ~Program() {
    if (program_ != nullptr) (void)library_.nvrtcDestroyProgram(&program_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  Status create(const Instance& instance, const Closure& closure) {
    std::vector<const char*> texts, names;
    for (const Closure::File& file : closure.files) {
      texts.push_back(file.text->c_str());
      names.push_back(file.path.c_str());
    }
    // A name that is the same on every machine; it appears in error messages.
    const std::string name = instance.entry + ".cu";
    return check(
        library_.nvrtcCreateProgram(&program_, source_text(instance).c_str(), name.c_str(),
                                    static_cast<int>(texts.size()), texts.data(), names.data()),
        "nvrtcCreateProgram");
  }

  NvrtcResult compile(const std::vector<std::string>& options) {
    std::vector<const char*> pointers;
    for (const std::string& option : options) pointers.push_back(option.c_str());
    return library_.nvrtcCompileProgram(program_, static_cast<int>(pointers.size()),
                                        pointers.data());
  }

  std::string log() const {
    size_t bytes = 0;  // with the terminating zero
    if (library_.nvrtcGetProgramLogSize(program_, &bytes) != NvrtcResult::success || bytes <= 1)
      return "";
    std::string text(bytes, '\0');
    if (library_.nvrtcGetProgramLog(program_, text.data()) != NvrtcResult::success) return "";
    text.resize(strlen(text.c_str()));
    return text;
  }

  Status read_cubin(std::vector<uint8_t>* cubin) const {
    size_t bytes = 0;
    DGRT_TRY(check(library_.nvrtcGetCUBINSize(program_, &bytes), "nvrtcGetCUBINSize"));
    if (bytes == 0) return error(DGRT_COMPILE_FAILED, "NVRTC returned an empty cubin");
    cubin->resize(bytes);
    return check(library_.nvrtcGetCUBIN(program_, reinterpret_cast<char*>(cubin->data())),
                 "nvrtcGetCUBIN");
  }

  // What the cubin was assembled from; empty if this NVRTC does not say.
  std::string ptx() const {
    size_t bytes = 0;  // with the terminating zero
    if (library_.nvrtcGetPTX == nullptr ||
        library_.nvrtcGetPTXSize(program_, &bytes) != NvrtcResult::success || bytes <= 1)
      return "";
    std::string text(bytes, '\0');
    if (library_.nvrtcGetPTX(program_, text.data()) != NvrtcResult::success) return "";
    text.resize(bytes - 1);
    return text;
  }

 private:
  Status check(NvrtcResult result, const char* what) const {
    if (result == NvrtcResult::success) return ok();
    return error(DGRT_COMPILE_FAILED, "{}: {}", what, library_.nvrtcGetErrorString(result));
  }

  const NvrtcLibrary& library_;
  NvrtcProgram program_ = nullptr;
};

// A file in memory that NVRTC writes its phase times to.
class PhaseTimes {
 public:
  PhaseTimes() : fd_(memfd_create("dgrt_nvrtc_times", MFD_CLOEXEC)) {}
  ~PhaseTimes() {
    if (fd_ >= 0) close(fd_);
  }
  PhaseTimes(const PhaseTimes&) = delete;
  PhaseTimes& operator=(const PhaseTimes&) = delete;

  bool is_open() const { return fd_ >= 0; }
  std::string option() const { return fmt::format("--time=/proc/self/fd/{}", fd_); }

  // Nothing if NVRTC wrote no table (NVRTC 13.0 writes "<name>, NVVM Optimizer, 8, ms" and the
  // like).
  std::optional<CompilePhases> read() const {
    char text[4096];
    const ssize_t bytes = pread(fd_, text, sizeof(text), 0);
    if (bytes <= 0) return std::nullopt;
    const std::string_view table(text, static_cast<size_t>(bytes));
    CompilePhases phases;
    const bool is_complete = read_ms(table, "CUDA C++ Frontend, ", &phases.front_ms) &&
                             read_ms(table, "NVVM Optimizer, ", &phases.nvvm_ms) &&
                             read_ms(table, "PTX Translation, ", &phases.ptxas_ms);
    return is_complete ? std::optional(phases) : std::nullopt;
  }

 private:
  static bool read_ms(std::string_view table, std::string_view phase, double* ms) {
    const size_t at = table.find(phase);
    if (at == std::string_view::npos) return false;
    const char* begin = table.data() + at + phase.size();
    return std::from_chars(begin, table.data() + table.size(), *ms).ec == std::errc();
  }

  int fd_;
};

// The options of the key and those that change only what is reported.
std::vector<std::string> all_options(const Instance& instance, const Key& key,
                                     const CompilerId& compiler) {
  std::vector<std::string> options = compile_options(instance);
  options.emplace_back("--ptxas-options=-v");
  if (compiler.major == 12 && compiler.minor < 9) return options;  // knows neither of the others
  // Names of objects with internal linkage hold a random number unless there is a seed.
  options.push_back("--frandom-seed=" + key.hex().substr(0, 16));
  // NVRTC 12.9 began to use the driver's own cache, which would hide compile times.
  options.emplace_back("--no-cache");
  return options;
}

Status failure(const Instance& instance, const std::vector<std::string>& options, const char* why,
               const std::string& log) {
  std::string joined;
  for (const std::string& option : options) joined += ' ' + option;
  return error(DGRT_COMPILE_FAILED, "compiling {} failed: {}\noptions:{}\n{}", instance.entry, why,
               joined, std::string_view(log).substr(0, max_log_chars));
}

}  // namespace

Result<std::shared_ptr<const Nvrtc>> Nvrtc::load() {
  DGRT_ASSIGN(std::shared_ptr<const NvrtcLibrary> library, load_nvrtc_library());
  return with(std::move(library));
}

std::shared_ptr<const Nvrtc> Nvrtc::with(std::shared_ptr<const NvrtcLibrary> library) {
  std::shared_ptr<Nvrtc> nvrtc(new Nvrtc());
  nvrtc->library_ = std::move(library);
  return nvrtc;
}

const CompilerId& Nvrtc::id() const { return library_->id; }
const std::string& Nvrtc::path() const { return library_->path; }

Result<Compiled> Nvrtc::compile(const Instance& instance, const Sources& sources,
                                bool with_phases) const {
  const auto start = std::chrono::steady_clock::now();
  DGRT_ASSIGN(const Closure* closure, sources.closure(instance.header));
  DGRT_ASSIGN(const Key key, kernel_key(instance, sources));
  std::vector<std::string> options = all_options(instance, key, library_->id);
  std::optional<PhaseTimes> times;
  if (with_phases && times.emplace().is_open()) options.push_back(times->option());

  Program program(*library_);
  DGRT_TRY(program.create(instance, *closure));
  const NvrtcResult result = program.compile(options);
  Compiled compiled;
  compiled.log = program.log();
  if (result != NvrtcResult::success)
    return failure(instance, options, library_->nvrtcGetErrorString(result), compiled.log);
  if (const Status status = program.read_cubin(&compiled.cubin); !status.is_ok())
    return failure(instance, options, status.message().c_str(), compiled.log);
  if (const std::string ptx = program.ptx(); !ptx.empty())
    (void)remove_unused_variables(compiled.cubin, ptx);

  const PtxasReport report = parse_ptxas_report(compiled.log);
  compiled.num_registers = report.num_registers;
  compiled.stack_bytes = report.stack_bytes;
  compiled.spill_store_bytes = report.spill_store_bytes;
  compiled.spill_load_bytes = report.spill_load_bytes;
  if (times) compiled.phases = times->read();
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start;
  compiled.total_ms = elapsed.count();
  return compiled;
}

}  // namespace dgrt
