// What attention over a paged cache knows of the rows of a tile, however it is computed: which keys they may
// see, and what their scores and sums are multiplied by.
#pragma once
#include "device/main_loop/mask_reader.cuh"
#include "device/sched/key_split.cuh"

namespace dgrt {

// Which keys the two rows of a thread may see, and which all rows of the segment do.
struct PagedMask {
  int32_t position, last;           // of the segment's first token among the keys; the last key that there is
  int32_t common_low, common_high;  // all rows see these, both included

  __device__ PagedMask(const AttnPagedParams& p, const KeySegment& s)
      : position(s.offset() + s.first_token),
        last(s.kv_len - 1),
        common_low(position + static_cast<int32_t>(s.tokens(p)) - 1 - p.window_left),
        common_high(min(position + p.window_right, last)) {}

  // row: the thread's first, the other is 8 below. first: the first key.
  template <uint32_t count>
  __device__ __forceinline__ void apply(const AttnPagedParams& p, float (&s)[count], uint32_t row,
                                        int32_t first) const {
    if (first >= common_low && first + static_cast<int32_t>(count * 2) - 1 <= common_high) return;
    const int32_t column = first + static_cast<int32_t>(threadIdx.x % 4) * 2;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const int32_t at = position + static_cast<int32_t>(token_of_row(row + half * 8, p.row_scale));
      const int32_t low = at - p.window_left, high = min(at + p.window_right, last);
#pragma unroll
      for (uint32_t i = half * 2; i < count; i += 4)
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
          const int32_t key = column + static_cast<int32_t>(i / 4 * 8 + j);
          if (key < low || key > high) s[i + j] = -ptx::infinity();
        }
    }
  }
};

// What a caller's mask says of this warp's rows of the segment.
template <class Cfg, uint32_t keys = Cfg::block_n>
__device__ __forceinline__ MaskReader<Cfg, keys> given_mask(const AttnPagedParams& p, const KeySegment& s,
                                                            uint32_t row) {
  const uint32_t first = token_of_row(row / 16 * 16, p.row_scale);
  return {p.mask,
          {s.sequence,
           s.q_len,
           s.kv_len,
           s.kv_len,
           s.first_token + static_cast<int32_t>(first),
           min(token_of_row(15, p.row_scale) + 2, 16),
           {token_of_row(row, p.row_scale) - first, token_of_row(row + 8, p.row_scale) - first}}};
}

// What scores (softcap: the tangent's argument, and the tangent) and sums of values are multiplied by.
struct PagedScales {
  float logit, cap, value = 1.0f;

  __device__ PagedScales(const AttnPagedParams& p) : logit(p.scale_log2), cap(p.cap_scale) {}
  // Of an 8-bit cache.
  template <bool softcap>
  __device__ void add_head(const AttnPagedParams& p, int32_t kv_head) {
    if (p.k_scale != nullptr) (softcap ? cap : logit) *= p.k_scale[kv_head * p.k_scale_head];
    if (p.v_scale != nullptr) value = p.v_scale[kv_head * p.v_scale_head];
  }
};

}  // namespace dgrt
