// Rules that the hyper-connection ops share.
#pragma once
#include <cstdint>

#include "runtime/base/status.h"

namespace dgrt::hyper {

constexpr int64_t max_size = INT32_MAX;  // of m and k: TMA coordinates are 32-bit

// Of the weights: fp32 [n, k].
inline Status check_weights(int64_t n, int64_t k) {
  if (n < 4 || n > 32 || n % 4 != 0)
    return invalid("n={}: must be a multiple of 4 from 4 to 32", n);
  if (k < 64 || k > max_size || k % 64 != 0)
    return invalid("k={}: must be a multiple of 64 from 64 to {}", k, max_size);
  return ok();
}

// Elements between rows of at least `least`.
inline Status check_stride(const char* name, int64_t stride, int64_t least,
                           uint32_t element_bytes) {
  if (stride < least)
    return invalid("{}={}: must be at least {}, what a row holds", name, stride, least);
  const uint32_t multiple = 16 / element_bytes;
  if (stride % multiple != 0)
    return invalid("{}={}: must be a multiple of {} (16-byte rows)", name, stride, multiple);
  // Byte strides of tensor maps have 40 bits.
  if (stride > (int64_t{1} << 40) / element_bytes - 16)
    return invalid("{}={}: rows must be less than 2^40 bytes apart", name, stride);
  return ok();
}

}  // namespace dgrt::hyper
