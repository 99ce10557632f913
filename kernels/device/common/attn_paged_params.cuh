// Attention over a paged cache: kernel parameters, and sizes that host and kernels agree on. A tile's rows
// are (token, query head) pairs of one sequence and key head: row r is token r / tile_heads, head
// r % tile_heads of the tile.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/attn_tile.cuh"

namespace dgrt {

// Strides count elements.
struct AttnPagedParams {
  const void *q, *k, *v;
  void* o;
  float* lse;                    // or null
  const float* sinks;            // [query heads], or null
  const int32_t* q_indptr;       // [batch + 1]: where sequences start among the queries
  const int32_t* page_table;     // [batch][table_row]
  const int32_t* seq_lens;       // [batch]: keys
  uint32_t* counters;            // see AttnParts; zero before and after
  float* parts;                  // see AttnParts
  uint64_t q_token, q_head, k_page, k_token, k_head, v_page, v_token, v_head;
  uint64_t o_token, o_head, lse_token, lse_head, table_row;
  uint32_t batch, num_kv_heads, group;  // group: query heads per key head
  uint32_t total_q;                     // tokens that q and o reach
  uint32_t page_size, num_pages;        // num_pages: that k and v reach
  uint32_t max_q_len, max_kv_len;       // sequences are cut there
  uint32_t qk_columns, v_columns;
  uint32_t tile_heads;
  Divisor tile_tokens;                  // of a row tile
  Divisor head_tiles;                   // so many make a group
  uint32_t row_scale;                   // see token_of_row
  int32_t window_left, window_right;    // keys p - left to p + right are visible
  float scale_log2;  // logit (softcap: its hyperbolic tangent) to a power of two
  float cap_scale;   // softcap only: product to the tangent's argument
  uint32_t lse_form;
  Divisor row_lanes;  // Cfg::row_lanes only: neighbouring CTAs that take row tiles of the same keys together
  AttnMask mask;
  const float *k_scale, *v_scale;      // of an 8-bit cache: [key heads], or null: 1
  uint64_t k_scale_head, v_scale_head;
  int32_t* page_error;                 // see report_page(); CHECK_PAGES only
  uint64_t k_new, v_new;               // elements from k and v to the keys of q's tokens; NEW_KEYS only
  uint64_t k_new_token, k_new_head, v_new_token, v_new_head;
};

// Values of a config, in the order in which tables name them.
struct AttnPagedConfig {
  uint32_t block_m, block_n;  // query rows, keys
  uint32_t head_dim_qk, head_dim_v;
  uint32_t stages;   // slots of keys and values together
  uint32_t split_v;  // warpgroups that share rows and divide the columns of v
  uint32_t kv_bytes;  // of an element of the cache. 1: e4m3
  uint32_t ctas_per_sm;
  uint32_t cluster;  // CTAs that divide a head's keys (key_cluster.cuh). 0: all CTAs divide those of the batch
};

// Few rows are the work of teams of warps, each with keys of its own (attn_paged_teams.cuh), many that of
// warpgroups (attn_paged.cuh).
constexpr uint32_t attn_team_rows = 16, attn_teams = 4;
DGRT_HD constexpr bool attn_paged_by_teams(const AttnPagedConfig& c) { return c.block_m == attn_team_rows; }

// Warpgroups' products of 8-bit elements are of a tile of 16 bits beside the slots.
DGRT_HD constexpr bool attn_paged_upcasts(const AttnPagedConfig& c) {
  return c.kv_bytes == 1 && !attn_paged_by_teams(c);
}
DGRT_HD constexpr uint32_t attn_paged_tile_bytes(const AttnPagedConfig& c) {
  return attn_tile_bytes(c.block_n, c.head_dim_qk) + attn_tile_bytes(c.block_n, c.head_dim_v);
}
DGRT_HD constexpr uint32_t attn_paged_stage_bytes(const AttnPagedConfig& c) {
  return attn_paged_by_teams(c) || c.kv_bytes == 1 ? c.block_n * (c.head_dim_qk + c.head_dim_v) * c.kv_bytes
                                                   : attn_paged_tile_bytes(c);
}
DGRT_HD constexpr uint32_t attn_paged_upcast_bytes(const AttnPagedConfig& c) {
  return attn_paged_upcasts(c) ? attn_paged_tile_bytes(c) : 0;
}
DGRT_HD constexpr uint32_t attn_paged_q_bytes(const AttnPagedConfig& c) {
  return attn_paged_by_teams(c) ? c.block_m * c.head_dim_qk * 2 : attn_tile_bytes(c.block_m, c.head_dim_qk);
}
// Registers hold a team's queries, beside o, or each tile reads them anew.
DGRT_HD constexpr bool attn_teams_hold_queries(const AttnPagedConfig& c) {
  const uint32_t most = c.ctas_per_sm <= 2 ? 128 : 64;
  return c.head_dim_qk <= most && c.head_dim_v <= most;
}
// Maximum and sum of every row, of teams and all of them, and two factors of every row.
DGRT_HD constexpr uint32_t attn_paged_rows_bytes(const AttnPagedConfig& c) {
  return attn_paged_by_teams(c) ? c.block_m * (attn_teams + 2) * 8 : 0;
}
// What find_range needs, then segments from the one that is worked on to the last that is being loaded.
constexpr uint32_t attn_paged_scratch_bytes = 64, attn_paged_segment_bytes = 64;
DGRT_HD constexpr uint32_t attn_paged_smem_bytes(const AttnPagedConfig& c) {
  return align_up(attn_paged_q_bytes(c) + attn_paged_upcast_bytes(c) +
                      c.stages * attn_paged_stage_bytes(c) + attn_paged_rows_bytes(c) + attn_paged_scratch_bytes +
                      (c.stages + 1) * attn_paged_segment_bytes,
                  smem_alignment);
}

// Rows of a tile, up to 64, divided by tile_heads without a division.
DGRT_HD constexpr uint32_t attn_row_scale(uint32_t tile_heads) { return 65536 / tile_heads + 1; }
DGRT_HD constexpr uint32_t token_of_row(uint32_t row, uint32_t row_scale) { return row * row_scale >> 16; }

// Parts of a unit's keys when the split must not depend on the batch: at least 512 keys each.
constexpr uint32_t attn_invariant_keys = 512, attn_invariant_parts = 16;
constexpr int attn_whole_units = 2;  // Cfg::invariant: one part, whatever its keys
// More parts than that are added up in two rounds.
constexpr uint32_t attn_merge_parts = 16;

// Results of parts of a row's keys, until all parts are there: o[block_m][columns] not yet divided by the
// sums, then of every row maximum (as a power of two) and sum, of this part and of its group of parts.
// A CTA has two slots; where the split does not depend on the batch, every part has one. A slot has two
// counters, of its unit and of its group of parts, where it is the first of them.
struct AttnParts {
  uint32_t block_m, columns;

  DGRT_HD constexpr uint64_t slot_floats() const { return static_cast<uint64_t>(block_m) * (columns + 4); }
  DGRT_HD constexpr uint64_t bytes(uint64_t slots) const { return slots * slot_floats() * sizeof(float); }
};

}  // namespace dgrt
