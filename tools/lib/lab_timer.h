// Timing of device work. Before every repeat a 512 MB buffer is read, which leaves L2 cold and
// without dirty lines; then event, operation, event, with the queue kept full so that no launch gap
// of the host is measured. Median, spread, and an empty kernel measured in the same way beside it.
#pragma once
#include <functional>
#include <vector>

#include "tools/lib/lab_device.h"

namespace dgrt::lab {

struct Timing {
  double median_us = 0, p10_us = 0, p90_us = 0, min_us = 0;
  uint32_t repeats = 0;
};

// Enqueues one operation on the stream; must not wait.
using Operation = std::function<Status(CUstream)>;

class Timer {
 public:
  static constexpr size_t flush_bytes = size_t{512} << 20;
  static constexpr uint32_t default_repeats = 48;

  static Result<std::unique_ptr<Timer>> make(const Device& device);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Cold L2. The operation is run a few times before.
  Result<Timing> time(const Operation& operation, uint32_t repeats = default_repeats);
  // Several operations, interleaved repeat by repeat: for comparisons. One Timing each.
  Result<std::vector<Timing>> time_interleaved(const std::vector<Operation>& operations,
                                               uint32_t repeats = default_repeats);
  // `calls` operations captured in one graph, replayed; time of a replay / calls. Warm L2.
  Result<Timing> time_graph(const Operation& operation, uint32_t calls = 20,
                            uint32_t repeats = default_repeats);
  // An empty kernel of 132 x 384 threads, timed like time(): the floor of the method.
  Result<Timing> time_empty(uint32_t repeats = default_repeats);
  // Host time of one call, queue never full: the median over `calls` calls.
  Result<Timing> time_host(const Operation& operation, uint32_t calls = 200);

 private:
  explicit Timer(const Device& device) : device_(device) {}
  Status flush();
  Status spin();
  Status reserve_events(size_t count);
  // Microseconds of the pairs first, first + step, ...
  Result<std::vector<double>> read_events(size_t first, size_t pairs, size_t step);

  const Device& device_;
  DeviceBuffer flush_buffer_, sink_;
  std::vector<CUevent> events_;
};

}  // namespace dgrt::lab
