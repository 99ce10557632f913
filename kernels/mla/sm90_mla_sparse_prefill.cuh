// SM90 mla_sparse_prefill: attention in a latent space in which every query token has a list of its own of the keys
// that it sees; a row of kv is key and value of all heads.
//   s = scale q kv[indices]^T; o = softmax(s) kv[indices], the first 512 columns; the sink is one more key without value
//
// Items     A token's heads, 64 at a time. CTAs take them in turn, neighbours the tiles of one token.
// Clusters  The two CTAs of a cluster work on tiles of the same token: each gathers half of the rows, for the columns of
//           v, and sends them on to the other's shared memory, so that half as much comes from the L2 cache.
// Roles     warpgroups 0 and 1: math (mla_math.cuh). Warpgroup 2 gathers keys row by row, a box of each half of a tile to
//           a warp; one of its threads loads queries by TMA and says what the item is.
// Pipeline  Two tiles of keys, each in two halves that become free by themselves. What goes there next has been loaded
//           into registers before: a half, or, where a cluster's CTA loads half of the rows, a tile. Rotary columns are
//           loaded behind both halves: scores need them last. The next item's keys come while the math still works on
//           this one; its queries come to the L2 cache.
// Keys      Entries that name no row of kv, and those past a list's length, read nothing: their rows in shared memory
//           are zeros, so that weights of 0 make 0 of them; 64 bits a tile say which they are.
// Source    The roles are DeepSeek's (deepseek-ai/FlashMLA: csrc/sm90/prefill/sparse); clusters, rows that wait in
//           registers, and that CTAs go on to further items are ours.
#pragma once
#include "device/common/mla_tile.cuh"

namespace dgrt::sm90::mla_sparse_prefill {

// ---- Interface: host and NVRTC ----
struct Params {
  TensorMap q;  // [tokens, heads, columns]; boxes of 64 columns of 64 heads
  const void* kv;
  void* o;
  float *lse, *max_logits;  // or null
  const float* sinks;       // [heads], or null
  const int32_t* indices;   // [tokens, top_k]
  const int32_t* lengths;   // [tokens], or null: top_k
  uint64_t kv_row, indices_row, o_token, o_head, lse_token, lse_head;  // elements
  uint32_t num_items;              // head_tiles of each token
  uint32_t num_heads, head_tiles;  // head_tiles: of 64 heads
  uint32_t top_k, num_rows;        // num_rows: of kv
  float scale_log2;                // logit to a power of two
  uint32_t lse_form;
};

}  // namespace dgrt::sm90::mla_sparse_prefill

#ifdef __CUDACC_RTC__
// ---- Kernel: NVRTC only ----
#include "device/epilogue/attn_output.cuh"
#include "device/ptx/cluster.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
#include "device/ptx/tma.cuh"
#include "device/main_loop/mla_math.cuh"

namespace dgrt::sm90::mla_sparse_prefill {

// A token's heads [first_head, first_head + heads) and the key tiles of its list, at least one. None: there are no
// more items.
struct Item {
  uint32_t token, first_head, heads, tiles;

  __device__ bool is_end() const { return tiles == 0; }
  __device__ void store(uint32_t to) const {
    ptx::store_shared_b32x4(to, make_uint4(token, first_head, heads, tiles));
  }
  __device__ void load(uint32_t from) {
    const uint4 v = ptx::load_shared_b32x4(from);
    token = v.x, first_head = v.y, heads = v.z, tiles = v.w;
  }
};

// Boxes of a half of a slot come together, the rotary one by itself. Both CTAs of a cluster write to a half, after both
// have left it.
template <class Cfg>
struct Smem : MlaSmem {
  // A bit for each key of the tile in the slot that is there: eight bytes.
  __device__ uint32_t present(uint32_t slot) const { return scratch() + slot * 8; }
  __device__ uint32_t full(uint32_t slot, uint32_t half) const { return MlaSmem::full(slot, half); }

