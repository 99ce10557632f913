#include "tools/lib/lab_timer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "tools/lib/lab_timing.cuh"

namespace dgrt::lab {
namespace {

constexpr uint32_t warmups = 3;
constexpr LabKernel empty_kernel{"timing", timing::kind_empty, 384, sizeof(timing::Params)};
constexpr LabKernel read_kernel{"timing", timing::kind_read, 256, sizeof(timing::Params)};
constexpr LabKernel spin_kernel{"timing", timing::kind_spin, 32, sizeof(timing::Params)};

// While the device spins, the host enqueues everything that follows. Enqueuing one repeat takes
// about 15 us; what is not enqueued when the spinning ends is still far ahead of the device, whose
// flush takes 130 us per repeat.
constexpr uint64_t spin_ns = 2'000'000;

Timing summarise(std::vector<double> us) {
  std::sort(us.begin(), us.end());
  const auto at = [&us](double part) {
    return us[static_cast<size_t>(std::lround(part * static_cast<double>(us.size() - 1)))];
  };
  return {at(0.5), at(0.1), at(0.9), us.front(), static_cast<uint32_t>(us.size())};
}

// Owner of a captured graph, ready to launch.
class Graph {
 public:
  explicit Graph(const Driver& cu) : cu_(cu) {}
  ~Graph() {
    if (exec_) (void)cu_.cuGraphExecDestroy(exec_);
    if (graph_) (void)cu_.cuGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  Status capture(const Operation& operation, uint32_t calls, CUstream stream) {
    DGRT_CU(cu_, cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    Status status;
    for (uint32_t i = 0; i < calls && status.is_ok(); ++i) status = operation(stream);
    const CUresult ended = cu_.cuStreamEndCapture(stream, &graph_);  // also after a failure
    DGRT_TRY(status);
    DGRT_TRY(cu_status(cu_, ended, "cuStreamEndCapture"));
    DGRT_CU(cu_, cuGraphInstantiateWithFlags(&exec_, graph_, 0));
    return ok();
  }
  Status launch(CUstream stream) const {
    DGRT_CU(cu_, cuGraphLaunch(exec_, stream));
    return ok();
  }

 private:
  const Driver& cu_;
  CUgraph graph_ = nullptr;
  CUgraphExec exec_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<Timer>> Timer::make(const Device& device) {
  std::unique_ptr<Timer> timer(new Timer(device));
  DGRT_ASSIGN(timer->flush_buffer_, DeviceBuffer::make(device, flush_bytes));
  DGRT_ASSIGN(timer->sink_, DeviceBuffer::make(device, sizeof(uint32_t)));
  DGRT_TRY(timer->flush());
  DGRT_TRY(timer->spin());
  DGRT_TRY(device.synchronize());
  return timer;
}

Timer::~Timer() {
  for (const CUevent event : events_) (void)device_.driver().cuEventDestroy(event);
}

Status Timer::flush() {
  const timing::Params params{flush_buffer_.data(), flush_bytes / 16, sink_.as<uint32_t>()};
  return device_.launch(read_kernel, &params, device_.info().sm_count * 8, 1, device_.stream());
}

Status Timer::spin() {
  const timing::Params params{nullptr, spin_ns, nullptr};
  return device_.launch(spin_kernel, &params, 1, 1, device_.stream());
}

Status Timer::reserve_events(size_t count) {
  while (events_.size() < count) {
    CUevent event = nullptr;
    DGRT_CU(device_.driver(), cuEventCreate(&event, CU_EVENT_DEFAULT));
    events_.push_back(event);
  }
  return ok();
}

Result<std::vector<double>> Timer::read_events(size_t first, size_t pairs, size_t step) {
  std::vector<double> us;
  for (size_t i = 0; i < pairs; ++i) {
    const size_t at = (first + i * step) * 2;
    float ms = 0;
    DGRT_CU(device_.driver(), cuEventElapsedTime(&ms, events_[at], events_[at + 1]));
    us.push_back(double{ms} * 1000);
  }
  return us;
}

Result<std::vector<Timing>> Timer::time_interleaved(const std::vector<Operation>& operations,
                                                    uint32_t repeats) {
  const CUstream stream = device_.stream();
  const Driver& cu = device_.driver();
  const size_t count = operations.size();
  DGRT_TRY(reserve_events(count * repeats * 2));
  for (const Operation& operation : operations)
    for (uint32_t i = 0; i < warmups; ++i) DGRT_TRY(operation(stream));
  DGRT_TRY(device_.synchronize());

  DGRT_TRY(spin());
  for (size_t i = 0; i < count * repeats; ++i) {
    DGRT_TRY(flush());
    DGRT_CU(cu, cuEventRecord(events_[i * 2], stream));
    DGRT_TRY(operations[i % count](stream));
    DGRT_CU(cu, cuEventRecord(events_[i * 2 + 1], stream));
  }
  DGRT_TRY(device_.synchronize());

  std::vector<Timing> timings;
  for (size_t i = 0; i < count; ++i) {
    DGRT_ASSIGN(std::vector<double> us, read_events(i, repeats, count));
    timings.push_back(summarise(std::move(us)));
  }
  return timings;
}

Result<Timing> Timer::time(const Operation& operation, uint32_t repeats) {
  DGRT_ASSIGN(const std::vector<Timing> timings, time_interleaved({operation}, repeats));
  return timings[0];
}

Result<Timing> Timer::time_empty(uint32_t repeats) {
  return time(
      [this](CUstream stream) {
        const timing::Params params{};
        return device_.launch(empty_kernel, &params, 132, 1, stream);
      },
      repeats);
}

Result<Timing> Timer::time_graph(const Operation& operation, uint32_t calls, uint32_t repeats) {
  const CUstream stream = device_.stream();
  const Driver& cu = device_.driver();
  DGRT_TRY(reserve_events(size_t{repeats} * 2));
  Graph graph(cu);
  DGRT_TRY(graph.capture(operation, calls, stream));
  for (uint32_t i = 0; i < warmups; ++i) DGRT_TRY(graph.launch(stream));
  DGRT_TRY(device_.synchronize());

  DGRT_TRY(spin());
  for (uint32_t i = 0; i < repeats; ++i) {
    DGRT_CU(cu, cuEventRecord(events_[i * 2], stream));
    DGRT_TRY(graph.launch(stream));
    DGRT_CU(cu, cuEventRecord(events_[i * 2 + 1], stream));
  }
  DGRT_TRY(device_.synchronize());
  DGRT_ASSIGN(std::vector<double> us, read_events(0, repeats, 1));
  for (double& value : us) value /= calls;
  return summarise(std::move(us));
}

Result<Timing> Timer::time_host(const Operation& operation, uint32_t calls) {
  using Clock = std::chrono::steady_clock;
  const CUstream stream = device_.stream();
  constexpr uint32_t batch = 32;  // calls before the queue is drained, so that none waits for room
  std::vector<double> us;
  for (uint32_t i = 0; i < calls; ++i) {
    if (i % batch == 0) DGRT_TRY(device_.synchronize());
    const Clock::time_point start = Clock::now();
    DGRT_TRY(operation(stream));
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  DGRT_TRY(device_.synchronize());
  return summarise(std::move(us));
}

}  // namespace dgrt::lab
