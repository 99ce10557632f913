// SM90 mla_sparse_prefill: attention in a latent space in which every query token has a list of its own of the keys
// that it sees; a row of kv is key and value of all heads.
//   s = scale q kv[indices]^T; o = softmax(s) kv[indices], the first 512 columns; the sink is one more key without value
//
// Items     A token's heads, 64 at a time. CTAs take them in turn, neighbours the tiles of one token.
// Roles     warpgroups 0 and 1: math (mla_math.cuh). Warpgroup 2 gathers keys row by row, 16 rows of a tile to a warp;
//           one of its threads loads queries by TMA and says what the item is.
// Pipeline  Two tiles of keys, each in two halves that become free and are loaded again by themselves. The next item's
//           queries and keys come while the math still works on this one.
// Keys      Entries that name no row of kv, and those past a list's length, read nothing: their rows in shared memory
//           are zeros, so that weights of 0 make 0 of them; 64 bits a tile say which they are.
// Source    The roles, and rows gathered by predicated copies with zero fill, are DeepSeek's (deepseek-ai/FlashMLA:
//           csrc/sm90/prefill/sparse); that CTAs go on to further items is ours.
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
#include "device/ptx/copy_async.cuh"
#include "device/ptx/grid.cuh"
#include "device/ptx/memory.cuh"
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

// Boxes of a half of a slot come together, of each loading warp its 16 rows.
struct Smem : MlaSmem {
  // A bit for each key of the tile in the slot that is there: eight bytes.
  __device__ uint32_t present(uint32_t slot) const { return scratch() + slot * 8; }
  __device__ uint32_t full(uint32_t slot, uint32_t half) const { return MlaSmem::full(slot, half); }

  // index: of the box in the order of its slot's loads.
  __device__ __forceinline__ void wait_box(uint32_t slot, uint32_t, uint32_t index, uint32_t phase) const {
    if (index != 0 && index != mla_half_boxes) return;
    while (!ptx::mbarrier_try_wait(full(slot, index / mla_half_boxes), phase)) {
    }
  }

  // One thread.
  __device__ void init_barriers() const {
    q_ring().init(mla_math_threads / 32);
    for (uint32_t slot = 0; slot < mla_slots; ++slot)
      for (uint32_t half = 0; half < 2; ++half) {
        ptx::mbarrier_init(full(slot, half), 4);
        ptx::mbarrier_init(empty(slot, half), 4);
      }
  }
};

// The loading warpgroup.
template <class Cfg>
class Loader {
 public:
  __device__ Loader(const Params& p, const Smem& smem, uint32_t warp)
      : p_(p), smem_(smem), ring_(smem.q_ring()), warp_(warp) {}

  __device__ __forceinline__ void run() {
    List list = list_of(blockIdx.x);
    uint32_t entry = entry_of(list, 0);
    uint32_t index = 0;
#pragma unroll 1
    for (uint32_t item = blockIdx.x; item < p_.num_items; item += gridDim.x, ++index) {
      const List next = list_of(item + gridDim.x);
      const uint32_t tiles = max(ceil_div(list.length, mla_keys), 1);
      if (warp_ == 0) begin_item(index, item, tiles);
#pragma unroll 1
      for (uint32_t tile = 0; tile < tiles; ++tile) {
        const bool is_last = tile + 1 == tiles;
        gather(tile % mla_slots, entry, [&] { entry = entry_of(is_last ? next : list, is_last ? 0 : tile + 1); });
      }
      list = next;
    }
    announce<0>();
    if (warp_ == 0) begin_item(index, 0, 0);
  }

 private:
  // What a token sees.
  struct List {
    const int32_t* entries;
    uint32_t length;
  };

  __device__ __forceinline__ List list_of(uint32_t item) const {
    if (item >= p_.num_items) return {p_.indices, 0};
    const uint32_t token = item / p_.head_tiles;
    const int32_t most = static_cast<int32_t>(p_.top_k);
    const int32_t length = p_.lengths == nullptr ? most : min(max(p_.lengths[token], 0), most);
    return {p_.indices + token * p_.indices_row, static_cast<uint32_t>(length)};
  }

  // A lane has one of its warp's 16 rows; two lanes have the same.
  __device__ __forceinline__ uint32_t entry_of(const List& list, uint32_t tile) const {
    const uint32_t at = tile * mla_keys + warp_ * 16 + threadIdx.x % 16;
    return ptx::load_b32_if(at < list.length, list.entries + at, ~0u);
  }

  __device__ __forceinline__ void begin_item(uint32_t index, uint32_t item, uint32_t tiles) {
    if (!__all_sync(0xffffffff, ring_.is_empty())) announce<0>();  // what the item before waits for
    ring_.wait_empty();
    if (ptx::elect_one()) {
      const uint32_t token = item / p_.head_tiles, first_head = (item - token * p_.head_tiles) * mla_rows;
      Item{token, first_head, min(p_.num_heads - first_head, mla_rows), tiles}.store(smem_.segment(index));
      if (tiles == 0) {
        ptx::mbarrier_arrive(ring_.full());
      } else {
        constexpr uint32_t boxes = attn_boxes(Cfg::head_dim_qk);
        ptx::mbarrier_arrive_expect_tx(ring_.full(), boxes * mla_box_bytes);
#pragma unroll 1
        for (uint32_t box = 0; box < boxes; ++box)
          ptx::tma_load_3d(smem_.q() + box * mla_box_bytes, &p_.q, ring_.full(), box * attn_box_columns, first_head, token);
      }
    }
    __syncwarp();
    ring_.advance();
  }

  // Says that the half that is on its way is there; `in_flight` later ones may not be. The copies were ordinary
  // writes, and products read them.
  template <uint32_t in_flight>
  __device__ __forceinline__ void announce() {
    if (pending_ == none) return;
    ptx::copy_async_wait<in_flight>();
    ptx::fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(smem_.full(pending_ / 2, pending_ % 2));
    pending_ = none;
  }