  // index: of the box in the order of its slot's loads.
  __device__ __forceinline__ void wait_box(uint32_t slot, uint32_t, uint32_t index, uint32_t phase) const {
    if (index % mla_half_boxes != 0) return;
    while (!ptx::mbarrier_try_wait(full(slot, index / mla_half_boxes), phase)) {
    }
  }

  __device__ void release(uint32_t slot, uint32_t half) const {
    if constexpr (Cfg::cluster == 1) return MlaSmem::release(slot, half);
    for (uint32_t cta = 0; cta < Cfg::cluster; ++cta) ptx::mbarrier_arrive_remote(ptx::mapa(empty(slot, half), cta));
  }

  // One thread.
  __device__ void init_barriers() const {
    q_ring().init(mla_math_threads / 32);
    for (uint32_t slot = 0; slot < mla_slots; ++slot)
      for (uint32_t part = 0; part < 3; ++part) {
        ptx::mbarrier_init(full(slot, part), 4);
        if (part < 2) ptx::mbarrier_init(empty(slot, part), 4 * Cfg::cluster);
      }
  }
};

// Tiles of the items of a CTA, one after the other: which rows of kv a tile has, two of them to a lane.
class TileWalk {
 public:
  struct Tile {
    static constexpr uint32_t none = ~0u;

    uint32_t rows[2];  // of keys lane and lane + 32; what is no row is at least num_rows
    uint32_t begins;   // tiles of the item that begins with this one; 0: none does; none: there are no more tiles
  };

  __device__ explicit TileWalk(const Params& p) : p_(p), item_(blockIdx.x) { enter(); }

  // Its rows are on their way.
  __device__ __forceinline__ Tile next() {
    if (item_ >= p_.num_items) return {{~0u, ~0u}, Tile::none};
    Tile tile;
    tile.begins = first_ == 0 ? max(ceil_div(length_, mla_keys), 1) : 0;
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t at = first_ + i * 32 + threadIdx.x % 32;
      tile.rows[i] = ptx::load_b32_if(at < length_, entries_ + at, ~0u);
    }
    first_ += mla_keys;
    if (first_ >= length_) {
      item_ += gridDim.x;
      enter();
    }
    return tile;
  }

 private:
  __device__ __forceinline__ void enter() {
    first_ = 0;
    if (item_ >= p_.num_items) return;
    const uint32_t token = item_ / p_.head_tiles;
    length_ = p_.top_k;
    if (p_.lengths != nullptr)
      length_ = min(ptx::redux_max_u32(static_cast<uint32_t>(max(p_.lengths[token], 0))), p_.top_k);
    entries_ = p_.indices + token * p_.indices_row;
  }

  const Params& p_;
  uint32_t item_, first_ = 0, length_ = 0;  // first_: entry of the next tile
  const int32_t* entries_ = nullptr;
};

// The loading warpgroup. A warp has one box of each half, and 16 rows of the rotary one.
template <class Cfg>
class Loader {
 public:
  __device__ Loader(const Params& p, const Smem<Cfg>& smem, uint32_t warp)
      : p_(p), smem_(smem), ring_(smem.q_ring()), warp_(warp), rank_(Cfg::cluster == 1 ? 0 : ptx::cluster_cta_rank()) {}

  __device__ __forceinline__ void run() {
    TileWalk walk(p_);
    Tile now = walk.next(), next = walk.next();
    uint32_t slot = 0, index = 0, item = blockIdx.x;
    load_ahead<0, chunks>(now, slot);
#pragma unroll 1
    while (now.begins != Tile::none) {
      if (now.begins != 0) {
        if (warp_ == 0) begin_item(index++, item, now.begins);
        item += gridDim.x;
      }
      const uint32_t next_slot = next.begins != 0 ? 0 : slot ^ 1;
      ptx::renew(lane_);  // else all that follows from it is computed in front of the loop, and spilled
      store<0>(now, slot);
      if constexpr (halves_ahead == 1) load_second(now, slot);
      store<1>(now, slot);
      if constexpr (has_rotary) {
        load_rotary(now);
        load_ahead<rotary_rounds, chunks>(next, next_slot);
        store_rotary(slot);
        load_ahead<0, rotary_rounds>(next, next_slot);
      } else {
        load_ahead<0, chunks>(next, next_slot);
      }
      now = next, next = walk.next();
      phases_ ^= 1u << slot;
      slot = next_slot;
    }
    if (warp_ == 0) begin_item(index, 0, 0);
  }

