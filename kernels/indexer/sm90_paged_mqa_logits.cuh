// SM90 paged_mqa_logits: an indexer's logits of the last few tokens of every request over its paged keys, e4m3
// products, fp32 or bf16 out. Maths, roles and pipeline: device/main_loop/mqa.cuh.
//
// Work      Requests' key tiles, and one more for what comes with a request, laid end to end and shared evenly
//           (device/sched/even_share.cuh). Those that have no keys cost nothing.
// Pages     page_size * head_dim bytes of values, then page_size scales. TMA reads both as matrices of a page:
//           what a table names outside the cache comes as zeros.
// Source    PTX ISA: cp.async.bulk.tensor.
#pragma once
#include "device/common/interface.cuh"
#include "device/common/mqa_tile.cuh"

namespace dgrt::sm90::paged_mqa_logits {

// ---- Interface: host and NVRTC ----

struct Params {
  TensorMap q, kv, kv_scale;    // as in mqa_logits, [pages][page_size, head_dim], [pages, page_size]
  const float* w;               // [batch * next_n][w_row]
  const int32_t* context_lens;  // [batch][next_n]
  const int32_t* page_table;    // [batch][table_row]
  void* out;                    // [batch * next_n][out_row]
  uint64_t w_row, out_row, table_row;
  uint32_t batch;
  uint32_t max_len;             // contexts are cut there
  uint32_t columns;             // of out
};

}  // namespace dgrt::sm90::paged_mqa_logits

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/fill_masked.cuh"
#include "device/main_loop/mqa.cuh"
#include "device/sched/even_share.cuh"

namespace dgrt::sm90::paged_mqa_logits {

__device__ __forceinline__ int32_t context_len(const Params& p, uint32_t row) {
  return min(max(p.context_lens[row], 0), static_cast<int32_t>(p.max_len));
}

template <class Cfg>
__device__ __forceinline__ uint32_t num_tiles(const Params& p, uint32_t request) {
  int32_t most = 0;
#pragma unroll
  for (uint32_t i = 0; i < Cfg::tokens; ++i) most = max(most, context_len(p, request * Cfg::tokens + i));
  return ceil_div(static_cast<uint32_t>(most), mqa_block_kv);
}

template <class Cfg>
__device__ __forceinline__ uint32_t request_cost(const Params& p, uint32_t request) {
  return request < p.batch ? piece_cost(num_tiles<Cfg>(p, request)) : 0;
}

// What every CTA waits for, once it knows its share, comes to L2 while lengths do: page tables and weights. Where
// tables are large, what is asked for in vain would take longer than that.
template <class Cfg>
__device__ __forceinline__ void prefetch_tables(const Params& p) {
  constexpr uint32_t line = 128 / 4, most_lines = 4096;  // of all requests
  const uint32_t num_pages = ceil_div(p.max_len, Cfg::page_size), lines = ceil_div(num_pages, line);
  if (uint64_t{p.batch} * lines > most_lines) return;
#pragma unroll 1
  for (uint32_t request = blockIdx.x; request < p.batch; request += gridDim.x) {
    const uint32_t at = threadIdx.x * line;
    if (at < num_pages) ptx::prefetch_l2(p.page_table + request * p.table_row + at);
    const uint32_t w_at = (mqa_num_threads - 1 - threadIdx.x) * line;
    if (w_at < Cfg::num_heads) {
#pragma unroll
      for (uint32_t i = 0; i < Cfg::tokens; ++i)
        ptx::prefetch_l2(p.w + (request * Cfg::tokens + i) * p.w_row + w_at);
    }
  }
}

// Key tiles of one request, by a warp whose lanes hold entries of its page table.
template <class Cfg>
class PagedKeys {
 public:
  __device__ PagedKeys(const Params& p, const MqaSmem<Cfg>& smem) : p_(p), smem_(smem), ring_(smem.kv_ring()) {}

  // Asks for the first entries. num_pages: that hold keys which some token sees.
  __device__ __forceinline__ void open(uint32_t request, int32_t first_tile, uint32_t num_pages) {
    table_ = p_.page_table + request * p_.table_row;
    num_pages_ = num_pages;
    read_entries(first_tile * tile_pages / 32 * 32);
  }

