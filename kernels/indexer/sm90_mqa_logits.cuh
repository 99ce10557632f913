// SM90 mqa_logits: an indexer's logits of many tokens over contiguous keys, e4m3 products, fp32 or bf16 out.
// Maths, roles and pipeline: device/main_loop/mqa.cuh.
//
// Work      Blocks of tokens and the key tiles that they see, laid end to end and shared evenly
//           (device/sched/even_share.cuh): however uneven, all CTAs end together.
// Source    PTX ISA: cp.async.bulk.tensor.
#pragma once
#include "device/common/interface.cuh"
#include "device/common/mqa_tile.cuh"

namespace dgrt::sm90::mqa_logits {

// ---- Interface: host and NVRTC ----

struct Params {
  TensorMap q, kv;        // [heads of a team][tokens][others of a team][head_dim], [kv_tokens, head_dim]
  const float* kv_scale;  // [kv_tokens]
  const float* w;         // [tokens][w_row]
  const int32_t *ks, *ke;
  void* out;              // [tokens][out_row]
  uint64_t w_row, out_row;
  uint32_t tokens, kv_tokens;
  uint32_t columns;       // of out: kv_tokens, or the most that a token sees
  uint32_t blocks;
};

}  // namespace dgrt::sm90::mqa_logits

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/fill_masked.cuh"
#include "device/main_loop/mqa.cuh"
#include "device/sched/even_share.cuh"

namespace dgrt::sm90::mqa_logits {

// Keys that a token sees, whatever ks and ke hold.
template <class Cfg>
__device__ __forceinline__ MqaRow row_of(const Params& p, uint32_t token) {
  const auto keys = static_cast<int32_t>(p.kv_tokens);
  const int32_t begin = min(max(p.ks[token], 0), keys);
  int32_t end = min(max(p.ke[token], 0), keys);
  if constexpr (Cfg::compressed) end = min(end, static_cast<int32_t>(min(begin + p.columns, p.kv_tokens)));
  const auto start = static_cast<int64_t>(token * p.out_row);
  return {begin, end, Cfg::compressed ? start - begin : start};
}

// Key tiles that some token of a block sees.
template <class Cfg>
__device__ __forceinline__ MqaItem tiles_of(const Params& p, uint32_t block) {
  uint32_t begin = ~0u, end = 0;  // of keys
#pragma unroll 4
  for (uint32_t i = 0; i < Cfg::tokens; ++i) {  // those past the last one count as that one
    const MqaRow row = row_of<Cfg>(p, min(block * Cfg::tokens + i, p.tokens - 1));
    if (row.begin < row.end) begin = min(begin, row.begin), end = max(end, row.end);
  }
  return {static_cast<int32_t>(begin / mqa_block_kv), static_cast<int32_t>(ceil_div(end, mqa_block_kv))};
}
template <class Cfg>
__device__ __forceinline__ uint32_t num_tiles(const Params& p, uint32_t block) {
  const MqaItem tiles = tiles_of<Cfg>(p, block);
  return static_cast<uint32_t>(max(tiles.end_tile - tiles.first_tile, 0));
}

// A whole warp.
template <class Cfg>
__device__ __forceinline__ void load(const Params& p, const MqaSmem<Cfg>& smem, const EvenShare& share) {
  const uint32_t lane = threadIdx.x % 32;
  Ring<mqa_q_slots> q_ring = smem.q_ring();
  Ring<Cfg::stages> kv_ring = smem.kv_ring();
  const auto load_segment = [&](uint32_t block, uint32_t begin, uint32_t end) {
    const int32_t first_tile = tiles_of<Cfg>(p, block).first_tile;
    const MqaItem item = {first_tile + static_cast<int32_t>(begin), first_tile + static_cast<int32_t>(end)};
    const uint32_t first_token = block * Cfg::tokens, tokens = min(Cfg::tokens, p.tokens - first_token);
    MqaRow row = {};
    if (lane < tokens) row = row_of<Cfg>(p, first_token + lane);
    load_item<Cfg>(smem, q_ring, item, row, &p.q, first_token, p.w + first_token * p.w_row, p.w_row, tokens);
    if (lane == 0) {
#pragma unroll 1
      for (int32_t tile = item.first_tile; tile < item.end_tile; ++tile) {
        kv_ring.wait_empty();
        ptx::mbarrier_arrive_expect_tx(kv_ring.full(), MqaSmem<Cfg>::kv_bytes);
        ptx::tma_load_2d(smem.kv(kv_ring.slot), &p.kv, kv_ring.full(), 0, tile * mqa_block_kv);
        kv_ring.advance();
      }
    }
    __syncwarp();
  };
  walk_share(share, p.blocks, [&](uint32_t block) { return num_tiles<Cfg>(p, block); }, load_segment);
  end_items<Cfg>(smem, q_ring);
}

// Read where it is used: a slice of an array of scales need not be 16-byte aligned, as TMA wants it.
struct Scales {
  const Params& p;
  __device__ __forceinline__ float operator()(int32_t tile, uint32_t, uint32_t row) const {
    const uint32_t key = tile * mqa_block_kv + row;
    return key < p.kv_tokens ? p.kv_scale[key] : 0.0f;
  }
};

// Cfg: num_heads, head_dim, tokens, stages, dtype_out, compressed (column j is key ks + j), clean (other
// columns become minus infinity).
template <class Cfg>
__device__ void run(const Params& p) {
  const MqaSmem<Cfg> smem{ptx::dynamic_shared_address()};
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.q);
    ptx::prefetch_tensor_map(&p.kv);
    smem.init_barriers();
  }
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  static_assert(share_scratch_bytes<mqa_num_threads> <= mqa_scratch_bytes, "too little scratch");
  const EvenShare share = find_share<mqa_num_threads, false>(
      p.blocks, [&](uint32_t block) { return piece_cost(num_tiles<Cfg>(p, block)); }, smem.scratch());
  const auto logits_of = [&](uint32_t token) -> ColumnRange {
    const MqaRow row = row_of<Cfg>(p, token);
    const auto begin = static_cast<uint32_t>(Cfg::compressed ? 0 : row.begin);
    return {begin, begin + static_cast<uint32_t>(max(row.end - row.begin, 0))};
  };
  const auto fill = [&](uint32_t warp) {
    fill_masked<Cfg::dtype_out>(p.out, p.out_row, p.tokens, p.columns, warp, mqa_fill_warps, logits_of);
  };
  run_mqa_roles<Cfg>(smem, p.out, [&] { load<Cfg>(p, smem, share); }, fill, Scales{p});
}

}  // namespace dgrt::sm90::mqa_logits
#endif
