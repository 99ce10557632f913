// Keys of sequences whose own tokens' keys may not be in the cache yet. Those new keys lie one behind the
// other, as the queries do, and come last. With NEW_KEYS the cached keys of a sequence and its new ones make
// tiles of their own, so that every tile comes out of one tensor: the new ones start on a tile's first row.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// Of a sequence with q_len queries, keys that exist where the page table reaches `reach` of those in the cache.
template <bool new_keys>
__device__ __forceinline__ int32_t cut_keys(int32_t keys, int32_t q_len, uint32_t reach) {
  const auto most = static_cast<int32_t>(reach);
  return new_keys ? min(max(keys - q_len, 0), most) + q_len : min(keys, most);
}

// Keys of a sequence with q_len queries, from lengths that may be anything. They count from the first that
// the page table has.
template <bool new_keys, class Params>
__device__ __forceinline__ int32_t num_keys(const Params& p, uint32_t sequence, int32_t q_len) {
  int32_t keys = max(p.seq_lens[sequence], 0);
  if (p.kv_start != nullptr) keys = max(keys - max(p.kv_start[sequence], 0), 0);
  return cut_keys<new_keys>(keys, q_len, p.max_kv_len);
}

// The column of a mask of all keys that the first of these has.
template <bool new_keys, class Params>
__device__ __forceinline__ int32_t first_mask_column(const Params& p, uint32_t sequence, int32_t q_len) {
  if (p.kv_start == nullptr) return 0;
  const int32_t start = max(p.kv_start[sequence], 0);
  return new_keys ? min(start, max(max(p.seq_lens[sequence], 0) - q_len, 0)) : start;
}

// Which keys a tile has.
template <uint32_t block_n, bool new_keys>
struct KeyTiles {
  static constexpr auto size = static_cast<int32_t>(block_n);
  int32_t cached;  // tiles
  int32_t gap;     // rows of the last of them that have no key

  __device__ explicit KeyTiles(int32_t cached_keys)
      : cached((cached_keys + size - 1) / size), gap(cached * size - cached_keys) {}

  __device__ bool is_new(int32_t at) const { return at >= cached; }
  __device__ int32_t cached_end() const { return cached * size - gap; }
  __device__ int32_t of(int32_t key) const { return (key < cached_end() ? key : key + gap) / size; }
  __device__ int32_t first_key(int32_t at) const { return at * size - (is_new(at) ? gap : 0); }
  // Keys of tile `at` end there, of keys that end at key_end.
  __device__ int32_t end(int32_t at, int32_t key_end) const {
    return is_new(at) ? key_end : min(key_end, cached_end());
  }
};

template <uint32_t block_n>
struct KeyTiles<block_n, false> {
  static constexpr auto size = static_cast<int32_t>(block_n);

  __device__ explicit KeyTiles(int32_t) {}

  __device__ int32_t of(int32_t key) const { return key / size; }
  __device__ int32_t first_key(int32_t at) const { return at * size; }
  __device__ int32_t end(int32_t, int32_t key_end) const { return key_end; }
};

}  // namespace dgrt
