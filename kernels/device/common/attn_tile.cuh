// Attention tiles as host and kernels see them: sizes of what lies in shared memory. Rows of 64
// elements (128 bytes, swizzled) make a box; a tile of d columns is ceil(d / 64) boxes, one behind
// the other.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

constexpr uint32_t attn_box_columns = 64;  // 16-bit elements of one swizzled row
constexpr uint32_t attn_slab_rows = 64;    // query rows of one warpgroup
constexpr uint32_t attn_row_bytes = 128;
constexpr uint32_t attn_work_slots = 1;   // tiles that are handed out ahead of time
constexpr uint32_t attn_work_bytes = 32;  // see AttnWork

constexpr uint32_t attn_most_tile_heads = 8;

// Values of a config, in the order in which tables name them.
struct AttnConfig {
  uint32_t block_m, block_n;  // query rows, keys
  uint32_t head_dim_qk, head_dim_v;
  uint32_t stages;   // slots of keys, and of values
  uint32_t split_v;  // warpgroups that share rows and divide the columns of v
  uint32_t kv_bytes;  // of an element of keys and values. 1: e4m3
};

// Rows of a tile are (token, query head) pairs, as in attn_paged_params.cuh: row r is token r / tile_heads, head
// r % tile_heads of the tile. The heads share a key head.
template <class Cfg>
constexpr uint32_t attn_tile_tokens = Cfg::block_m / Cfg::tile_heads;
template <class Cfg>
constexpr uint32_t attn_slab_tokens = attn_slab_rows / Cfg::tile_heads;

template <class Cfg>
constexpr AttnConfig attn_config{Cfg::block_m, Cfg::block_n, Cfg::head_dim_qk, Cfg::head_dim_v,
                                 Cfg::stages,  Cfg::split_v, Cfg::kv_bytes};

DGRT_HD constexpr uint32_t attn_boxes(uint32_t columns) {
  return ceil_div(columns, attn_box_columns);
}
DGRT_HD constexpr uint32_t attn_tile_bytes(uint32_t rows, uint32_t columns) {
  return attn_boxes(columns) * rows * attn_row_bytes;
}
// Where 16 bytes, the chunk `chunk` of row `row`, lie in a tile of `rows` rows.
DGRT_HD constexpr uint32_t attn_chunk_offset(uint32_t rows, uint32_t row, uint32_t chunk) {
  return (chunk / 8 * rows + row) * attn_row_bytes + (chunk % 8 ^ row % 8) * 16;
}
// The same in rows of `chunks` one behind the other. What a warp reads at a time, the same chunk of eight rows
// that lie side by side, is in different banks.
DGRT_HD constexpr uint32_t packed_spread(uint32_t chunks) {
  return chunks % 8 == 0 ? 8 : chunks % 4 == 0 ? 4 : chunks % 2 == 0 ? 2 : 1;
}
DGRT_HD constexpr uint32_t packed_chunk_offset(uint32_t chunks, uint32_t row, uint32_t chunk) {
  const uint32_t spread = packed_spread(chunks);
  return (row * chunks + (chunk ^ row * spread / 8 % spread)) * 16;
}
DGRT_HD constexpr uint32_t attn_math_warpgroups(const AttnConfig& c) {
  return c.block_m / attn_slab_rows * c.split_v;
}
// The producer has a warpgroup of its own, so that it can give its registers away.
DGRT_HD constexpr uint32_t attn_num_threads(const AttnConfig& c) {
  return (attn_math_warpgroups(c) + 1) * 128;
}
// What each warpgroup needs to store its part of o by TMA.
DGRT_HD constexpr uint32_t attn_staging_bytes(const AttnConfig& c) {
  return attn_tile_bytes(attn_slab_rows, c.head_dim_v / c.split_v);
}
// Accumulators and weights of a math thread.
DGRT_HD constexpr uint32_t attn_accumulators(const AttnConfig& c) {
  return c.head_dim_v / c.split_v / 2 + c.block_n / 2 + c.block_n / 4;
}
// e4m3 as it comes, on its way to a tile: slots of up to eight chunks of 16 columns for each of the 128 threads
// that load. Lanes are dealt to boxes in powers of two.
constexpr uint32_t attn_pass_chunks = 8;
DGRT_HD constexpr uint32_t attn_raw_boxes(uint32_t columns) {
  return columns > 256 ? 8 : columns > 128 ? 4 : attn_boxes(columns);
}
DGRT_HD constexpr uint32_t attn_raw_chunks(uint32_t block_n, uint32_t columns) {
  return ceil_div(block_n / 4 * attn_raw_boxes(columns), 8);
}
DGRT_HD constexpr uint32_t attn_pass_size(uint32_t chunks) {
  return ceil_div(chunks, ceil_div(chunks, attn_pass_chunks));
}
DGRT_HD constexpr uint32_t attn_raw_slot_bytes(const AttnConfig& c) {
  const uint32_t k = attn_pass_size(attn_raw_chunks(c.block_n, c.head_dim_qk));
  const uint32_t v = attn_pass_size(attn_raw_chunks(c.block_n, c.head_dim_v));
  return (k > v ? k : v) * 128 * 16;
}
// Beside them lie tables of where the rows of three tiles begin, and of the pages of four.
DGRT_HD constexpr uint32_t attn_raw_bytes(const AttnConfig& c, uint32_t slots) {
  return c.kv_bytes == 1 ? slots * attn_raw_slot_bytes(c) + c.block_n * (3 * 8 + 4 * 4) : 0;
}
DGRT_HD constexpr uint32_t attn_smem_bytes(const AttnConfig& c, uint32_t q_slots, uint32_t raw_slots,
                                           bool staged) {
  const uint32_t tiles = q_slots * attn_tile_bytes(c.block_m, c.head_dim_qk) +
                         c.stages * (attn_tile_bytes(c.block_n, c.head_dim_qk) +
                                     attn_tile_bytes(c.block_n, c.head_dim_v)) +
                         (staged ? attn_math_warpgroups(c) * attn_staging_bytes(c) : 0);
  // q, keys, values and work, full and empty.
  const uint32_t barriers =
      2 * (q_slots * (c.block_m / attn_slab_rows) + 2 * c.stages + attn_work_slots) * 8;
  return align_up(tiles + attn_work_slots * attn_work_bytes + barriers + attn_raw_bytes(c, raw_slots), smem_alignment);
}
// The next tile's q is loaded ahead where there is room.
DGRT_HD constexpr uint32_t attn_q_slots(const AttnConfig& c) {
  return attn_smem_bytes(c, 2, 2, false) <= sm90_max_smem_bytes ? 2 : 1;
}
DGRT_HD constexpr uint32_t attn_raw_slots(const AttnConfig& c) {
  uint32_t slots = 4;
  while (slots > 2 && attn_smem_bytes(c, attn_q_slots(c), slots, false) > sm90_max_smem_bytes) --slots;
  return slots;
}
// Outputs are stored by TMA where there is still room.
DGRT_HD constexpr bool attn_is_staged(const AttnConfig& c) {
  return attn_smem_bytes(c, attn_q_slots(c), attn_raw_slots(c), true) <= sm90_max_smem_bytes;
}
DGRT_HD constexpr uint32_t attn_smem_bytes(const AttnConfig& c) {
  return attn_smem_bytes(c, attn_q_slots(c), attn_raw_slots(c), attn_is_staged(c));
}

}  // namespace dgrt