  __device__ __forceinline__ void load(const MqaItem& item) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
    for (int32_t tile = item.first_tile; tile < item.end_tile; ++tile) {
      const uint32_t first = tile * tile_pages;
      if (first % 32 == 0 && tile != item.first_tile) read_entries(first);
      const int32_t page = __shfl_sync(0xffffffff, entry_, first % 32 + lane % tile_pages);
      const uint32_t pages = min(tile_pages, num_pages_ - first);
      ring_.wait_empty();
      if (lane == 0) ptx::mbarrier_arrive_expect_tx(ring_.full(), pages * Cfg::page_size * (Cfg::head_dim + 4));
      __syncwarp();
      if (lane < pages) {
        const uint32_t slot = lane * Cfg::page_size;  // of the tile
        ptx::tma_load_3d(smem_.kv(ring_.slot) + slot * Cfg::head_dim, &p_.kv, ring_.full(), 0, 0, page);
        ptx::tma_load_2d(smem_.scales(ring_.slot) + slot * 4, &p_.kv_scale, ring_.full(), 0, page);
      }
      __syncwarp();
      ring_.advance();
    }
  }

 private:
  static constexpr uint32_t tile_pages = mqa_block_kv / Cfg::page_size;
  static_assert(tile_pages * Cfg::page_size == mqa_block_kv, "a tile is whole pages");

  __device__ __forceinline__ void read_entries(uint32_t first) {
    const uint32_t index = first + threadIdx.x % 32;
    entry_ = index < num_pages_ ? table_[index] : 0;
  }

  const Params& p_;
  const MqaSmem<Cfg>& smem_;
  Ring<Cfg::stages> ring_;
  const int32_t* table_ = nullptr;
  uint32_t num_pages_ = 0;
  int32_t entry_ = 0;
};

// A whole warp.
template <class Cfg>
__device__ __forceinline__ void load(const Params& p, const MqaSmem<Cfg>& smem, const WarpShare& found) {
  const uint32_t lane = threadIdx.x % 32;
  Ring<mqa_q_slots> q_ring = smem.q_ring();
  PagedKeys<Cfg> keys(p, smem);
  const auto load_segment = [&](uint32_t request, uint32_t begin, uint32_t end) {
    const MqaItem item = {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
    const uint32_t first_row = request * Cfg::tokens;
    MqaRow row = {};
    if (lane < Cfg::tokens)
      row = {0, context_len(p, first_row + lane), static_cast<int64_t>((first_row + lane) * p.out_row)};
    const uint32_t most = ptx::redux_max_u32(row.end);
    keys.open(request, item.first_tile, ceil_div(most, Cfg::page_size));
    load_item<Cfg>(smem, q_ring, item, row, &p.q, first_row, p.w + first_row * p.w_row, p.w_row, Cfg::tokens);
    keys.load(item);
  };
  const EvenShare& share = found.share;
  uint32_t first = share.owner, base = share.base, cost = found.cost;
#pragma unroll 1
  while (share.begin < share.end && base < share.end) {
    base = walk_owners(share, first, base, cost, load_segment);
    first += 32, cost = request_cost<Cfg>(p, first + lane);
  }
  end_items<Cfg>(smem, q_ring);
}

template <class Cfg>
struct Scales {
  const MqaSmem<Cfg>& smem;
  __device__ __forceinline__ float operator()(int32_t, uint32_t slot, uint32_t row) const {
    return ptx::load_shared_f32(smem.scales(slot) + row * 4);
  }
};

// Cfg: num_heads, head_dim, tokens (of a request), stages, page_size, dtype_out, clean (columns past a
// context become minus infinity).
template <class Cfg>
__device__ void run(const Params& p) {
  const MqaSmem<Cfg> smem{ptx::dynamic_shared_address()};
  static_assert(share_scratch_bytes<mqa_num_threads> <= mqa_scratch_bytes, "too little scratch");
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.q);
    ptx::prefetch_tensor_map(&p.kv);
    ptx::prefetch_tensor_map(&p.kv_scale);
    smem.init_barriers();
  }
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  prefetch_tables<Cfg>(p);
  const auto cost = [&](uint32_t request) { return request_cost<Cfg>(p, request); };
  // By all warps, if requests are many; else by the one that loads, for which others need not wait.
  const bool are_many = p.batch > warp_share_owners;
  EvenShare share;
  if (are_many)
    share = find_share<mqa_num_threads>(p.batch, cost, smem.scratch());
  else
    __syncthreads();
  const auto load_keys = [&] {
    const uint32_t lane = threadIdx.x % 32;
    load<Cfg>(p, smem, are_many ? WarpShare{share, cost(share.owner + lane)} : find_share_in_warp(p.batch, cost));
  };
  const auto fill = [&](uint32_t warp) {
    fill_masked<Cfg::dtype_out>(p.out, p.out_row, p.batch * Cfg::tokens, p.columns, warp, mqa_fill_warps,
                                [&](uint32_t row) -> ColumnRange {
                                  return {0, static_cast<uint32_t>(context_len(p, row))};
                                });
  };
  run_mqa_roles<Cfg>(smem, p.out, load_keys, fill, Scales<Cfg>{smem});
}

}  // namespace dgrt::sm90::paged_mqa_logits
#endif
