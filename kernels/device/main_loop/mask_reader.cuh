// Applies a caller's mask to scores. A warp has 16 rows of a tile, of one token or more each: every token's
// bits are read once, a key by each lane, and a ballot makes words of them of which every thread keeps those
// of its two rows. Reads so are coalesced, wherever rows of the mask begin, and stop where it ends. Tiles
// that every row may see whole are not looked up.
#pragma once
#include "device/common/attn_mask.cuh"
#include "device/main_loop/online_softmax.cuh"

namespace dgrt {

// What a warp's rows are: tokens [first, first + count) of a sequence; own: of a thread's two rows, from
// the first.
struct MaskRows {
  int32_t sequence, q_len, kv_len, first;
  uint32_t count;
  uint32_t own[2];
};

// Without a mask: nothing.
template <class Cfg, bool given = Cfg::mask != attn_mask_none>
class MaskReader {
 public:
  __device__ MaskReader(const AttnMask&, const MaskRows&) {}
  __device__ void load(int32_t) {}
  template <uint32_t count>
  __device__ void apply(float (&)[count], int32_t) const {}
};

template <class Cfg>
class MaskReader<Cfg, true> {
 public:
  __device__ MaskReader(const AttnMask& mask, const MaskRows& rows)
      : mask_(mask),
        rows_(rows),
        prefix_(Cfg::mask_skip_prefix ? max(rows.kv_len - rows.q_len, 0) : 0),
        start_(mask.indptr[rows.sequence]) {}

  // All lanes: what apply() needs of the tile whose first key is `first`.
  __device__ __forceinline__ void load(int32_t first) {
    if (!reads(first)) return;
#pragma unroll 1
    for (uint32_t token = 0; token < rows_.count; token += batch) {
      uint32_t bytes[batch][words];
#pragma unroll
      for (uint32_t i = 0; i < batch; ++i)
#pragma unroll
        for (uint32_t word = 0; word < words; ++word) bytes[i][word] = read(token + i, key_of(first, word));
#pragma unroll
      for (uint32_t i = 0; i < batch; ++i)
#pragma unroll
        for (uint32_t word = 0; word < words; ++word)
          keep(token + i, word, is_set(bytes[i][word], token + i, key_of(first, word)));
    }
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
          if ((words_[half][column / 32] >> column % 32 & 1) == 0) s[i + j] = -infinity();
        }
  }

 private:
  static constexpr bool is_bits = Cfg::mask == attn_mask_bits;
  static constexpr uint32_t words = ceil_div(Cfg::block_n, 32);
  static constexpr uint32_t batch = words < 8 ? 8 / words : 1;  // tokens whose bytes are on their way together

  __device__ bool reads(int32_t first) const { return first + static_cast<int32_t>(Cfg::block_n) > prefix_; }
  __device__ static int32_t key_of(int32_t first, uint32_t word) {
    return first + static_cast<int32_t>(word * 32 + threadIdx.x % 32);
  }
  __device__ int64_t element(uint32_t token, int32_t key) const {
    return int64_t{rows_.first + static_cast<int32_t>(token)} * rows_.kv_len + key;
  }

  // The byte that an element lies in; 0 where there is none.
  __device__ __forceinline__ uint32_t read(uint32_t token, int32_t key) const {
    const int64_t at = element(token, key);
    const auto byte = static_cast<uint64_t>(start_ + (is_bits ? at >> 3 : at));
    const bool exists = rows_.first + static_cast<int32_t>(token) < rows_.q_len && key >= prefix_ &&
                        key < rows_.kv_len && byte < mask_.bytes;
    return exists ? mask_.elements[byte] : 0;
  }
  __device__ __forceinline__ bool is_set(uint32_t byte, uint32_t token, int32_t key) const {
    if (key < prefix_) return true;
    return (is_bits ? byte >> (element(token, key) & 7) & 1 : byte) != 0;
  }
  // Bit 0 of a thread's words is of its first column.
  __device__ __forceinline__ void keep(uint32_t token, uint32_t word, bool set) {
    const uint32_t bits = __ballot_sync(0xffffffff, set) >> threadIdx.x % 4 * 2;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half)
      if (rows_.own[half] == token) words_[half][word] = bits;
  }

  const AttnMask& mask_;
  const MaskRows rows_;
  int32_t prefix_;  // keys that all rows see
  int64_t start_;
  uint32_t words_[2][words];
};

}  // namespace dgrt