 private:
  using Tile = TileWalk::Tile;
  static constexpr bool has_rotary = Cfg::head_dim_qk > mla_head_dim_v;
  static constexpr uint32_t own_rows = mla_keys / Cfg::cluster;
  static constexpr uint32_t rounds = own_rows / 4;  // of a box: a warp has four rows at a time
  static constexpr uint32_t rotary_rows = mla_keys / 4, rotary_rounds = rotary_rows / 4;
  static constexpr uint32_t chunks = 16, halves_ahead = chunks / rounds;
  static constexpr uint32_t second = (halves_ahead - 1) * rounds;  // where the second half is in data_

  __device__ __forceinline__ void begin_item(uint32_t index, uint32_t item, uint32_t tiles) {
    ring_.wait_empty();
    if (ptx::elect_one()) {
      const uint32_t token = item / p_.head_tiles, first_head = (item - token * p_.head_tiles) * mla_rows;
      Item{token, first_head, min(p_.num_heads - first_head, mla_rows), tiles}.store(smem_.segment(index));
      if (tiles == 0) {
        ptx::mbarrier_arrive(ring_.full());
      } else {
        ptx::mbarrier_arrive_expect_tx(ring_.full(), attn_boxes(Cfg::head_dim_qk) * mla_box_bytes);
        for_boxes(item, [&](uint32_t box, uint32_t column, uint32_t head, uint32_t of_token) {
          ptx::tma_load_3d(smem_.q() + box * mla_box_bytes, &p_.q, ring_.full(), column, head, of_token);
        });
        // The next item's have no room yet, but in the L2 cache.
        if (item + gridDim.x < p_.num_items)
          for_boxes(item + gridDim.x, [&](uint32_t, uint32_t column, uint32_t head, uint32_t of_token) {
            ptx::tma_prefetch_3d(&p_.q, column, head, of_token);
          });
      }
    }
    __syncwarp();
    ring_.advance();
  }

  // Boxes of an item's queries: work(box, column, head, token).
  template <class Work>
  __device__ __forceinline__ void for_boxes(uint32_t item, const Work& work) const {
    const uint32_t token = item / p_.head_tiles, head = (item - token * p_.head_tiles) * mla_rows;
#pragma unroll 1
    for (uint32_t box = 0; box < attn_boxes(Cfg::head_dim_qk); ++box) work(box, box * attn_box_columns, head, token);
  }

  // What a lane has of a round: of its row number lane_row() 16 bytes, eight columns.
  __device__ uint32_t lane_row() const { return lane_ / 8; }
  __device__ uint32_t lane_chunk() const { return lane_ % 8; }
  __device__ __forceinline__ uint4 load_chunk(uint32_t rows, uint32_t round, uint32_t first_column) const {
    const uint32_t row = __shfl_sync(0xffffffff, rows, (round * 4 + lane_row()) % 32);
    return ptx::load_stream_b32x4_if(row < p_.num_rows, static_cast<const uint16_t*>(p_.kv) + row * p_.kv_row +
                                                            first_column + lane_chunk() * 8);
  }
  // to: of the first of rows of a box, a multiple of eight.
  __device__ __forceinline__ void store_chunk(uint32_t to, uint32_t round, const uint4& chunk) const {
    const uint32_t first = to + attn_chunk_offset(mla_keys, lane_row(), lane_chunk());
    ptx::store_shared_b32x4((first ^ round % 2 * 64) + round * (4 * attn_row_bytes), chunk);
  }
  __device__ uint32_t own_box(uint32_t slot, uint32_t half) const { return mla_half_box(slot, half, warp_); }

