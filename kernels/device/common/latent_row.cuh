// A token's row in the quantised caches of sparse MLA: e4m3 columns under one scale a group, then 64 rotary
// columns of bf16. A slot is a place on a page.
//
//   V32  656 bytes a token: 512 e4m3, 4 fp32 scales of 128 columns each, 64 bf16.
//   V4   per page first the data of all tokens, 576 bytes each: 448 e4m3, 64 bf16; then their scales, 8 bytes
//        each: 7 exponents (e8m0: 2^(byte - 127)) of 64 columns each, and a byte that nobody reads.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

constexpr int latent_v32 = 1, latent_v4 = 2;  // DGRT_MLA_KV_...
constexpr uint32_t latent_rotary_columns = 64;

DGRT_HD constexpr uint32_t latent_columns(int format) { return format == latent_v32 ? 576 : 512; }
// Of a token, all it has on its page.
DGRT_HD constexpr uint32_t latent_token_bytes(int format) { return format == latent_v32 ? 656 : 584; }

template <int format>
struct LatentRow {
  static constexpr bool is_planar = format == latent_v4;
  static constexpr uint32_t columns = latent_columns(format);
  static constexpr uint32_t group_columns = is_planar ? 64 : 128;
  static constexpr uint32_t quantised_columns = columns - latent_rotary_columns;  // a byte each
  static constexpr uint32_t num_groups = quantised_columns / group_columns;
  static constexpr uint32_t rotary_at = is_planar ? 448 : 528;  // bytes from the row's start
  static constexpr uint32_t data_bytes = is_planar ? 576 : 656;  // between rows
};

#ifdef __CUDACC_RTC__
// Where a token's bytes are.
struct LatentPlace {
  uint8_t *row, *scales;
};

template <int format>
__device__ __forceinline__ LatentPlace latent_place(const void* cache, uint64_t page_bytes, uint32_t page_size,
                                                    uint32_t page, uint32_t in_page) {
  using Row = LatentRow<format>;
  uint8_t* const first = static_cast<uint8_t*>(const_cast<void*>(cache)) + page * page_bytes;
  uint8_t* const row = first + uint64_t{in_page} * Row::data_bytes;
  if constexpr (Row::is_planar)
    return {row, first + uint64_t{page_size} * Row::data_bytes + uint64_t{in_page} * 8};
  return {row, row + Row::quantised_columns};
}

template <bool wide>
__device__ __forceinline__ int64_t load_slot(const void* slots, uint32_t token) {
  if constexpr (wide) return static_cast<const int64_t*>(slots)[token];
  return static_cast<const int32_t*>(slots)[token];
}
#endif

}  // namespace dgrt
