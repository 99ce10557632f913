// Applies a caller's mask to scores. A warp has 16 rows of a tile, of one token or more each; every thread needs
// what the mask says of its two rows, a word for 32 keys. Tiles that every row may see whole are not looked up.
//
// Bits   The four threads of a row read a word each, from wherever it begins, and exchange them.
// Bytes  The warp reads every token's once, a key by each lane, and a ballot makes words of them.
//
// Byte by byte, because rows begin anywhere and reads stop where the mask ends.
#pragma once
#include "device/common/attn_mask.cuh"
#include "device/main_loop/online_softmax.cuh"
#include "device/ptx/memory.cuh"

namespace dgrt {

// What a warp's rows are: tokens [first, first + count) of a sequence; own: of a thread's two rows, from
// the first. columns: of the mask, the last kv_len of which are the sequence's keys.
struct MaskRows {
  int32_t sequence, q_len, kv_len, columns, first;
  uint32_t count;
  uint32_t own[2];
};

// keys: that are looked up at a time. Without a mask: nothing.
template <class Cfg, uint32_t keys = Cfg::block_n, bool given = Cfg::mask != attn_mask_none>
class MaskReader {
 public:
  __device__ MaskReader(const AttnMask&, const MaskRows&) {}
  __device__ int32_t columns() const { return 0; }
  __device__ void load(int32_t, int32_t = 0) {}
  template <uint32_t count>
  __device__ void apply(float (&)[count], int32_t) const {}
};

template <class Cfg, uint32_t keys>
class MaskReader<Cfg, keys, true> {
 public:
  __device__ MaskReader(const AttnMask& mask, const MaskRows& rows)
      : mask_(mask),
        rows_(rows),
        prefix_(Cfg::mask_skip_prefix ? max(rows.kv_len - rows.q_len, 0) : 0) {}

  __device__ int32_t columns() const { return rows_.columns; }

  // All lanes: what apply() needs of the tile whose first key is `first`. column: of key 0.
  __device__ __forceinline__ void load(int32_t first, int32_t column = 0) {
    if (!reads(first)) return;
    const int64_t start = mask_.indptr[rows_.sequence];
    if constexpr (Cfg::mask == attn_mask_bits)
      load_bits(start * 8 + column, first);
    else
      load_bytes(start + column, first);
  }

  // Scores of the tile that was loaded: minus infinity where the mask is false.
  template <uint32_t count>
  __device__ __forceinline__ void apply(float (&s)[count], int32_t first) const {
    if (!reads(first)) return;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half)
#pragma unroll
      for (uint32_t i = half * 2; i < count; i += 4)
#pragma unroll
        for (uint32_t j = 0; j < 2; ++j) {
          const uint32_t column = i / 4 * 8 + j;  // from the thread's first
          if ((words_[half][column / 32] >> column % 32 & 1) == 0) s[i + j] = -ptx::infinity();
        }
  }

 private:
  static constexpr uint32_t words = ceil_div(keys, 32);
  static constexpr uint32_t all_lanes = 0xffffffff;

  __device__ bool reads(int32_t first) const { return first + static_cast<int32_t>(keys) > prefix_; }
  // From token 0 and key 0.
  __device__ int64_t element(uint32_t token, int32_t key) const {
    return int64_t{rows_.first + static_cast<int32_t>(token)} * rows_.columns + key;
  }
  // 0 past the mask's end, and for rows that do not exist.
  __device__ __forceinline__ uint32_t byte_at(uint32_t token, int64_t at) const {
    const bool exists = rows_.first + static_cast<int32_t>(token) < rows_.q_len &&
                        static_cast<uint64_t>(at) < mask_.bytes;
    return ptx::load_b8_if(exists, mask_.elements + at);
  }
  // Bit 0 of a thread's words is of its first column.
  __device__ static uint32_t from_own_column(uint32_t word) { return word >> threadIdx.x % 4 * 2; }

  // Keys from `key` on. start: of key 0 and token 0 of the sequence, in elements from the mask's first.
  __device__ __forceinline__ uint32_t word_of(int64_t start, uint32_t token, int32_t key) const {
    const int64_t at = start + element(token, key), byte = at >> 3;
    uint32_t low = 0;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) low |= byte_at(token, byte + i) << 8 * i;
    const uint32_t word = __funnelshift_r(low, byte_at(token, byte + 4), static_cast<uint32_t>(at) & 7);
    const int32_t skipped = prefix_ - key;
    return skipped <= 0 ? word : skipped < 32 ? word | ((1u << skipped) - 1) : 0xffffffff;
  }

  __device__ __forceinline__ void load_bits(int64_t start, int32_t first) {
    constexpr uint32_t rounds = ceil_div(words, 4);
    const uint32_t lane = threadIdx.x % 4;
    uint32_t own[2][rounds];
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half)
#pragma unroll
      for (uint32_t i = 0; i < rounds; ++i)
        own[half][i] = word_of(start, rows_.own[half], first + static_cast<int32_t>((i * 4 + lane) * 32));
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half)
#pragma unroll
      for (uint32_t word = 0; word < words; ++word)
        words_[half][word] = from_own_column(__shfl_sync(all_lanes, own[half][word / 4], word % 4, 4));
  }

  __device__ __forceinline__ void load_bytes(int64_t start, int32_t first) {
    constexpr uint32_t batch = words < 8 ? 8 / words : 1;  // tokens that are read together
    const int32_t key = first + static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll 1
    for (uint32_t token = 0; token < rows_.count; token += batch) {
      uint32_t bytes[batch][words];
#pragma unroll
      for (uint32_t i = 0; i < batch; ++i)
#pragma unroll
        for (uint32_t word = 0; word < words; ++word)
          bytes[i][word] = byte_at(token + i, start + element(token + i, key + static_cast<int32_t>(word * 32)));
#pragma unroll
      for (uint32_t i = 0; i < batch; ++i)
#pragma unroll
        for (uint32_t word = 0; word < words; ++word) {
          const bool skipped = key + static_cast<int32_t>(word * 32) < prefix_;
          const uint32_t bits = from_own_column(__ballot_sync(all_lanes, skipped || bytes[i][word] != 0));
#pragma unroll
          for (uint32_t half = 0; half < 2; ++half)
            if (rows_.own[half] == token + i) words_[half][word] = bits;
        }
    }
  }

  const AttnMask& mask_;
  const MaskRows rows_;
  int32_t prefix_;  // keys that all rows see
  uint32_t words_[2][words];
};

}  // namespace dgrt
