// Stores a slab of attention's output through shared memory, in boxes of 64 columns: by TMA, which runs while
// the next tile is worked on, or, where the sequence ends within the slab, the rows that exist.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/attn_tile.cuh"
#include "device/ptx/half_format.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/shared.cuh"
#include "device/ptx/tma.cuh"
#include "device/ptx/warpgroup.cuh"

namespace dgrt {

// Rows of o that begin at `token` and `head`, of which `tokens` tokens exist.
struct OutputSlab {
  uint32_t token, tokens, head;
};

// Of one warpgroup. columns: of its part of o, which begins at first_column. heads: whose rows take turns.
template <int dtype, uint32_t columns, uint32_t heads>
struct AttnStore {
  uint32_t staging;  // shared address
  uint32_t barrier;  // named, of the warpgroup alone
  uint32_t first_column;

  // scale: of the thread's two rows.
  template <uint32_t count>
  __device__ __forceinline__ void store(const AttnParams& p, const float (&o)[count],
                                        const float (&scale)[2], const OutputSlab& slab) const {
    wait();
    ptx::named_barrier_sync(barrier, 128);
    write(o, scale);
    ptx::fence_proxy_async();
    ptx::named_barrier_sync(barrier, 128);
    if (slab.tokens * heads >= attn_slab_rows)
      send(p, slab);
    else
      copy(p, slab);
  }

  // Until TMA has read the slab before: also before the kernel ends.
  __device__ __forceinline__ void wait() const {
    if (threadIdx.x % 128 == 0) ptx::tma_store_wait_read<0>();
  }

 private:
  // stmatrix: lanes 0-7 and 16-23 address rows 0-7, the others rows 8-15; lanes 16-31 the next 8 columns.
  template <uint32_t count>
  __device__ __forceinline__ void write(const float (&o)[count], const float (&scale)[2]) const {
    const uint32_t lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
    for (uint32_t pair = 0; pair < columns / 16; ++pair) {
      uint32_t v[4];
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t at = pair * 8 + 2 * i;
        v[i] = ptx::pack_half2<dtype>(o[at] * scale[i % 2], o[at + 1] * scale[i % 2]);
      }
      ptx::stmatrix_x4(staging + attn_chunk_offset(attn_slab_rows, row, pair * 2 + lane / 16), v[0],
                       v[1], v[2], v[3]);
    }
  }

  // Columns past the end stay away.
  __device__ __forceinline__ void send(const AttnParams& p, const OutputSlab& slab) const {
    if (threadIdx.x % 128 != 0) return;
#pragma unroll
    for (uint32_t box = 0; box < attn_boxes(columns); ++box)
      ptx::tma_store_3d(&p.o_map, staging + box * attn_slab_rows * attn_row_bytes,
                        first_column + box * attn_box_columns, heads == 1 ? slab.token : slab.head,
                        heads == 1 ? slab.head : slab.token);
    ptx::tma_store_commit();
  }

  __device__ __forceinline__ void copy(const AttnParams& p, const OutputSlab& slab) const {
    constexpr uint32_t chunks = columns / 8;
    auto* o = static_cast<uint16_t*>(p.o);
#pragma unroll 1
    for (uint32_t i = threadIdx.x % 128; i < slab.tokens * heads * chunks; i += 128) {
      const uint32_t row = i / chunks, chunk = i % chunks, column = first_column + chunk * 8;
      if (column < p.v_columns)
        ptx::store_b32x4(
            o + (static_cast<uint64_t>(slab.token) + row / heads) * p.o_token +
                (slab.head + row % heads) * p.o_head + column,
            ptx::load_shared_b32x4(staging + attn_chunk_offset(attn_slab_rows, row, chunk)));
    }
  }
};

}  // namespace dgrt
