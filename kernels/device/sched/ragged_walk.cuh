// Tiles of a ragged batch: block_m query rows of one head of one sequence. How many tiles a
// sequence has is known on the device alone, so tiles are numbered by slots: sequence b starts at
// slot q_indptr[b] / block_m + b, which leaves room for all of its tiles and at most one slot
// unused. The slot of a tile, and the sequence of a slot, are then a search and no list.
//
// Order     The last tiles of a sequence come first: under a causal mask they see the most keys.
//           All heads of a section are done before the next section, so that their keys stay in the
//           L2 cache. Tiles of the first sequences, whose turn is last, go by length, so that the CTAs
//           are done at about the same time.
// Counter   A CTA starts with the tile of its own number and takes further ones from a counter, so
//           that long tiles do not hold up others: each only when it is needed. Every CTA stops at
//           its first number past the end: the number of increments is that of the tiles, after
//           which the counter has wrapped to zero.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/ptx/atomic.cuh"
#include "device/ptx/warpgroup.cuh"
#include "device/sched/new_keys.cuh"

namespace dgrt {

struct RaggedTile {
  int32_t q_begin, q_len;    // tokens of the sequence
  int32_t kv_begin, kv_len;  // kv_begin: what the keys' source wants to know (attn_keys.cuh)
  int32_t first_token, head;  // of the tile's first row, among the sequence's
  int32_t mask_column;  // of the first key, in a caller's mask

  // Position of row 0 among the keys; negative if there are more queries than keys.
  __device__ int32_t offset() const { return kv_len - q_len; }
};

// Where a slab of q lies in its map. token: the slab's first, from the tile's.
template <class Cfg>
struct QueryBox {
  int32_t middle, outer;

  __device__ __forceinline__ QueryBox(const RaggedTile& tile, uint32_t token)
      : middle(tile.q_begin + tile.first_token + static_cast<int32_t>(token)), outer(tile.head) {
    if constexpr (Cfg::tile_heads > 1) outer = middle, middle = tile.head;
  }
};

// Where a sequence starts, from lengths that may be anything.
__device__ __forceinline__ int32_t bounded_indptr(const int32_t* indptr, uint32_t sequence,
                                                  uint32_t total) {
  return min(max(indptr[sequence], 0), static_cast<int32_t>(total));
}

// Key tiles [first, end) that some row of a tile of so many tokens may see, of keys [key_first, key_end).
template <uint32_t tile_tokens, uint32_t block_n, bool new_keys>
struct KeyRange {
  KeyTiles<block_n, new_keys> tiles;
  int32_t key_first, key_end, first, end;

  __device__ KeyRange(const AttnParams& p, const RaggedTile& tile) : tiles(tile.offset()) {
    const int32_t last_token = min(tile.first_token + static_cast<int32_t>(tile_tokens), tile.q_len) - 1;
    key_first = max(tile.offset() + tile.first_token - p.window_left, 0);
    key_end = min(tile.offset() + last_token + p.window_right + 1, tile.kv_len);
    first = tiles.of(key_first);
    end = key_end <= key_first ? first : tiles.of(key_end - 1) + 1;
  }
  __device__ bool is_empty() const { return first >= end; }
};

// Tiles of so many tokens and heads. For all lanes of one warp. Keys: attn_keys.cuh.
template <uint32_t tile_tokens, uint32_t tile_heads, class Keys>
class RaggedWalk {
 public:
  __device__ explicit RaggedWalk(const typename Keys::Params& p) : p_(p) {}

  // False after the last tile.
  __device__ bool next(RaggedTile& tile) {
    const uint32_t num_tiles = num_slots() * (p_.num_heads / tile_heads);
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
      if (tile.first_token < tile.q_len) return true;
    }
  }

 private:
  static constexpr uint32_t no_tile = 0xffffffff;

  __device__ uint32_t num_slots() const { return p_.total_q / tile_tokens + p_.batch; }

  __device__ uint32_t first_slot(uint32_t sequence) const {
    return bounded_indptr(p_.q_indptr, sequence, p_.total_q) / tile_tokens + sequence;
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
    // Heads count by tiles of them.
    const uint32_t section_heads = p_.head_section / tile_heads, per_section = num_slots() * section_heads;
    const uint32_t section = index / per_section, rest = index - section * per_section;
    const uint32_t first_head = section * section_heads;
    const uint32_t heads = min(section_heads, p_.num_heads / tile_heads - first_head);
    const uint32_t slot = num_slots() - 1 - rest / heads;
    const uint32_t sorted_slots = p_.sorted == p_.batch ? num_slots() : first_slot(p_.sorted);
    uint32_t sequence, row_tile;
    if (slot < sorted_slots) {
      find_sorted(sorted_slots - 1 - slot, sequence, row_tile);
    } else {
      sequence = find_sequence(slot);
      row_tile = slot - first_slot(sequence);
    }
    tile.head = static_cast<int32_t>((first_head + rest % heads) * tile_heads);
    tile.q_begin = bounded_indptr(p_.q_indptr, sequence, p_.total_q);
    tile.q_len = bounded_indptr(p_.q_indptr, sequence + 1, p_.total_q) - tile.q_begin;
    Keys::locate(p_, sequence, tile);
    tile.first_token = row_tile == no_tile ? tile.q_len : static_cast<int32_t>(row_tile * tile_tokens);
  }

  // Of the first sequences' tiles, one lane to a sequence, that of this rank: those whose rows come last
  // among their keys come first. No such rank: no_tile.
  __device__ void find_sorted(uint32_t rank, uint32_t& sequence, uint32_t& row_tile) const {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t bottom = 0, top = 0;  // this lane's tiles are those at heights [bottom, top)
    if (lane < p_.sorted) {
      RaggedTile tile;
      tile.q_len = bounded_indptr(p_.q_indptr, lane + 1, p_.total_q) -
                   bounded_indptr(p_.q_indptr, lane, p_.total_q);
      Keys::locate(p_, lane, tile);
      bottom = static_cast<uint32_t>(max(tile.offset(), 0)) / tile_tokens;
      top = bottom + ceil_div(static_cast<uint32_t>(max(tile.q_len, 0)), tile_tokens);
    }
    const auto tiles_from = [&](uint32_t height) {
      return ptx::redux_add_u32(top - min(top, max(bottom, height)));
    };
    uint32_t low = 0, high = ptx::redux_max_u32(top);
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (tiles_from(middle) > rank ? low : high) = middle;
    }
    const uint32_t before = tiles_from(low + 1);
    const bool is_here = bottom <= low && low < top;
    const uint32_t here = __ballot_sync(0xffffffff, is_here);
    const bool is_it = is_here && __popc(here & ((1u << lane) - 1)) == rank - before;
    const uint32_t it = __ballot_sync(0xffffffff, is_it);
    sequence = it == 0 ? 0 : __ffs(it) - 1;
    row_tile = it == 0 ? no_tile : low - __shfl_sync(0xffffffff, bottom, sequence);
  }

  const typename Keys::Params& p_;
  bool is_first_ = true;
};

}  // namespace dgrt
