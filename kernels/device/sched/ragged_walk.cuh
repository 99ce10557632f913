// Tiles of a ragged batch: block_m query rows of one head of one sequence. How many tiles a
// sequence has is known on the device alone, so tiles are numbered by slots: sequence b starts at
// slot q_indptr[b] / block_m + b, which leaves room for all of its tiles and at most one slot
// unused. The slot of a tile, and the sequence of a slot, are then a search and no list.
//
// Order     The last tiles of a sequence come first: under a causal mask they see the most keys.
//           All heads of a section are done before the next section, so that their keys stay in the
//           L2 cache.
// Counter   A CTA starts with the tile of its own number and takes further ones from a counter, so
//           that long tiles do not hold up others: each only when it is needed. Every CTA stops at
//           its first number past the end: the number of increments is that of the tiles, after
//           which the counter has wrapped to zero.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/ptx/atomic.cuh"

namespace dgrt {

struct RaggedTile {
  int32_t q_begin, q_len;    // tokens of the sequence
  int32_t kv_begin, kv_len;  // kv_begin: what the keys' source wants to know (attn_keys.cuh)
  int32_t first_row, head;

  // Position of row 0 among the keys; negative if there are more queries than keys.
  __device__ int32_t offset() const { return kv_len - q_len; }
};

// Where a sequence starts, from lengths that may be anything.
__device__ __forceinline__ int32_t bounded_indptr(const int32_t* indptr, uint32_t sequence,
                                                  uint32_t total) {
  return min(max(indptr[sequence], 0), static_cast<int32_t>(total));
}

// Key tiles [first, end) that some row of the tile may see, of keys [key_first, key_end).
template <uint32_t block_m, uint32_t block_n>
struct KeyRange {
  int32_t key_first, key_end, first, end;

  __device__ KeyRange(const AttnParams& p, const RaggedTile& tile) {
    const int32_t last_row = min(tile.first_row + static_cast<int32_t>(block_m), tile.q_len) - 1;
    key_first = max(tile.offset() + tile.first_row - p.window_left, 0);
    key_end = min(tile.offset() + last_row + p.window_right + 1, tile.kv_len);
    first = key_first / static_cast<int32_t>(block_n);
    end = key_end <= key_first ? first : (key_end - 1) / static_cast<int32_t>(block_n) + 1;
  }
  __device__ bool is_empty() const { return first >= end; }
};

// For all lanes of one warp. Keys: attn_keys.cuh.
template <uint32_t block_m, class Keys>
class RaggedWalk {
 public:
  __device__ explicit RaggedWalk(const typename Keys::Params& p) : p_(p) {}

  // False after the last tile.
  __device__ bool next(RaggedTile& tile) {
    const uint32_t num_tiles = num_slots() * p_.num_heads;
    while (true) {
      uint32_t index = blockIdx.x;
      if (!is_first_) {
        uint32_t taken = 0;
        if (threadIdx.x % 32 == 0) taken = ptx::atomic_inc_wrap(p_.counter, num_tiles - 1);
        index = gridDim.x + __shfl_sync(0xffffffff, taken, 0);
      }
      is_first_ = false;
      if (index >= num_tiles) return false;
      place(index, tile);
      if (tile.first_row < tile.q_len) return true;
    }
  }

 private:
  __device__ uint32_t num_slots() const { return p_.total_q / block_m + p_.batch; }

  __device__ uint32_t first_slot(uint32_t sequence) const {
    return bounded_indptr(p_.q_indptr, sequence, p_.total_q) / block_m + sequence;
  }

  // The last sequence that starts at `slot` or before: each lane probes a thirty-second of what is
  // left.
  __device__ uint32_t find_sequence(uint32_t slot) const {
    uint32_t first = 0, count = p_.batch;
    while (count > 1) {
      const uint32_t step = ceil_div(count, 32), probe = threadIdx.x % 32 * step;
      const bool starts = probe < count && first_slot(first + probe) <= slot;
      const uint32_t skipped = (__popc(__ballot_sync(0xffffffff, starts)) - 1) * step;
      first += skipped;
      count = min(step, count - skipped);
    }
    return first;
  }

  __device__ void place(uint32_t index, RaggedTile& tile) const {
    const uint32_t per_section = num_slots() * p_.head_section;
    const uint32_t section = index / per_section, rest = index - section * per_section;
    const uint32_t first_head = section * p_.head_section;
    const uint32_t heads = min(p_.head_section, p_.num_heads - first_head);
    const uint32_t slot = num_slots() - 1 - rest / heads;
    const uint32_t sequence = find_sequence(slot);
    tile.head = static_cast<int32_t>(first_head + rest % heads);
    tile.q_begin = bounded_indptr(p_.q_indptr, sequence, p_.total_q);
    tile.q_len = bounded_indptr(p_.q_indptr, sequence + 1, p_.total_q) - tile.q_begin;
    Keys::locate(p_, sequence, tile);
    tile.first_row = static_cast<int32_t>((slot - first_slot(sequence)) * block_m);
  }

  const typename Keys::Params& p_;
  bool is_first_ = true;
};

}  // namespace dgrt