  // The half may wait for what is on its way.
  __device__ __forceinline__ void wait_empty(uint32_t slot, uint32_t half) {
    const uint32_t barrier = smem_.empty(slot, half), phase = (phases_ >> slot & 1) ^ 1;
    if (__all_sync(0xffffffff, ptx::mbarrier_test_wait(barrier, phase))) return;
    announce<0>();
    while (!ptx::mbarrier_try_wait(barrier, phase)) {
    }
  }

  // Eight lanes copy a row's 128 bytes of a box, a warp four rows at a time. With the second half come rotary columns,
  // and which keys are there. read_ahead() loads the next tile's entries: behind the shuffles of this tile's, since
  // both loads have one scoreboard, and who waits for the older one waits for both; a loop over halves would wait too.
  template <class ReadAhead>
  __device__ __forceinline__ void gather(uint32_t slot, uint32_t row, const ReadAhead& read_ahead) {
    constexpr bool rotary = Cfg::head_dim_qk > mla_head_dim_v;
    constexpr uint32_t rounds = 4;
    const uint32_t lane = threadIdx.x % 32, in_round = lane / 8, chunk = lane % 8;
    const uint32_t there = __ballot_sync(0xffffffff, row < p_.num_rows);
    const uint16_t* from[rounds];
    uint32_t bytes[rounds], at[rounds];
#pragma unroll
    for (uint32_t i = 0; i < rounds; ++i) {
      const uint32_t in_warp = i * 4 + in_round;
      at[i] = attn_chunk_offset(mla_keys, warp_ * 16 + in_warp, chunk);
      const uint32_t index = __shfl_sync(0xffffffff, row, in_warp);
      bytes[i] = (there >> in_warp & 1) * 16;
      from[i] = static_cast<const uint16_t*>(p_.kv) + (bytes[i] != 0 ? index * p_.kv_row : 0) + chunk * 8;
    }
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t first_box = mla_half_box(slot, half, 0), to = smem_.box(slot, first_box);
      wait_empty(slot, half);
#pragma unroll
      for (uint32_t i = 0; i < rounds; ++i)
#pragma unroll
        for (uint32_t box = 0; box < mla_half_boxes; ++box)
          ptx::copy_async_b128(to + box * mla_box_bytes + at[i], from[i] + (first_box + box) * attn_box_columns, bytes[i]);
      if (rotary && half == 1)
#pragma unroll
        for (uint32_t i = 0; i < rounds; ++i)
          ptx::copy_async_b128(smem_.box(slot, mla_boxes - 1) + at[i], from[i] + mla_head_dim_v, bytes[i]);
      if (half == 1 && lane == 0)
        ptx::store_shared_u16(smem_.present(slot) + warp_ * 2, static_cast<uint16_t>(there));
      ptx::copy_async_commit();
      announce<1>();
      pending_ = slot * 2 + half;
      if (half == 0) read_ahead();
    }
    phases_ ^= 1u << slot;
  }

  static constexpr uint32_t none = 4;

  const Params& p_;
  const Smem& smem_;
  Ring<1> ring_;
  const uint32_t warp_;      // of the four
  uint32_t phases_ = 0;      // a bit for each slot
  uint32_t pending_ = none;  // 2 * slot + half that is being gathered
};

// All rows see the same keys: those that are there.
struct Mask {
  static constexpr bool may_cut_tiles = false;

  const Smem& smem;

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
__device__ __forceinline__ void finish(const Params& p, const Smem& smem, const MlaRows& rows, uint32_t warpgroup,
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
  float values[MlaOutput::count];
  MlaOutput::read(values);
  store_rows<Cfg::dtype>(values, o, scale, warpgroup * MlaRows::columns, mla_head_dim_v);
}

constexpr uint32_t math_registers = 224;  // of a thread

// Both math warpgroups.
template <class Cfg>
__device__ __forceinline__ void compute(const Params& p, const Smem& smem, uint32_t warpgroup) {
  for_mla_items<Item>(smem, [&](const Item& item, MlaRows& rows, uint32_t& phase, uint32_t index) {
    // With fewer copies the assembler loses sight of what is the same in all of a warp.
    MlaMath<Cfg, Smem, Mask, math_registers, mla_keys / 16>(smem, p.scale_log2, warpgroup, phase, rows)
        .run(0, static_cast<int32_t>(item.tiles), has_mla_rows(rows, item.heads), Mask{smem});
    finish<Cfg>(p, smem, rows, warpgroup, index);
  });
}

// Cfg: block_m, block_n, head_dim_qk, head_dim_v, dtype, q_bytes (2).
template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_m == mla_rows && Cfg::block_n == mla_keys, "tiles are 64 heads and 64 keys");
  static_assert(Cfg::head_dim_qk == 576 || Cfg::head_dim_qk == 512, "latent rows of DeepSeek-V3.2 and of V4");
  static_assert(Cfg::head_dim_v == mla_head_dim_v, "values are the first 512 columns of a row");
  declare_mla_products();
  const Smem smem{ptx::dynamic_shared_address()};
  if (threadIdx.x == 0) {
    smem.init_barriers();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
  const uint32_t warp = ptx::redux_max_u32(threadIdx.x / 32);
  if (warp >= mla_math_threads / 32) {
    ptx::setmaxnreg_dec<56>();
    Loader<Cfg>(p, smem, warp - mla_math_threads / 32).run();
  } else {
    ptx::setmaxnreg_inc<math_registers>();
    compute<Cfg>(p, smem, warp / 4);
  }
}

}  // namespace dgrt::sm90::mla_sparse_prefill
#endif
