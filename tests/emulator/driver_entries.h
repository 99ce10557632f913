// The emulator's driver: what its handles point to, and its entry points, in files by subject. Work is done in the
// call that asks for it, unless its stream captures. Any thread may call; one lock guards everything.
#pragma once
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/driver/driver.h"
#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {

// Codes that dgrt does not tell apart.
constexpr CUresult launch_failed{719}, capture_invalidated{901};

constexpr uint32_t max_portable_cluster = 8;
constexpr size_t memory_bytes = size_t{4} << 30;

using Work = std::function<void()>;  // throws Fault
using Graph = std::vector<Work>;     // in order

struct Capture {
  CUstreamCaptureMode mode;
  const void* thread;  // address of a thread's own variable
  Graph graph;
  bool is_valid = true;
};

}  // namespace dgrt::emulator

// One per device: the primary one.
struct CUctx_st {
  dgrt::CUdevice device = 0;
  unsigned num_owners = 0;
  dgrt::CUresult failure = dgrt::CUDA_SUCCESS;  // of a launch; nothing works any more
};

struct CUstream_st {
  dgrt::CUcontext context = nullptr;
  std::unique_ptr<dgrt::emulator::Capture> capture;
};

struct CUevent_st {
  bool is_timed = true, is_recorded = false;
  std::chrono::steady_clock::time_point time;
};

struct CUgraph_st {
  dgrt::emulator::Graph work;
};

struct CUgraphExec_st {
  dgrt::emulator::Graph work;
};

struct CUkern_st {
  std::shared_ptr<const dgrt::emulator::Module> module;
  const dgrt::emulator::Kernel* code = nullptr;
  int max_dynamic_shared_bytes = 48 * 1024;
};

struct CUlib_st {
  std::map<std::string, CUkern_st> kernels;
};

namespace dgrt::emulator {

#define DGRT_DECLARE(name, version, parameters) CUresult name parameters;
DGRT_DRIVER_FUNCTIONS(DGRT_DECLARE)
DGRT_DRIVER_OPTIONAL_FUNCTIONS(DGRT_DECLARE)
#undef DGRT_DECLARE

std::lock_guard<std::mutex> lock();  // of every entry point that is not pure

// Of the stream, or of the thread if it is null; null: none.
CUcontext context_of(CUstream stream);

// Does the work, or adds it to the stream's capture. The lock is held.
CUresult submit(CUstream stream, Work work);

// STREAM_CAPTURE_UNSUPPORTED, and no capture survives it, if this thread may not do what could wait for one.
CUresult check_outside_captures();

}  // namespace dgrt::emulator
