// Bytewise comparison: finds the first place where two buffers differ, or where the bytes between
// the rows of a matrix are not what they were filled with.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::compare {

struct Params {
  const uint8_t* x;
  const uint8_t* y;  // null: compare with `value`
  uint64_t num_rows;
  uint64_t first_byte, end_byte;  // of each row
  uint64_t row_stride;            // bytes
  unsigned long long* first;      // smallest offset from x that differs; starts as all ones
  uint32_t value;
};

#ifdef __CUDACC_RTC__

template <class Cfg>
__device__ void run(const Params& p) {
  const uint64_t width = p.end_byte - p.first_byte, count = p.num_rows * width;
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const uint64_t row = p.num_rows == 1 ? 0 : i / width;
    const uint64_t at = row * p.row_stride + p.first_byte + (i - row * width);
    const uint32_t want = p.y ? p.y[at] : p.value;
    if (p.x[at] != want) atomicMin(p.first, static_cast<unsigned long long>(at));
  }
}

#endif
}  // namespace dgrt::lab::compare