  // A round of the half. Of a cluster's CTAs each loads half of the rows.
  __device__ __forceinline__ uint4 load_round(const Tile& tile, uint32_t slot, uint32_t half, uint32_t round) const {
    const uint32_t own = rank_ == 0 ? tile.rows[0] : tile.rows[1];
    return load_chunk(round < 8 ? own : tile.rows[1], round, own_box(slot, half) * attn_box_columns);
  }
  __device__ __forceinline__ void load_second(const Tile& tile, uint32_t slot) {
#pragma unroll
    for (uint32_t i = 0; i < rounds; ++i) data_[second + i] = load_round(tile, slot, 1, i);
  }
  // Of the first half, or of both, what data_ has from `begin` to `end`.
  template <uint32_t begin, uint32_t end>
  __device__ __forceinline__ void load_ahead(const Tile& tile, uint32_t slot) {
#pragma unroll
    for (uint32_t i = begin; i < end; ++i) data_[i] = load_round(tile, slot, i / rounds, i % rounds);
  }
  // All rows of rotary columns, which are not sent: weights take their place, while they might still be on their way.
  __device__ __forceinline__ void load_rotary(const Tile& tile) {
#pragma unroll
    for (uint32_t i = 0; i < rotary_rounds; ++i)
      data_[i] = load_chunk(warp_ < 2 ? tile.rows[0] : tile.rows[1], warp_ * rotary_rounds + i, mla_head_dim_v);
  }

  // Waits until the half is free, stores what was loaded of it, and says so; sends the other CTA its part. With the
  // second half comes which keys are there.
  template <uint32_t half>
  __device__ __forceinline__ void store(const Tile& tile, uint32_t slot) {
    const uint32_t box = smem_.box(slot, own_box(slot, half)) + rank_ * own_rows * attn_row_bytes;
    const uint32_t full = smem_.full(slot, half);
    while (!ptx::mbarrier_try_wait(smem_.empty(slot, half), (phases_ >> slot & 1) ^ 1)) {
    }
#pragma unroll
    for (uint32_t i = 0; i < rounds; ++i) store_chunk(box, i, data_[half * second + i]);
    if constexpr (half == 1) {
      const uint64_t low = __ballot_sync(0xffffffff, tile.rows[0] < p_.num_rows);
      const uint64_t high = __ballot_sync(0xffffffff, tile.rows[1] < p_.num_rows);
      if (threadIdx.x % 128 == 0) ptx::store_shared_u64(smem_.present(slot), high << 32 | low);
    }
    publish();
    if (!ptx::elect_one()) return;
    if constexpr (Cfg::cluster == 1) {
      ptx::mbarrier_arrive(full);
    } else {
      constexpr uint32_t bytes = own_rows * attn_row_bytes;
      ptx::mbarrier_arrive_expect_tx(full, bytes);
      ptx::bulk_copy_to_cluster(ptx::mapa(box, rank_ ^ 1), box, bytes, ptx::mapa(full, rank_ ^ 1));
    }
  }
  // Into the box that became free with the second half.
  __device__ __forceinline__ void store_rotary(uint32_t slot) const {
#pragma unroll
    for (uint32_t i = 0; i < rotary_rounds; ++i)
      store_chunk(smem_.box(slot, mla_boxes - 1) + warp_ * rotary_rows * attn_row_bytes, i, data_[i]);
    publish();
    if (ptx::elect_one()) ptx::mbarrier_arrive(smem_.full(slot, 2));
  }
  // The warp's ordinary stores, to products and bulk copies. It may wait for loads that are on their way.
  __device__ __forceinline__ void publish() const {
    ptx::fence_proxy_async();
    __syncwarp();
  }

  const Params& p_;
  const Smem<Cfg>& smem_;
  Ring<1> ring_;
  const uint32_t warp_, rank_;  // of the four; of the cluster's CTAs
  uint32_t phases_ = 0;         // a bit for each slot
  uint32_t lane_ = threadIdx.x % 32;
  uint4 data_[chunks];  // what will be stored next
};

// All rows see the same keys: those that are there.
template <class Cfg>
struct Mask {
  static constexpr bool may_cut_tiles = false;

