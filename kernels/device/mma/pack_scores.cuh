// Between the two products of attention.
#pragma once
#include "device/ptx/half_format.cuh"

namespace dgrt {

// Scores, a thread's fragment of them, as the first operand of the next product: the layouts agree.
template <int dtype, uint32_t count>
__device__ __forceinline__ void pack_scores(uint32_t (&packed)[count / 2],
                                            const float (&s)[count]) {
#pragma unroll
  for (uint32_t i = 0; i < count / 2; ++i)
    packed[i] = ptx::pack_half2<dtype>(s[2 * i], s[2 * i + 1]);
}

}  // namespace dgrt
