// The emulator's driver: streams and their captures, graphs, events; memory.
#include <algorithm>
#include <cstring>
#include <set>

#include "tests/emulator/driver_entries.h"

namespace dgrt::emulator {
namespace {

using Clock = std::chrono::steady_clock;

std::set<CUstream> streams;
std::map<std::byte*, size_t> memory;  // bytes by address
size_t used_bytes = 0;

thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

std::byte* host_pointer(CUdeviceptr address) { return reinterpret_cast<std::byte*>(address); }

// Of what the caller hands over; a driver refuses it without harm to the context.
CUresult check_range(CUdeviceptr address, size_t bytes) {
  try {
    if (bytes > 0) check_global(address, bytes);
    return CUDA_SUCCESS;
  } catch (const Fault& fault) {
    fprintf(stderr, "emulator: copy or memset of %zu bytes: %s\n", bytes, fault.what());
    return CUDA_ERROR_INVALID_VALUE;
  }
}

// `work` when the ranges are good: then, and again whenever it is done.
CUresult submit_checked(CUstream stream, std::vector<std::pair<CUdeviceptr, size_t>> ranges, Work work) {
  for (const auto& [address, bytes] : ranges)
    if (const CUresult result = check_range(address, bytes); result != CUDA_SUCCESS) return result;
  return submit(stream, [ranges = std::move(ranges), work = std::move(work)] {
    for (const auto& [address, bytes] : ranges)
      if (bytes > 0) check_global(address, bytes);
    work();
  });
}

template <class Value>
CUresult fill(CUdeviceptr to, Value value, size_t elems, CUstream stream) {
  const auto guard = lock();
  if (to % sizeof(Value) != 0) return CUDA_ERROR_INVALID_VALUE;
  return submit_checked(stream, {{to, elems * sizeof(Value)}},
                        [=] { std::fill_n(reinterpret_cast<Value*>(host_pointer(to)), elems, value); });
}

}  // namespace

CUresult submit(CUstream stream, Work work) {
  if (stream != nullptr && streams.count(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
  const CUcontext context = context_of(stream);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->failure != CUDA_SUCCESS) return context->failure;
  if (stream != nullptr && stream->capture != nullptr) {
    if (!stream->capture->is_valid) return capture_invalidated;
    stream->capture->graph.push_back(std::move(work));
    return CUDA_SUCCESS;
  }
  try {
    work();
  } catch (const Fault& fault) {
    fprintf(stderr, "emulator: %s\n", fault.what());
    context->failure = launch_failed;
  }
  return context->failure;
}

CUresult check_outside_captures() {
  if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (const CUstream stream : streams) {
    Capture* capture = stream->capture.get();
    if (capture == nullptr || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    const bool is_own = capture->thread == &thread_mode;
    const bool is_global =
        capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!is_own && !is_global) continue;
    capture->is_valid = false;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

// ---- Streams ----

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  const auto guard = lock();
  const CUcontext context = context_of(nullptr);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->failure != CUDA_SUCCESS) return context->failure;
  *stream = new CUstream_st{context, nullptr};
  streams.insert(*stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream) {
  const auto guard = lock();
  if (streams.erase(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete stream;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  const auto guard = lock();
  if (stream != nullptr && stream->capture != nullptr) {
    stream->capture->is_valid = false;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return submit(stream, [] {});
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  const auto guard = lock();
  if (stream != nullptr && streams.count(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
  *context = context_of(stream);
  return *context == nullptr ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  const auto guard = lock();
  if (stream == nullptr) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (streams.count(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->context->failure != CUDA_SUCCESS) return stream->context->failure;
  if (stream->capture != nullptr) return CUDA_ERROR_INVALID_VALUE;
  stream->capture = std::make_unique<Capture>(Capture{mode, &thread_mode, {}});
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  const auto guard = lock();
  *graph = nullptr;
  if (stream == nullptr || stream->capture == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  if (!capture->is_valid) return capture_invalidated;
  *graph = new CUgraph_st{std::move(capture->graph)};
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  const auto guard = lock();
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (stream != nullptr && stream->capture != nullptr)
    *status = stream->capture->is_valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return CUDA_SUCCESS;
}

// ---- Graphs ----

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  const auto guard = lock();
  for (const Work& work : exec->work)
    if (const CUresult result = submit(stream, work); result != CUDA_SUCCESS) return result;
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  delete exec;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  delete graph;
  return CUDA_SUCCESS;
}

// ---- Events ----

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  *event = new CUevent_st{(flags & CU_EVENT_DISABLE_TIMING) == 0, false, {}};
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  const auto guard = lock();
  return submit(stream, [event] { event->is_recorded = true, event->time = Clock::now(); });
}

CUresult cuEventSynchronize(CUevent) { return CUDA_SUCCESS; }

CUresult cuEventElapsedTime(float* ms, CUevent start, CUevent end) {
  const auto guard = lock();
  for (const CUevent event : {start, end})
    if (!event->is_timed || !event->is_recorded) return CUDA_ERROR_INVALID_HANDLE;
  *ms = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  delete event;
  return CUDA_SUCCESS;
}

// ---- Memory ----

CUresult cuMemAlloc(CUdeviceptr* pointer, size_t bytes) {
  const auto guard = lock();
  const CUcontext context = context_of(nullptr);
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->failure != CUDA_SUCCESS) return context->failure;
  if (const CUresult result = check_outside_captures(); result != CUDA_SUCCESS) return result;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (bytes > memory_bytes - used_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  std::byte* allocated = allocate(bytes);
  if (allocated == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  memory[allocated] = bytes;
  used_bytes += bytes;
  *pointer = reinterpret_cast<CUdeviceptr>(allocated);
  return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr pointer) {
  const auto guard = lock();
  if (pointer == 0) return CUDA_SUCCESS;
  if (const CUresult result = check_outside_captures(); result != CUDA_SUCCESS) return result;
  const auto known = memory.find(host_pointer(pointer));
  if (known == memory.end() || !release(known->first)) return CUDA_ERROR_INVALID_VALUE;
  used_bytes -= known->second;
  memory.erase(known);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  const auto guard = lock();
  return submit_checked(stream, {{to, bytes}}, [=] { std::memcpy(host_pointer(to), from, bytes); });
}

CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  const auto guard = lock();
  return submit_checked(stream, {{from, bytes}}, [=] { std::memcpy(to, host_pointer(from), bytes); });
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  const auto guard = lock();
  return submit_checked(stream, {{to, bytes}, {from, bytes}},
                        [=] { std::memmove(host_pointer(to), host_pointer(from), bytes); });
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t elems, CUstream stream) {
  return fill(to, value, elems, stream);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t elems, CUstream stream) {
  return fill(to, value, elems, stream);
}

}  // namespace dgrt::emulator
