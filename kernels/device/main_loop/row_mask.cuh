// Which keys of a tile the rows of a slab see, by windows, by a caller's mask and by where keys end.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/attn_tile.cuh"
#include "device/main_loop/mask_reader.cuh"
#include "device/ptx/convert.cuh"
#include "device/sched/ragged_walk.cuh"

namespace dgrt {

// What a warpgroup's rows may see. Tokens count from the sequence's first.
template <class Cfg>
struct RowMask {
  static constexpr auto block_n = static_cast<int32_t>(Cfg::block_n);

  using Tiles = KeyTiles<Cfg::block_n, Cfg::new_keys>;

  int32_t left, right;  // first and last visible key of the slab's first token, by the windows alone
  int32_t last_end;     // of the keys of all rows
  int32_t row;          // this thread's first row, from the slab's first; the other is 8 below
  Tiles tiles;
  MaskReader<Cfg> given;

  __device__ RowMask(const AttnParams& p, const RaggedTile& tile, int32_t slab_token, int32_t key_end)
      : left(tile.offset() + slab_token - p.window_left),
        right(tile.offset() + slab_token + p.window_right),
        last_end(key_end),
        row(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4),
        tiles(tile.offset()),
        given(p.mask, {tile.kv_begin,
                       tile.q_len,
                       tile.kv_len,
                       tile.kv_len + tile.mask_column,
                       slab_token + token(row / 16 * 16),
                       ceil_div(16, Cfg::tile_heads),
                       {static_cast<uint32_t>(token(row) - token(row / 16 * 16)),
                        static_cast<uint32_t>(token(row + 8) - token(row / 16 * 16))}}) {}

  // Of a row of the slab, from the slab's first.
  __device__ static int32_t token(int32_t row) { return row / static_cast<int32_t>(Cfg::tile_heads); }
  __device__ static int32_t head(int32_t row) { return row % static_cast<int32_t>(Cfg::tile_heads); }

  // How many of a thread's columns come before an offset from its first.
  __device__ __forceinline__ static int32_t columns_before(int32_t offset) {
    return offset <= 0 ? 0 : offset / 8 * 2 + min(offset % 8, 2);
  }
  __device__ __forceinline__ static uint32_t low_bits(int32_t count) {
    return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (1u << count) - 1;
  }
  // Of a row, all but the thread's columns [begin, end): bits go to predicates several at a time, which
  // comparisons do not.
  template <uint32_t count>
  __device__ __forceinline__ static void hide_outside(float (&s)[count], uint32_t half,
                                                      int32_t begin, int32_t end) {
#pragma unroll
    for (uint32_t part = 0; part < count / 2; part += 32) {
      const auto done = static_cast<int32_t>(part);
      const uint32_t visible = low_bits(end - done) & ~low_bits(begin - done);
#pragma unroll
      for (uint32_t i = part; i < count / 2 && i < part + 32; ++i)
        if ((visible >> (i - part) & 1) == 0) s[i / 2 * 4 + half * 2 + i % 2] = -ptx::infinity();
    }
  }

  // What apply() needs of key tile `at`, while its scores are on their way.
  __device__ __forceinline__ void load(int32_t at) {
    // With a mask last_end is that of all keys.
    given.load(tiles.first_key(at), given.columns() - last_end);
  }

  // Scores of key tile `at`: minus infinity where a key is not visible.
  template <uint32_t count>
  __device__ __forceinline__ void apply(float (&s)[count], int32_t at) const {
    const int32_t first = tiles.first_key(at), last = first + block_n - 1;
    const int32_t key_end = tiles.end(at, last_end);
    given.apply(s, first);
    if (last < key_end && last <= right && first >= left + static_cast<int32_t>(attn_slab_tokens<Cfg>) - 1)
      return;
    const int32_t column = first + static_cast<int32_t>(threadIdx.x % 4) * 2;
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      // Offsets from the thread's first column.
      const int32_t at = token(row + static_cast<int32_t>(half) * 8);
      const int32_t low = left + at - column;
      const int32_t high = min(right + at, key_end - 1) - column;
      hide_outside(s, half, columns_before(low), columns_before(high + 1));
    }
  }
};

}  // namespace dgrt
