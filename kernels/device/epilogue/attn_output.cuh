// Stores rows of o from accumulators, 16 bytes a thread. A fragment holds two columns of each group
// of eight; four threads of a row exchange until each has all eight columns of every fourth group.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

__device__ __forceinline__ void exchange(uint32_t& mine, uint32_t& other, uint32_t distance,
                                         bool upper) {
  const uint32_t sent = upper ? mine : other;
  const uint32_t received = __shfl_xor_sync(0xffffffff, sent, distance);
  (upper ? mine : other) = received;
}

// In: thread t of four has pair t of groups 0 to 3. Out: pairs 0 to 3 of group t.
__device__ __forceinline__ uint4 transpose_pairs(uint32_t g0, uint32_t g1, uint32_t g2,
                                                 uint32_t g3) {
  const bool odd = threadIdx.x % 2 != 0, high = threadIdx.x % 4 / 2 != 0;
  exchange(g0, g1, 1, odd);
  exchange(g2, g3, 1, odd);
  exchange(g0, g2, 2, high);
  exchange(g1, g3, 2, high);
  return make_uint4(g0, g1, g2, g3);
}

// o: the slab's fragment, columns from first_column on. rows[i], scale[i]: of the thread's two
// rows; null rows are not stored.
template <int dtype, uint32_t count>
__device__ __forceinline__ void store_rows(const float (&o)[count], uint16_t* const (&rows)[2],
                                           const float (&scale)[2], uint32_t first_column,
                                           uint32_t columns) {
  static_assert(count % 16 == 0, "four groups of eight columns at a time");
#pragma unroll
  for (uint32_t row = 0; row < 2; ++row)
#pragma unroll
    for (uint32_t i = 0; i < count; i += 16) {
      uint32_t pairs[4];
#pragma unroll
      for (uint32_t group = 0; group < 4; ++group) {
        const uint32_t at = i + group * 4 + row * 2;
        pairs[group] = ptx::pack_half2<dtype>(o[at] * scale[row], o[at + 1] * scale[row]);
      }
      const uint4 v = transpose_pairs(pairs[0], pairs[1], pairs[2], pairs[3]);
      const uint32_t column = first_column + i * 2 + threadIdx.x % 4 * 8;
      if (rows[row] != nullptr && column < columns) ptx::store_b32x4(rows[row] + column, v);
    }
}

}  // namespace dgrt