  const Smem<Cfg>& smem;

  __device__ __forceinline__ void apply(float (&s)[mla_keys / 2], uint32_t, int32_t, uint32_t slot) const {
    mask_absent(s, ptx::load_shared_u64(smem.present(slot)));
  }
};

// The largest logit, in the units of lse.
__device__ __forceinline__ void store_max_logit(const Params& p, uint32_t token, uint32_t head, float most) {
  constexpr float ln2 = 0.6931471805599453f;
  ptx::store_f32(p.max_logits + token * p.lse_token + head * p.lse_head,
                 (p.lse_form & attn_lse_base2) != 0 ? most : most * ln2);
}

template <class Cfg>
__device__ __forceinline__ void finish(const Params& p, const Smem<Cfg>& smem, const MlaRows& rows, uint32_t warpgroup,
                                       uint32_t index) {
  float sum[2], scale[2] = {};
  uint16_t* o[2] = {};
  mla_add_sums(smem, rows, warpgroup, index, sum);
  Item item;
  item.load(smem.segment(index));
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row = rows.row + i * 8, head = item.first_head + row;
    if (row >= item.heads) continue;
    const bool stores = warpgroup == 0 && threadIdx.x % 4 == 0;
    const float most = rows.softmax.max[i] * p.scale_log2;
    scale[i] = close_row(p, item.token, head, sum[i], most, stores);
    o[i] = static_cast<uint16_t*>(p.o) + item.token * p.o_token + head * p.o_head;
    if (stores && p.max_logits != nullptr) store_max_logit(p, item.token, head, most);
  }
  store_rows<Cfg::dtype>(rows.o, o, scale, warpgroup * MlaRows::columns, mla_head_dim_v);
}

// Both math warpgroups.
template <class Cfg>
__device__ __forceinline__ void compute(const Params& p, const Smem<Cfg>& smem, uint32_t warpgroup) {
  for_mla_items<Item>(smem, [&](const Item& item, MlaRows& rows, uint32_t& phase, uint32_t index) {
    MlaMath<Cfg, Smem<Cfg>, Mask<Cfg>>(smem, p.scale_log2, warpgroup, phase, rows)
        .run(0, static_cast<int32_t>(item.tiles), has_mla_rows(rows, item.heads), Mask<Cfg>{smem});
    finish<Cfg>(p, smem, rows, warpgroup, index);
  });
}

// All threads: barriers are there, or nobody reaches for this CTA's shared memory any more.
template <class Cfg>
__device__ __forceinline__ void synchronize() {
  if constexpr (Cfg::cluster == 1) {
    __syncthreads();
  } else {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}

// Cfg: block_m, block_n, head_dim_qk, head_dim_v, cluster, dtype, q_bytes (2).
template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_m == mla_rows && Cfg::block_n == mla_keys, "tiles are 64 heads and 64 keys");
  static_assert(Cfg::head_dim_qk == 576 || Cfg::head_dim_qk == 512, "latent rows of DeepSeek-V3.2 and of V4");
  static_assert(Cfg::head_dim_v == mla_head_dim_v, "values are the first 512 columns of a row");
  static_assert(Cfg::cluster == 1 || Cfg::cluster == 2, "a CTA sends its rows to one other");
  const Smem<Cfg> smem{ptx::dynamic_shared_address()};
  if (threadIdx.x == 0) {
    smem.init_barriers();
    ptx::fence_mbarrier_init();
  }
  synchronize<Cfg>();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const uint32_t warp = ptx::redux_max_u32(threadIdx.x / 32);
  if (warp >= mla_math_threads / 32) {
    ptx::setmaxnreg_dec<88>();
    Loader<Cfg>(p, smem, warp - mla_math_threads / 32).run();
  } else {
    ptx::setmaxnreg_inc<208>();
    compute<Cfg>(p, smem, warp / 4);
  }
  if constexpr (Cfg::cluster > 1) synchronize<Cfg>();
}

}  // namespace dgrt::sm90::mla_sparse_prefill
#endif
